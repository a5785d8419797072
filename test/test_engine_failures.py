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

"""Requests that are canceled, that fail or that cannot be run: each ends with its code, and the engine serves on."""
import math

import pytest
import torch
from engine_bench import ANSWER, Bench

from timebill_ros.codes import ErrorCode, FinishReason, Strategy
from timebill_ros.request import Sampling

# -- cancelling ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('chunk', [0, 3])
def test_a_cancel_during_prefill_stops_it_after_the_chunk(chunk):
    bench = Bench(predictions={}, on_chunk=lambda i: setattr(bench.control, 'canceled', i >= chunk))
    outcome = bench.run()
    assert (outcome.error_code, outcome.finish_reason) == (ErrorCode.CANCELED, FinishReason.CANCELED)
    assert bench.model.calls == ['reset', *['chunk'] * (chunk + 1)]


@pytest.mark.parametrize('strategy', [Strategy.KILL, Strategy.TRUNCATE, Strategy.SKIP_NEXT])
@pytest.mark.parametrize(('happens', 'code', 'reason'), [
    (lambda bench: setattr(bench.control, 'canceled', True), ErrorCode.CANCELED, FinishReason.CANCELED),
    (lambda bench: setattr(bench.clock, 'now', 2000.0), ErrorCode.DEADLINE_MISSED, FinishReason.DEADLINE),
])
def test_a_goal_is_stopped_while_its_prompt_is_tokenized(happens, code, reason, strategy):
    bench = Bench(predictions={}, on_tokenize=lambda: happens(bench))
    outcome = bench.run(strategy=strategy)
    assert (outcome.error_code, outcome.finish_reason, outcome.text) == (code, reason, '')
    assert bench.model.calls == [] and bench.control.looks == 1, 'a look is a sign of life'


def test_a_cancel_during_decoding_stops_it_after_the_step_and_keeps_the_text():
    bench = Bench(predictions={}, on_step=lambda i: setattr(bench.control, 'canceled', i >= 4))
    outcome = bench.run()
    assert (outcome.error_code, outcome.finish_reason) == (ErrorCode.CANCELED, FinishReason.CANCELED)
    assert outcome.text == ANSWER[:5].decode() and outcome.timing.generated_tokens == 5


# -- failures --------------------------------------------------------------------------------------------------------

FAILURES = [
    (torch.OutOfMemoryError('CUDA out of memory: 3 GiB'), ErrorCode.OUT_OF_MEMORY, '3 GiB'),
    (MemoryError('no room'), ErrorCode.OUT_OF_MEMORY, 'no room'),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: 77 bytes"), ErrorCode.OUT_OF_MEMORY, '77 bytes'),
    (RuntimeError('a kernel failed'), ErrorCode.UNKNOWN, 'RuntimeError: a kernel failed'),
    (KeyError('x' * 9999), ErrorCode.UNKNOWN, 'KeyError'),
]


@pytest.mark.parametrize('where', ['on_chunk', 'on_evict', 'on_step'])
@pytest.mark.parametrize(('error', 'code', 'words'), FAILURES, ids=lambda value: type(value).__name__)
def test_a_failure_ends_the_request_with_a_code_and_the_engine_goes_on(where, error, code, words):
    broken = [True]

    def fail(i):
        if broken and i >= 2:
            raise error

    bench = Bench(predictions={}, **{where: fail})
    outcome = bench.run(0.70)
    assert (outcome.error_code, outcome.finish_reason, outcome.text) == (code, FinishReason.ERROR, '')
    assert words in outcome.error_msg and len(outcome.error_msg) < 600
    broken.clear()
    assert bench.run(0.70).text == ANSWER.decode()


@pytest.mark.parametrize('bad', [math.nan, math.inf])
@pytest.mark.parametrize('token', [0, 5])
@pytest.mark.parametrize('temperature', [0.0, 1.0])
def test_logits_that_are_not_finite_end_the_request(bad, token, temperature):
    bench = Bench(predictions={})
    right = bench.model._logits
    bench.model._logits = lambda n: torch.where((torch.arange(257) == 3) & (n == token), bad, 50 * right(n))
    outcome = bench.run(sampling=Sampling(temperature=temperature))
    assert outcome.error_code is ErrorCode.UNKNOWN and f'logits at token {token}' in outcome.error_msg
    assert outcome.text == ''


def test_a_request_that_cannot_be_rendered_ends_with_its_own_code():
    bench = Bench(predictions={})
    outcome = bench.run(prompt='')
    assert outcome.error_code is ErrorCode.INVALID_GOAL and 'no tokens' in outcome.error_msg
