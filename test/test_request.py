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

"""The records: enums equal to the ROS interfaces, JSON there and back, and what each ending is worth."""
import json
import math
from dataclasses import fields

import pytest

from timebill_ros.action import Generate
from timebill_ros.msg import RequestStatus
from timebill_ros.msg import Timing as TimingMessage
from timebill_ros.request import (
    ErrorCode,
    FinishReason,
    GoalError,
    Outcome,
    Phase,
    Plan,
    Request,
    Sampling,
    Strategy,
    Timing,
    Verdict,
    to_dict,
)


def constants(section, prefix):
    """{name without prefix: value} of one enum of an interface; the error codes alone carry no prefix."""
    names = [name for name in dir(type(section)) if name.isupper() and not name.startswith('_')
             and not name.endswith('__DEFAULT') and name.startswith(prefix)
             and (prefix or not name.startswith('FINISH_'))]
    return {name[len(prefix):]: getattr(section, name) for name in names}


@pytest.mark.parametrize(('enum', 'section', 'prefix'), [
    (Strategy, Generate.Goal, 'STRATEGY_'),
    (ErrorCode, Generate.Result, ''),
    (FinishReason, Generate.Result, 'FINISH_'),
    (Verdict, TimingMessage, 'VERDICT_'),
    (Phase, RequestStatus, 'PHASE_'),
])
def test_enums_are_those_of_the_interfaces(enum, section, prefix):
    assert {member.name: member.value for member in enum} == constants(section, prefix)


def test_timing_is_the_message_field_for_field():
    assert {field.name for field in fields(Timing)} == set(TimingMessage.get_fields_and_field_types())


def test_promises_and_natural_ends():
    assert [verdict for verdict in Verdict if verdict.is_promise] == [Verdict.FITS, Verdict.FITS_WITH_EVICTION]
    assert [reason for reason in FinishReason if reason.is_natural] == [FinishReason.EOS, FinishReason.STOP,
                                                                       FinishReason.LENGTH]


PLAN = Plan(Verdict.AT_RISK, 100, 50, 0.5, 256, 20, 100, 60, math.inf, 0.25)
TIMING = Timing(prompt_tokens=100, verdict=Verdict.FITS_WITH_EVICTION, variant='bf16 ü', wcet_s=1 / 3)
REQUESTS = [
    Request('id', 10.5, 12.0, prompt='Räum auf 🤖\n\u2028"\\\x00'),
    Request('id', 0.1 + 0.2, 1e9, messages=[{'role': 'user', 'content': 'hi'}], strategy=Strategy.KILL,
            max_new_tokens=2 ** 32 - 1, sampling=Sampling(0.7, 0.9, 40, 2 ** 64 - 1, ['\n\n', 'END']),
            max_eviction_ratio=math.nan, priority=255, closing_text='...', stop_at_line_end=True),
]


@pytest.mark.parametrize('record', [
    *REQUESTS, PLAN, Plan(), TIMING, Timing(), Outcome(),
    Outcome(ErrorCode.WORKER_LOST, 'gone', 'text', FinishReason.ERROR, TIMING),
], ids=lambda record: type(record).__name__)
def test_json_there_and_back(record):
    again = type(record).from_dict(json.loads(json.dumps(to_dict(record))))
    assert repr(again) == repr(record)  # repr: NaN equals itself there, and an enum is told from its number


@pytest.mark.parametrize(('cls', 'data'), [
    (Request, {**to_dict(REQUESTS[0]), 'strategy': 4}),
    (Request, {**to_dict(REQUESTS[0]), 'surprise': 1}),
    (Plan, {**to_dict(PLAN), 'verdict': 9}),
    (Outcome, {**to_dict(Outcome()), 'error_code': 1}),
])
def test_what_is_no_record_is_refused(cls, data):
    with pytest.raises((ValueError, TypeError)):
        cls.from_dict(data)


def test_time_budget_is_from_release_to_deadline():
    assert REQUESTS[0].time_budget_s == 1.5


def test_timing_takes_over_the_plan():
    timing = Timing()
    timing.set_plan(PLAN)
    assert (timing.verdict, timing.kept_tokens, timing.eviction_ratio, timing.length_cap, timing.predicted_tokens,
            timing.pessimistic_tokens) == (Verdict.AT_RISK, 50, 0.5, 256, 20, 100)


def test_goal_error_carries_code_and_sentence():
    error = GoalError(ErrorCode.BUSY, 'too much')
    assert (error.code, str(error)) == (ErrorCode.BUSY, 'too much')
