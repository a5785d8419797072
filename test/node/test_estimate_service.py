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

"""The estimate service over real DDS: its answers, and its errors."""
from __future__ import annotations

import time

import pytest
from node_client import CANCELED, Result, duration, make_goal
from scripted_model import LONG

from timebill_ros.msg import ChatMessage, RequestStatus, SamplingConfig, Timing
from timebill_ros.node.translation import stamp
from timebill_ros.srv import EstimateTime


def test_estimate(node):
    answer = node.call(EstimateTime, prompt='w1 ' * 999 + 'w1', time_budget=duration(20.0), max_new_tokens=101)
    assert (answer.error_code, answer.verdict) == (Result.NONE, Timing.VERDICT_FITS)
    # Nothing predicts lengths: half of the limit is expected, in buckets of 2 tokens.
    assert (answer.predicted_tokens, answer.pessimistic_tokens, answer.prompt_tokens) == (52, 101, 1000)
    assert answer.wcet_without_eviction_s == answer.wcet_with_eviction_s == pytest.approx(0.2 + 0.1, abs=0.01)
    assert answer.eviction_ratio == 0


@pytest.mark.parametrize('budget_s, verdict', [
    (0.0, Timing.VERDICT_UNKNOWN), (5.0, Timing.VERDICT_FITS), (0.9, Timing.VERDICT_AT_RISK),
    (1e-4, Timing.VERDICT_INFEASIBLE)])
def test_estimate_for_a_budget(node, budget_s, verdict):
    answer = node.call(EstimateTime, messages=[ChatMessage(role='user', content='w1')], time_budget=duration(budget_s),
                       max_new_tokens=1000)
    assert (answer.error_code, answer.error_msg, answer.verdict) == (Result.NONE, '', verdict)


@pytest.mark.parametrize('fields, code, words', [
    ({}, Result.INVALID_GOAL, 'empty'),
    ({'prompt': 'w1', 'time_budget': duration(-1.0)}, Result.INVALID_GOAL, '-1.0'),
    ({'prompt': 'w1 ' * 20000}, Result.PROMPT_TOO_LONG, '20000'),
])
def test_estimate_of_what_cannot_run(node, fields, code, words):
    answer = node.call(EstimateTime, **fields)
    assert answer.error_code == code and words in answer.error_msg
    assert answer.verdict == Timing.VERDICT_UNKNOWN and answer.wcet_with_eviction_s != answer.wcet_with_eviction_s


def test_estimate_while_a_goal_runs(node):
    """At once, from the node itself, with the time behind the running goal."""
    running = node.send(make_goal(budget_s=40.0, max_new_tokens=LONG))
    node.wait_for_phase(running, RequestStatus.PHASE_DECODE)
    asked = {'messages': [ChatMessage(role='user', content='w1 w2')], 'max_new_tokens': 101}
    # First, while most of the running goal is still to come: a busy machine takes seconds to carry the second call.
    hopeless = node.call(EstimateTime, time_budget=duration(0.5), **asked)
    assert hopeless.verdict == Timing.VERDICT_INFEASIBLE and 0.5 < hopeless.waiting_s <= 40.0
    answer = node.call(EstimateTime, time_budget=duration(120.0), **asked)
    assert (answer.error_code, answer.error_msg, answer.is_from_bound) == (Result.NONE, '', True)
    assert 0.0 < answer.waiting_s <= 40.0 and answer.verdict == Timing.VERDICT_FITS
    assert 5 < answer.prompt_tokens < 40 and (answer.predicted_tokens, answer.pessimistic_tokens) == (51, 101)
    assert answer.wcet_without_eviction_s == pytest.approx(0.1 + 2e-4 * answer.prompt_tokens, abs=0.01)
    bad = node.call(EstimateTime, prompt='w1', sampling=SamplingConfig(top_p=2.0))
    assert bad.error_code == Result.INVALID_GOAL and '2.0' in bad.error_msg
    for schema in ('{"anyOf": 5}', '{"anyOf": []}', '{"enum": [1, {}], "type": {}}', '{"properties": 5}'):
        bad = node.call(EstimateTime, prompt='w1', response_schema=schema)
        assert bad.error_code == Result.INVALID_GOAL and bad.error_msg.startswith('response_schema.')
    running.cancel()
    assert running.result()[0] == CANCELED
    idle = node.call(EstimateTime, time_budget=duration(120.0), **asked)
    assert not idle.is_from_bound and idle.waiting_s == 0.0
    assert 1 < idle.prompt_tokens <= answer.prompt_tokens and idle.verdict == Timing.VERDICT_FITS


@pytest.mark.parametrize('fields, words', [
    ({'overrun_strategy': 9}, '9'), ({'max_eviction_ratio': 1.5}, '1.5'), ({'deadline': stamp(1.0)}, 'past'),
    ({'sampling': SamplingConfig(min_p=-1.0)}, '-1.0')])
def test_the_fields_of_the_goal_are_taken_too(node, fields, words):
    answer = node.call(EstimateTime, prompt='w1', **fields)
    assert answer.error_code != Result.NONE and words in answer.error_msg


def test_an_absolute_deadline_has_a_verdict(node):
    answer = node.call(EstimateTime, prompt='w1', deadline=stamp(time.time() + 30.0), max_new_tokens=10)
    assert (answer.error_code, answer.verdict) == (Result.NONE, Timing.VERDICT_FITS)
