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

"""Running a model: the same answers as transformers' generation, in any chunks, and stopping between them."""
import functools

import pytest
import tiny_models
import torch

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.request import Request

N_X, N_NEW = 100, 20
OUR_CACHE = [*tiny_models.EVICTABLE, *tiny_models.SLIDING_ONLY]


@functools.cache
def load(kind, dtype='float32'):
    return CausalLM(str(tiny_models.directory(kind)), device='cpu', threads=1, dtype=dtype)


@functools.cache
def reference(kind):
    return tiny_models.generate(kind, tiny_models.prompt_ids(N_X), N_NEW)


def greedy(model, ids, n, chunk_tokens):
    model.reset()
    logits, tokens = model.prefill(ids, chunk_tokens=chunk_tokens), []
    while True:
        tokens.append(int(logits.argmax()))
        if len(tokens) == n or tokens[-1] in model.eos_ids:
            return tokens
        logits = model.step(torch.tensor(tokens[-1]), len(ids) + len(tokens) - 1)


def count_forwards(model, action):
    calls = []
    hook = model.model.register_forward_pre_hook(lambda *args: calls.append(1))
    try:
        return action(), len(calls)
    finally:
        hook.remove()


# -- the same answers as transformers --------------------------------------------------------------------------------

@pytest.mark.parametrize('kind', tiny_models.KINDS)
@pytest.mark.parametrize('chunk_tokens', [1000, N_X, 99, 37, 23, 1], ids=lambda n: f'chunks_of_{n}')
def test_without_eviction_the_answer_is_that_of_generate(kind, chunk_tokens):
    assert greedy(load(kind), tiny_models.prompt_ids(N_X), N_NEW, chunk_tokens) == reference(kind)
    assert len(set(reference(kind))) > 4, 'an answer that could not tell right from wrong'


@pytest.mark.parametrize('kind', tiny_models.EVICTABLE)
def test_keeping_every_entry_changes_nothing(kind):
    model, ids = load(kind), tiny_models.prompt_ids(N_X)
    model.reset()
    logits = model.prefill(ids, chunk_tokens=37)
    model.evict(N_X)
    tokens = []
    for i in range(N_NEW):
        tokens.append(int(logits.argmax()))
        logits = model.step(torch.tensor(tokens[-1]), N_X + i)
    assert tokens[:len(reference(kind))] == reference(kind)


@pytest.mark.parametrize('kind', tiny_models.EVICTABLE)
@pytest.mark.parametrize('n_keep', [N_X, 40, 3])
def test_after_a_restore_the_answer_is_that_after_a_prefill(kind, n_keep):
    def answer(logits):
        model.evict(n_keep)
        tokens = [int(logits.argmax())]
        for i in range(N_NEW):
            tokens.append(int(model.step(torch.tensor(tokens[-1]), N_X + i).argmax()))
        return tokens

    model, ids = load(kind), tiny_models.prompt_ids(N_X)
    model.reset()
    logits = model.prefill(ids, chunk_tokens=37)
    snapshot = model.snapshot()
    first = answer(logits)
    for other in (None, tiny_models.prompt_ids(150, seed=1), tiny_models.prompt_ids(20, seed=2)):
        if other:
            model.reset()
            model.prefill(other, chunk_tokens=64)
        model.restore(snapshot)
        assert answer(logits) == first


@pytest.mark.parametrize('kind', tiny_models.REFUSED)
def test_a_model_on_its_own_cache_has_no_snapshots(kind):
    with pytest.raises(ModelError, match=tiny_models.REFUSED[kind][2]):
        load(kind).snapshot()


@pytest.mark.parametrize('kind', ['qwen2', 'llama', 'qwen2_sliding', 'gpt_oss', 'falcon_h1'])
@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision_runs_near_full_precision(kind, dtype):
    model, ids = load(kind, dtype), tiny_models.prompt_ids(N_X)
    assert model.variant == dtype
    full, half = load(kind), model
    for each in (full, half):
        each.reset()
    pairs = [[each.prefill(ids, chunk_tokens=37).float() for each in (full, half)]]
    if half.supports_eviction:  # nothing is evicted, so that both keep the same
        half.evict(N_X)
        assert half.cache.layers[1].keys.dtype == getattr(torch, dtype)
    pairs.append([each.step(torch.tensor(7), N_X).float() for each in (full, half)])
    for expected, logits in pairs:
        assert logits.isfinite().all()
        assert (logits - expected).norm() < (0.15 if dtype == 'bfloat16' else 0.02) * expected.norm()


def test_a_sequence_knows_nothing_of_the_one_before():
    model = load('qwen2')
    greedy(model, tiny_models.prompt_ids(200, seed=5), 8, 64)
    model.evict(20)
    assert greedy(model, tiny_models.prompt_ids(N_X), N_NEW, 64) == reference('qwen2')
    model.reset()
    model.prefill(tiny_models.prompt_ids(3), chunk_tokens=64)
    assert {recorder.queries.shape[2] for recorder in model._recorders.values()} == {3}


@pytest.mark.parametrize('kind', OUR_CACHE)
def test_the_cache_stays_where_it_was_allocated(kind):
    model = load(kind)
    def where():
        return [(layer.keys.data_ptr(), layer.values.data_ptr()) for layer in model.cache.layers]
    before = where()
    for seed in range(2):
        greedy(model, tiny_models.prompt_ids(N_X, seed), 5, 37)
        model.evict(10)
        model.step(torch.tensor(7), N_X + 5)
    assert where() == before


def test_a_step_beyond_the_context_is_refused():
    model = load('qwen2')
    model.reset()
    model.prefill(tiny_models.prompt_ids(model.max_context), chunk_tokens=100)
    with pytest.raises(ValueError, match=f'{model.max_context} tokens.*{model.max_context + 1}'):
        model.step(torch.tensor(7), model.max_context)


# -- what may be evicted ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize('kind', tiny_models.EVICTABLE)
def test_full_attention_layers_can_be_evicted(kind):
    assert load(kind).supports_eviction and load(kind).eviction_refusal == ''
    assert load(kind).cache.evictable_layers() == ([1] if kind in ('qwen2_sliding', 'gemma3', 'gemma2') else [0, 1, 2])


@pytest.mark.parametrize(('kind', 'reason'), [(kind, entry[2]) for kind, entry in tiny_models.REFUSED.items()]
                         + [('mistral_sliding', 'sliding window')])
def test_other_models_are_refused_for_eviction_with_a_reason(kind, reason):
    model = load(kind)
    assert not model.supports_eviction and reason in model.eviction_refusal


# -- stopping --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('stop_after', [1, 2, 9])
def test_prefill_of_another_cache_stops_between_two_chunks(stop_after):
    kind = 'gpt_oss'
    model, ids = load(kind), tiny_models.prompt_ids(N_X)
    model.reset()
    asked = []

    def should_stop():
        asked.append(1)
        return len(asked) >= stop_after

    logits, forwards = count_forwards(model, lambda: model.prefill(ids, chunk_tokens=10, should_stop=should_stop))
    assert logits is None and forwards == stop_after
    assert greedy(model, ids, N_NEW, 37) == reference(kind)


@pytest.mark.parametrize(('stop_after', 'forwards'), [(1, 1), (3, 1), (4, 1), (5, 2), (11, 3)])
def test_prefill_stops_before_any_layer(stop_after, forwards):
    """The model has three layers; between two chunks there is one more question."""
    model, ids, asked = load('qwen2'), tiny_models.prompt_ids(N_X), []

    def should_stop():
        asked.append(1)
        return len(asked) >= stop_after

    model.reset()
    assert model.looks_per_chunk == 3
    logits, seen = count_forwards(model, lambda: model.prefill(ids, chunk_tokens=10, should_stop=should_stop))
    assert logits is None and (len(asked), seen) == (stop_after, forwards)
    assert greedy(model, ids, N_NEW, 37) == reference('qwen2')
    assert len(asked) == stop_after, 'nobody asks later'


def test_prefill_does_not_ask_after_its_last_chunk():
    model = load('gpt_oss')
    model.reset()
    assert model.looks_per_chunk == 1
    logits, forwards = count_forwards(
        model, lambda: model.prefill(tiny_models.prompt_ids(10), chunk_tokens=10, should_stop=lambda: True))
    assert logits is not None and forwards == 1


def test_a_failed_prefill_leaves_the_model_usable(monkeypatch):
    model, ids = load('qwen2'), tiny_models.prompt_ids(N_X)
    with monkeypatch.context() as patch:
        patch.setattr(model.model, 'forward', lambda **inputs: (_ for _ in ()).throw(RuntimeError('broken')))
        with pytest.raises(RuntimeError, match='broken'):
            model.prefill(ids, chunk_tokens=10)
    assert not any(recorder.recording for recorder in model._recorders.values())
    assert greedy(model, ids, N_NEW, 37) == reference('qwen2')


# -- text ------------------------------------------------------------------------------------------------------------

def request(**fields):
    return Request('id', 0.0, 1.0, **fields)


def test_a_prompt_is_taken_as_it_is_and_messages_go_through_the_template():
    model = load('qwen2')
    assert model.render(request(prompt='w9 w10')) == 'w9 w10'
    text = model.render(request(messages=[dict(role='user', content='w9 w10')]))
    assert text == 'user : w9 w10 assistant : '
    assert model.tokenize(text, is_chat=True) == [4, 3, 9, 10, 5, 3]


@pytest.mark.parametrize(('chat', 'role', 'words'), [(True, 'tool', 'role tool is not known'),
                                                     (False, 'user', 'no chat template')])
def test_messages_that_cannot_be_rendered_are_an_invalid_goal(chat, role, words, tmp_path):
    model = CausalLM(str(tiny_models.build(tmp_path / 'model', 'qwen2', chat=chat)), device='cpu', threads=1)
    with pytest.raises(GoalError, match=words) as caught:
        model.render(request(messages=[dict(role=role, content='w9')]))
    assert caught.value.code is ErrorCode.INVALID_GOAL


@pytest.mark.parametrize(('max_context_tokens', 'context'), [(64, 64), (100_000, tiny_models.CONTEXT)])
def test_a_prompt_must_leave_room_for_a_token(max_context_tokens, context):
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1,
                     max_context_tokens=max_context_tokens)
    assert len(model.tokenize('w9 ' * (context - 1), is_chat=False)) == context - 1
    with pytest.raises(GoalError, match=f'{context} tokens.*at most {context - 1} .*context of {context}') as caught:
        model.tokenize('w9 ' * context, is_chat=False)
    assert caught.value.code is ErrorCode.PROMPT_TOO_LONG


def test_a_goal_is_stopped_while_a_long_prompt_is_tokenized():
    looks = []
    assert load('qwen2').tokenize('w9 ' * 20_000, is_chat=False, should_stop=lambda: looks.append(0) or True) is None
    assert looks == [0]


@pytest.mark.parametrize('text', ['', '   \n'])
def test_a_prompt_without_tokens_is_an_invalid_goal(text):
    with pytest.raises(GoalError, match='no tokens') as caught:
        load('qwen2').tokenize(text, is_chat=False)
    assert caught.value.code is ErrorCode.INVALID_GOAL
