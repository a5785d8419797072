# Copyright 2026 timebill_ros authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Entries that were evicted come back from the store of prompts: with every bit, behind what was generated since."""
import functools

import pytest
import tiny_models
import torch

from timebill_ros.inference.asides import Asides
from timebill_ros.inference.eviction import SCORERS
from timebill_ros.inference.evictions import Evictions
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prefix_store import PrefixStore

N_X, UNIT, BLOCKS = 100, 16, 24
IDS = tiny_models.prompt_ids(N_X)


@functools.cache
def load(kind, scorer='snapkv'):
    return CausalLM(str(tiny_models.directory(kind)), device='cpu', threads=1, scorer=scorer)


@pytest.fixture(params=['qwen2', 'gemma3'])
def model(request):
    model = load(request.param)
    model.prefixes = PrefixStore(model.cache, UNIT, BLOCKS)
    model.asides = Asides(model)
    yield model
    assert not model.prefixes._holds and not model.prefixes._lent
    model.check()
    model.prefixes = model.asides = None


def read(model, ids=IDS):
    model.reset()
    logits = model.prefill(ids, chunk_tokens=37).clone()
    if model.prefixes is not None:
        model.prefixes.put(ids)
    return logits


def states(model):
    return [tensor.clone() for layer in model.cache.layers for tensor in layer.filled()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def answer(model, logits, n, position=N_X):
    tokens = [int(logits.argmax())]
    for i in range(n):
        tokens.append(int(model.step(torch.tensor(tokens[-1]), position + i).argmax()))
    return tokens


@pytest.mark.parametrize('n_x', [N_X, 96, 15, 33])  # a last block that is full, and prompts with none
def test_with_nothing_generated_meanwhile_the_cache_and_the_answer_are_the_unhurried_ones(model, n_x):
    ids = IDS[:n_x]
    whole = answer(model, read(model, ids), 8, n_x)
    logits = read(model, ids)
    expected = states(model)
    with Evictions(model, ids, reversible=True) as evictions:
        evictions.evict(n_x // 2)
        assert evictions.most == n_x
        assert {model.cache.layers[i].length for i in model.cache.evictable_layers()} == {n_x // 2}
        model.check()
        evictions.bring_back(n_x)
        assert same(states(model), expected)
        assert answer(model, logits, 8, n_x) == whole
        model.check()


@pytest.mark.parametrize('kind', tiny_models.EVICTABLE)
@pytest.mark.parametrize('scorer', SCORERS)
def test_a_part_that_comes_back_is_what_an_eviction_of_the_whole_prompt_keeps(kind, scorer):
    """By random scores too, though these are others each time; and entries that were kept before are among them."""
    model = load(kind, scorer)
    model.prefixes = PrefixStore(model.cache, UNIT, BLOCKS)
    read(model)
    before = [states.clone() for states in (layer.keys for layer in model.cache.layers)]
    with Evictions(model, IDS, reversible=True) as evictions:
        evictions.evict(70)
        kept, scores = states(model), [each.clone() for each in evictions._held.scores]
        evictions.evict(66)
        evictions.bring_back(70)
        assert same(states(model), kept)
        evictions.bring_back(85)
        for index, own in zip(model.cache.evictable_layers(), scores, strict=True):
            for head, best in enumerate(own[0].topk(85).indices.sort().values):
                assert torch.equal(model.cache.layers[index].keys[0, head, :85], before[index][0, head, best])
    if scorer != 'random':
        back = states(model)
        read(model)
        model.evict(85)
        assert same(states(model), back)
    model.prefixes = None


def test_what_was_generated_meanwhile_stays_as_it_is_behind_the_entries(model):
    logits = read(model)
    whole = states(model)
    with Evictions(model, IDS, reversible=True) as evictions:
        evictions.evict(60)
        answer(model, logits, 5)
        evictions.evict(40)  # and again while decoding
        answer(model, logits, 4, N_X + 5)
        behind = {i: [tensor[:, :, 40:].clone() for tensor in model.cache.layers[i].filled()]
                  for i in model.cache.evictable_layers()}
        for n_keep in (55, N_X):
            evictions.bring_back(n_keep)
            model.check()
            for index, generated in behind.items():
                layer = model.cache.layers[index]
                assert layer.length == n_keep + 9
                assert same([tensor[:, :, n_keep:] for tensor in layer.filled()], generated)
        for index, layer in enumerate(model.cache.layers):
            assert same([tensor[:, :, :N_X] for tensor in layer.filled()], whole[2 * index:2 * index + 2])
        answer(model, logits, 3, N_X + 9)
        evictions.evict(50)
        assert {model.cache.layers[i].length for i in behind} == {50 + 12}


def test_where_entries_came_back_steps_give_what_the_modules_give_for_that_cache(model):
    """The logits are those of a whole cache whose generated entries are what the evicted one has made of them."""
    logits = read(model)
    with Evictions(model, IDS, reversible=True) as evictions:
        evictions.evict(50)
        tokens = answer(model, logits, 4)
        evictions.bring_back(N_X)
        snapshot = model.snapshot()
        after = answer(model, logits, 4, N_X + 4)
        model.reset()
        model.restore(snapshot)
        assert answer(model, logits, 4, N_X + 4) == after and tokens


def test_without_a_store_and_where_nobody_asks_for_it_eviction_stays_what_it_was(model):
    read(model)
    with Evictions(model, IDS) as evictions:
        evictions.evict(50)
        assert evictions.most == 0
    plain, store = states(model), model.prefixes
    model.prefixes = None
    read(model)
    with Evictions(model, IDS, reversible=True) as evictions:
        evictions.evict(50)
        assert evictions.most == 0 and same(states(model), plain)
    model.prefixes = store


def test_nothing_is_held_before_the_first_eviction_nor_where_there_is_no_room(model):
    model.prefixes = PrefixStore(model.cache, UNIT, N_X // UNIT)  # for all but the last 4 tokens
    read(model)
    with Evictions(model, IDS, reversible=True) as evictions:
        assert not model.prefixes._holds
        evictions.evict(50)
        assert evictions.most == 0 and not model.prefixes._holds
        assert {model.cache.layers[i].length for i in model.cache.evictable_layers()} == {50}


def test_prompts_of_others_do_not_take_the_place_of_one_that_is_held(model):
    read(model)
    expected = states(model)
    with Evictions(model, IDS, reversible=True) as evictions:
        evictions.evict(50)
        aside = model.asides.put()
        for seed in range(1, 9):
            read(model, tiny_models.prompt_ids(200, seed))
            model.check()
        model.asides.take_up(aside)
        model.asides.let_go(aside)
        evictions.bring_back(N_X)
        assert same(states(model), expected)


def test_a_sequence_that_gives_way_takes_its_place_where_there_is_no_other(model):
    """What is evicted then stays gone, and nobody is canceled for it."""
    read(model)
    with Evictions(model, IDS, reversible=True) as evictions:
        evictions.evict(50)
        room = model.asides.room
        assert room == UNIT * BLOCKS
        read(model, tiny_models.prompt_ids(room - UNIT, 1))
        assert evictions.most == N_X
        aside = model.asides.put()
        assert evictions.most == 0
        model.check()
        model.asides.let_go(aside)


def test_a_store_that_is_cleared_holds_nothing(model):
    read(model)
    with Evictions(model, IDS, reversible=True) as evictions:
        evictions.evict(50)
        model.prefixes.check()
        model.prefixes.clear()
        assert evictions.most == 0
        model.check()


def test_a_prompt_that_is_pinned_or_shared_stays_after_its_goal(model):
    read(model)
    model.prefixes.put(IDS[:48], pin=True)
    with Evictions(model, IDS, reversible=True) as one, Evictions(model, IDS, reversible=True) as other:
        one.evict(90)
        read(model)
        other.evict(80)
        assert len(model.prefixes._holds) == 2 and model.prefixes.held(IDS) == 96
        model.check()
    assert model.prefixes.held(IDS) == 96
