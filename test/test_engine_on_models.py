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

"""The whole flow of one request on small real models, on the real clock, with a real length predictor beside it."""
import functools
import time

import pytest
import tiny_models
import torch

from timebill_ros.codes import ErrorCode, FinishReason, Verdict
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.control import Control
from timebill_ros.inference.model import CausalLM
from timebill_ros.length import length_predictor
from timebill_ros.length.prediction import PredictionExecutor
from timebill_ros.planning.quality_rule import QualityRule
from timebill_ros.planning.quality_table import QualityTable
from timebill_ros.planning.tracker import Tracker
from timebill_ros.request import Request, Sampling
from timebill_ros.timing.execution_time import ExecutionTimes

N_X, N_NEW = 100, 20
IDS = tiny_models.prompt_ids(N_X)
PROMPT = ' '.join(f'w{i}' for i in IDS)
FREE = ExecutionTimes(a=0, b=0, c=0, p=0, q=0)


@functools.cache
def load(kind):
    return CausalLM(str(tiny_models.directory(kind)), device='cpu', threads=1)


@functools.cache
def predictions():
    return PredictionExecutor(length_predictor.load(tiny_models.predictor_directory(), device=torch.device('cpu')))


def run(kind, times=FREE, budget_s=60.0, **fields):
    engine = Engine(load(kind), predictions(), times, Tracker('fixed', k=5), prefill_chunk_tokens=37,
                    prediction_wait_s=10.0)
    now = time.monotonic()
    request = Request('id', now, now + budget_s, max_new_tokens=N_NEW, **(fields or dict(prompt=PROMPT)))
    return engine.run(request, Control(Deadline(request.deadline_s)))


def expected_text(kind, ids, **options):
    tokens = tiny_models.generate(kind, ids, N_NEW, **options)
    return tiny_models.tokenizer().decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize('kind', tiny_models.KINDS)
def test_the_answer_is_that_of_generate(kind):
    outcome = run(kind)
    assert outcome.text == expected_text(kind, IDS) and len(outcome.text) > 20
    assert outcome.finish_reason in (FinishReason.EOS, FinishReason.LENGTH)
    timing = outcome.timing
    assert timing.prompt_tokens == timing.kept_tokens == N_X and timing.verdict is Verdict.FITS
    assert 0 < timing.prefill_s and 0 <= timing.hidden_prediction_s <= timing.prediction_s
    assert timing.prefill_s <= timing.time_to_first_token_s < 60


def test_messages_are_answered_as_generate_answers_the_rendered_prompt():
    words = ' '.join(f'w{i}' for i in IDS[:50])
    outcome = run('qwen2', messages=[dict(role='user', content=words)])
    assert outcome.text == expected_text('qwen2', [4, 3, *IDS[:50], 5, 3])


def test_a_seed_repeats_a_sampled_answer():
    def text(seed):
        outcome = run('qwen2', prompt=PROMPT, sampling=Sampling(temperature=1.5, seed=seed))
        assert outcome.timing.seed == seed
        return outcome.text
    assert text(1) == text(1) and len({text(seed) for seed in range(5)}) > 1
    assert run('qwen2', prompt=PROMPT, sampling=Sampling(seed=9)).timing.seed == 0, 'nothing was drawn'


@pytest.mark.parametrize('penalty', [1.3, 3.0, 0.8])
@pytest.mark.parametrize('kind', ['qwen2', 'gemma3', 'mamba'])
def test_a_penalised_answer_is_that_of_generate(kind, penalty):
    outcome = run(kind, prompt=PROMPT, sampling=Sampling(repetition_penalty=penalty))
    assert outcome.text == expected_text(kind, IDS, repetition_penalty=penalty) and len(outcome.text) > 20
    assert penalty != 3.0 or outcome.text != expected_text(kind, IDS)


@pytest.mark.parametrize(('asked', 'error'), [('refuse', ErrorCode.PROMPT_TOO_LONG), ('drop_oldest', ErrorCode.NONE)])
def test_a_conversation_longer_than_the_context(asked, error):
    turns = [[dict(role='user', content=' '.join(f'w{6 + i}' for _ in range(60))), dict(role='assistant', content='w7')]
             for i in range(12)]
    outcome = run('qwen2', messages=[message for turn in turns for message in turn][:-1], on_long_history=asked)
    assert outcome.error_code is error
    if asked == 'drop_oldest':
        # A question has 60 words and 2 tokens of the template, an answer 1 and 2, and 2 more begin the answer.
        kept = 1 + (tiny_models.CONTEXT - N_NEW - 64) // 65
        assert outcome.timing.dropped_messages == 2 * (12 - kept)
        assert outcome.timing.prompt_tokens <= tiny_models.CONTEXT - N_NEW


@pytest.mark.parametrize('kind', tiny_models.EVICTABLE)
def test_a_tight_budget_evicts(kind):
    # By this profile 20 tokens take 76 s over the whole prompt, and 60 s are there.
    outcome = run(kind, ExecutionTimes(a=0, b=0, c=0, p=0.04, q=0))
    assert outcome.timing.verdict is Verdict.FITS_WITH_EVICTION and 50 < outcome.timing.kept_tokens < N_X
    for index in load(kind).cache.evictable_layers():
        assert load(kind).cache.get_seq_length(index) == \
            outcome.timing.kept_tokens + outcome.timing.generated_tokens - 1
    assert outcome.text and outcome.error_code is ErrorCode.NONE


def test_without_eviction_a_tight_budget_only_cuts_the_text_of_the_whole_cache():
    """A step takes 0.04 s per cached entry by the profile, so 60 s are too few for 20 tokens over the whole prompt."""
    times = ExecutionTimes(a=0, b=0, c=0, p=0.04, q=0)
    assert run('qwen2', times).timing.eviction_ratio > 0
    outcome = run('qwen2', times, prompt=PROMPT, max_eviction_ratio=0.0)
    assert outcome.timing.eviction_ratio == 0.0 and not outcome.timing.verdict.is_promise
    assert outcome.text and expected_text('qwen2', IDS).startswith(outcome.text)


@pytest.mark.parametrize('kind', ['mistral_sliding', 'mamba', 'gpt_oss'])
def test_a_model_that_is_not_evicted_is_not_said_to_be(kind):
    outcome = run(kind, ExecutionTimes(a=0, b=0, c=0, p=0.04, q=0))
    assert (outcome.timing.eviction_ratio, outcome.timing.kept_tokens) == (0.0, N_X)
    assert not outcome.timing.verdict.is_promise


@pytest.mark.parametrize('n', [tiny_models.CONTEXT, 0])
def test_a_prompt_that_does_not_fit_ends_with_its_count(n):
    outcome = run('qwen2', prompt='w9 ' * n or ' ')
    assert outcome.error_code is (ErrorCode.PROMPT_TOO_LONG if n else ErrorCode.INVALID_GOAL)
    assert str(n) in outcome.error_msg if n else 'no tokens' in outcome.error_msg


def test_an_engine_decodes_with_the_weights_that_its_plan_names():
    """int8 is profiled as much faster and nearly as good: a tight budget takes it, a wide one the model's own."""
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1, other_variants='int8')
    int8 = {'p': 0.0, 'q': 0.001, 'bend': 0.0, 'knee': 0}
    times = ExecutionTimes(a=0, b=0, c=0, p=0, q=10.0, variants={'int8': int8})
    table = QualityTable({'float32': ((0.0, 1.0), (1.0, 0.5)), 'int8': ((0.0, 0.9), (1.0, 0.4))},
                         ((0.0, 0.0), (1.0, 1.0)))
    engine = Engine(model, None, times, Tracker('fixed', k=2.0), rule=QualityRule(table))
    used = []
    original = model.use_variant
    model.use_variant = lambda name: (used.append(name), original(name))

    def variant(budget_s):
        now = time.monotonic()
        request = Request('id', now, now + budget_s, prompt='w1 w2 w3', max_new_tokens=10)
        outcome = engine.run(request, Control(Deadline(request.deadline_s)))
        assert outcome.finish_reason in (FinishReason.EOS, FinishReason.LENGTH), outcome
        return outcome.timing.variant

    assert [variant(50.0), variant(1000.0)] == ['int8', 'float32'] == used
