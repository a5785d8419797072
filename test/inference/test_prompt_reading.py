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

"""Prompts that go on after a known beginning: answers and states are those of a prompt read at once, bit by bit."""
import functools

import pytest
import tiny_models
import torch

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.inference import prefix_check
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prefix_store import PrefixStore
from timebill_ros.inference.prompt_reading import read_ahead, read_prompt
from timebill_ros.inference.turns_watch import TurnsWatch
from timebill_ros.request import Request

OUR_CACHE = [*tiny_models.EVICTABLE, *tiny_models.SLIDING_ONLY]
CHUNK, N_NEW = 64, 12
COMMON = tiny_models.prompt_ids(150)
PROMPTS = [COMMON + tiny_models.prompt_ids(n, seed) for n, seed in ((40, 1), (97, 2), (33, 3), (1, 4))]


@functools.cache
def load(kind):
    model = CausalLM(str(tiny_models.directory(kind)), device='cpu', threads=1, dtype='float32')
    way, _ = prefix_check.choose_way(model, CHUNK)
    prefix_check.use_way(model, way)
    model.unit = prefix_check.unit_of(way, CHUNK)
    return model


@pytest.fixture
def model(request):
    made = load(request.param)
    made.prefixes = PrefixStore(made.cache, made.unit, 1024 // made.unit)
    yield made
    made.prefixes = None


def answer(model, logits, n_x, n_keep=0):
    """Evict, and decode greedily: (tokens, states that the last step saw)."""
    if n_keep and model.supports_eviction:
        model.evict(n_keep)
    tokens = [int(logits.argmax())]
    for i in range(N_NEW):
        tokens.append(int(model.step(torch.tensor(tokens[-1]), n_x + i).argmax()))
    return tokens, model.snapshot()


def assert_same(one, other):
    (tokens, states), (expected, expected_states) = one, other
    assert tokens == expected
    for ours, theirs in zip(states.states, expected_states.states, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize('model', OUR_CACHE, indirect=True)
@pytest.mark.parametrize('n_keep', [0, 50], ids=lambda n: f'keep_{n}')
def test_a_prompt_that_goes_on_answers_with_the_bits_of_one_read_at_once(model, n_keep):
    """A, B, A, ... with a common beginning; entries are evicted and generated in between."""
    for ids in [*PROMPTS, *PROMPTS, PROMPTS[0][:-1], PROMPTS[1] + PROMPTS[0]]:
        store, model.prefixes = model.prefixes, None
        logits, known = read_prompt(model, ids, chunk_tokens=CHUNK)
        assert known == 0
        at_once = logits.clone()
        expected = answer(model, logits, len(ids), n_keep)
        model.prefixes = store
        likely = store.known(ids)
        logits, known = read_prompt(model, ids, chunk_tokens=CHUNK)
        assert torch.equal(logits, at_once) and known == likely
        assert_same(answer(model, logits, len(ids), n_keep), expected)
        model.check()
    border = (len(COMMON) // model.unit) * model.unit
    assert store.known(COMMON + tiny_models.prompt_ids(90, 9)) == border > 0


@pytest.mark.parametrize('model', ['qwen2'], indirect=True)
def test_a_prompt_that_was_stopped_is_not_kept(model):
    looks = []
    logits, known = read_prompt(model, PROMPTS[0], chunk_tokens=CHUNK,
                                should_stop=lambda: looks.append(0) or len(looks) > 5)
    assert logits is None and known == 0 and model.prefixes.held(PROMPTS[0]) == 0


@pytest.mark.parametrize('model', ['qwen2'], indirect=True)
@pytest.mark.parametrize('ahead', [False, True])
def test_what_came_to_nothing_is_not_gone_on_with(model, ahead):
    """The model computes NaN once."""
    weights = model.model.get_input_embeddings().weight
    asked, ids = request(), tiny_models.prompt_ids(200, 7)
    number = weights[ids[150], 0].item()
    with torch.no_grad():
        weights[ids[150], 0] = float('nan')
        if ahead:
            assert read_ahead(model, asked, chunk_tokens=CHUNK) == (200, ids.index(ids[150]) // CHUNK * CHUNK)
        else:
            assert not read_prompt(model, ids, chunk_tokens=CHUNK)[0].isfinite().any()
            assert model.prefixes.held(ids) == 0
        weights[ids[150], 0] = number
    logits, _ = read_prompt(model, ids, chunk_tokens=CHUNK)
    assert logits.isfinite().all() and model.prefixes.held(ids) == 200 // model.unit * model.unit
    model.check()


def request(n=200, **fields):
    return Request('p', 0.0, 1e9, **(fields or {'prompt': ' '.join(f'w{i}' for i in tiny_models.prompt_ids(n, 7))}))


@pytest.mark.parametrize('model', ['qwen2'], indirect=True)
def test_a_prompt_is_read_ahead(model):
    ids = tiny_models.prompt_ids(200, 7)
    n_x, ready = read_ahead(model, request(), chunk_tokens=CHUNK)
    assert (n_x, ready) == (200, 200 // model.unit * model.unit) and model.prefixes.held(ids) == ready
    assert model.cache.lengths == [0, 0, 0]
    logits, known = read_prompt(model, ids, chunk_tokens=CHUNK)
    assert known == (200 - 32) // model.unit * model.unit
    model.prefixes.clear()
    assert torch.equal(read_prompt(model, ids, chunk_tokens=CHUNK)[0], logits)


@pytest.mark.parametrize('model', ['qwen2'], indirect=True)
def test_of_a_prompt_that_is_stopped_while_it_is_read_ahead_the_whole_chunks_stay(model):
    looks = []
    n_x, ready = read_ahead(model, request(), chunk_tokens=CHUNK, should_stop=lambda: looks.append(0) or len(looks) > 8)
    assert n_x == 200 and 0 < ready < 192 and ready % CHUNK == 0
    assert read_ahead(model, request(), chunk_tokens=CHUNK)[1] == 200 // model.unit * model.unit


@pytest.mark.parametrize('model', ['qwen2'], indirect=True)
def test_what_cannot_be_read_ahead(model):
    with pytest.raises(GoalError) as caught:
        read_ahead(model, request(prompt='w9 ' * 600), chunk_tokens=CHUNK)
    assert caught.value.code is ErrorCode.PROMPT_TOO_LONG
    model.prefixes = None
    with pytest.raises(GoalError, match='prefix_cache_mib') as caught:
        read_ahead(model, request(), chunk_tokens=CHUNK)
    assert caught.value.code is ErrorCode.INVALID_GOAL


@pytest.mark.parametrize('model', ['qwen2'], indirect=True)
def test_a_conversation_that_goes_on_is_watched(model):
    seen = []
    model.prefixes.turns = TurnsWatch(model.tokenizer)
    model.prefixes.turns.observe = lambda *told: seen.append(told)
    read_prompt(model, PROMPTS[0], chunk_tokens=CHUNK, messages=['messages'])
    assert seen == [(['messages'], PROMPTS[0], 0)]
