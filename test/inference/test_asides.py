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

"""Sequences that are put aside come back with every bit, from a model of real architecture."""
import functools

import pytest
import tiny_models
import torch

from timebill_ros.inference.asides import MOST, Asides, NoRoomError
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prefix_store import PrefixStore

UNIT, BLOCKS = 16, 64


@functools.cache
def load(kind):
    return CausalLM(str(tiny_models.directory(kind)), device='cpu', threads=1, other_variants='int8')


@pytest.fixture(params=['qwen2', 'gemma3'])
def model(request):
    model = load(request.param)
    model.prefixes = PrefixStore(model.cache, UNIT, BLOCKS)
    model.asides = Asides(model)
    model.use_variant(model.variant)
    model.reset()
    yield model
    model.prefixes = model.asides = None


def everything(model):
    states = [tensor.clone() for layer in model.cache.layers for tensor in layer.filled()]
    beside = model.snapshot(states=False)
    return states, beside.n_prompt, {i: queries.clone() for i, queries in beside.queries.items()}, model.in_use


def same(one, other):
    return one[1] == other[1] and one[3] == other[3] and all(
        torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True)) and all(
        torch.equal(queries, other[2][i]) for i, queries in one[2].items())


@pytest.mark.parametrize('evicts', [False, True])
def test_a_sequence_comes_back_with_all_that_belongs_to_it(model, evicts):
    model.prefill(tiny_models.prompt_ids(70), chunk_tokens=32)
    if evicts:
        model.evict(20)
    model.use_variant('int8')
    for i in range(5):
        model.step(torch.tensor(9 + i), 70 + i)
    before = everything(model)
    aside = model.asides.put()
    model.reset()
    model.use_variant(model.variant)
    model.prefill(tiny_models.prompt_ids(100, 1), chunk_tokens=32)
    model.prefixes.put(tiny_models.prompt_ids(100, 1))
    model.asides.take_up(aside)
    model.asides.let_go(aside)
    assert same(everything(model), before)
    model.check()


def test_several_come_back_in_any_order_and_their_places_are_free_again(model):
    kept = []
    for seed in range(MOST):
        model.reset()
        model.prefill(tiny_models.prompt_ids(20 + seed, seed), chunk_tokens=32)
        kept.append((everything(model), model.asides.put()))
    with pytest.raises(NoRoomError, match=f'{MOST} goals'):
        model.asides.put()
    room = model.asides.room
    for before, aside in kept[::2] + kept[1::2]:
        model.asides.take_up(aside)
        model.asides.let_go(aside)
        assert same(everything(model), before)
    model.check()
    assert model.asides.room == UNIT * BLOCKS > room


def test_prompts_go_for_it_and_what_is_pinned_stays(model):
    model.prefill(ids := tiny_models.prompt_ids(200), chunk_tokens=32)
    model.prefixes.put(ids, pin=True)
    pinned = model.prefixes.held(ids)
    for seed in range(1, 5):
        model.reset()
        model.prefill(other := tiny_models.prompt_ids(200, seed), chunk_tokens=32)
        model.prefixes.put(other)
    aside = [model.asides.put() for _ in range(4)]
    assert model.prefixes.held(ids) == pinned and model.prefixes.held(tiny_models.prompt_ids(200, 1)) == 0
    with pytest.raises(NoRoomError, match='200 cached entries'):
        model.asides.put()
    model.check()
    model.prefixes.clear()
    model.check()
    for one in aside:
        model.asides.let_go(one)
    model.check()
    assert model.asides.room == UNIT * BLOCKS
