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
from dataclasses import fields, replace

import pytest

from timebill_ros.action import Generate
from timebill_ros.codes import ErrorCode, FinishReason, GoalError, Phase, Strategy, Tier, Verdict
from timebill_ros.msg import RequestStatus
from timebill_ros.msg import Timing as TimingMessage
from timebill_ros.request import Outcome, Plan, Request, Sampling, Timing, to_dict

NAV2_WRITES = {'TIMEOUT', 'GOAL_REJECTED', 'SEND_GOAL_FAILURE'}  # a behavior tree node writes them, this server never


def constants(section, prefix):
    """{name without prefix: value} of one enum of an interface; the error codes alone carry no prefix."""
    names = [name for name in dir(type(section)) if name.isupper() and not name.startswith('_')
             and not name.endswith('__DEFAULT') and name.startswith(prefix)
             and (prefix or not name.startswith('FINISH_'))]
    return {name[len(prefix):]: getattr(section, name) for name in names if name not in NAV2_WRITES}


@pytest.mark.parametrize(('enum', 'section', 'prefix'), [
    (Strategy, Generate.Goal, 'STRATEGY_'),
    (ErrorCode, Generate.Result, ''),
    (FinishReason, Generate.Result, 'FINISH_'),
    (Verdict, TimingMessage, 'VERDICT_'),
    (Phase, RequestStatus, 'PHASE_'),
    (Tier, TimingMessage, 'TIER_'),
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
TIMING = Timing(prompt_tokens=100, verdict=Verdict.FITS_WITH_EVICTION, variant='bf16 ü', wcet_s=1 / 3,
                seed=2 ** 64 - 1, dropped_messages=3)
REQUESTS = [
    Request('id', 10.5, 12.0, prompt='Räum auf 🤖\n\u2028"\\\x00'),
    Request('id', 0.1 + 0.2, 1e9, messages=[{'role': 'user', 'content': 'hi'}], strategy=Strategy.KILL,
            max_new_tokens=2 ** 32 - 1, sampling=Sampling(0.7, 0.9, 40, 2 ** 64 - 1, ['\n\n', 'END'],
                                                                0.05, 1.1), on_long_history='drop_oldest',
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


# -- records that contradict themselves ------------------------------------------------------------------------------

FITS = Plan(Verdict.FITS, 100, 100, 0.0, 256, 20, 60, 60, 0.25, 0.125)
EVICTING = replace(FITS, verdict=Verdict.FITS_WITH_EVICTION, n_keep=50, eviction_ratio=0.5)
INFEASIBLE = replace(PLAN, verdict=Verdict.INFEASIBLE, fitting_tokens=19)


@pytest.mark.parametrize(('plan', 'changes', 'sentence'), [
    (FITS, {'n_keep': 0}, r'n_keep must be from 1 to n_x \(100\), got 0'),
    (FITS, {'n_keep': 101}, r'n_keep must be from 1 to n_x \(100\), got 101'),
    (FITS, {'n_x': 99}, r'n_keep must be from 1 to n_x \(99\), got 100'),
    (Plan(), {'n_keep': -1}, r'n_keep must be from 0 to n_x \(0\), got -1'),
    (FITS, {'n_keep': 50, 'eviction_ratio': 0.5}, 'n_keep must be n_x .* got 50'),
    (EVICTING, {'n_keep': 100, 'eviction_ratio': 0.0}, 'less for FITS_WITH_EVICTION, got 100'),
    (EVICTING, {'eviction_ratio': 0.51}, 'eviction_ratio must be 1 - 50 / 100, got 0.51'),
    (EVICTING, {'eviction_ratio': math.nan}, 'eviction_ratio must be 1 - 50 / 100, got nan'),
    (FITS, {'length_cap': 0}, 'length_cap must be 1 or more, got 0'),
    (FITS, {'predicted_tokens': 0}, 'predicted_tokens must be 1 or more, got 0'),
    (FITS, {'predicted_tokens': 61}, r'pessimistic_tokens must be predicted_tokens \(61\) or more, got 60'),
    (Plan(), {'fitting_tokens': -1}, 'fitting_tokens must be 0 or more, got -1'),
    (FITS, {'fitting_tokens': 59}, 'pessimistic_tokens must be at most 59 for FITS, got 60'),
    (EVICTING, {'length_cap': 59}, 'pessimistic_tokens must be at most 59 for FITS_WITH_EVICTION, got 60'),
    (PLAN, {'fitting_tokens': 100}, 'fitting_tokens must be below 100 for AT_RISK, got 100'),
    (INFEASIBLE, {'fitting_tokens': 20}, 'fitting_tokens must be below 20 for INFEASIBLE, got 20'),
    (FITS, {'decode_expected_s': -0.5}, 'decode_expected_s must be 0 or more, got -0.5'),
    (FITS, {'decode_wcet_s': 0.1}, r'decode_wcet_s must be decode_expected_s \(0.125\) or more, got 0.1'),
    (FITS, {'timing_factor': 0.0}, 'timing_factor must be finite and above 0, got 0.0'),
    (FITS, {'timing_factor': math.nan}, 'timing_factor must be .* got nan'),
    (FITS, {'quality': -0.1}, 'quality must be finite and 0 or more, got -0.1'),
])
def test_a_plan_that_contradicts_itself_is_refused(plan, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(plan, **changes)
    with pytest.raises(ValueError, match=sentence):
        Plan.from_dict({**to_dict(plan), **changes})


ACCOUNT = Timing(prompt_tokens=100, generated_tokens=5, predicted_tokens=20, pessimistic_tokens=60, kept_tokens=50,
                 length_cap=256, eviction_ratio=0.5, prediction_s=0.25, hidden_prediction_s=0.25)


@pytest.mark.parametrize(('changes', 'sentence'), [
    *[({name: -1}, f'{name} must be 0 or more, got -1') for name in (
        'prompt_tokens', 'generated_tokens', 'predicted_tokens', 'kept_tokens', 'length_cap', 'wcet_s', 'queue_s',
        'prediction_s', 'prefill_s', 'eviction_s', 'decode_s', 'time_to_first_token_s', 'response_time_s',
        'tardiness_s')],
    ({'reused_tokens': 101}, r'reused_tokens must be at most prompt_tokens \(100\), got 101'),
    ({'kept_tokens': 101}, r'kept_tokens must be at most prompt_tokens \(100\), got 101'),
    ({'predicted_tokens': 61}, r'predicted_tokens must be at most pessimistic_tokens \(60\), got 61'),
    ({'hidden_prediction_s': 0.5}, r'hidden_prediction_s must be at most prediction_s \(0.25\), got 0.5'),
    ({'generated_tokens': 257}, r'generated_tokens must be at most length_cap \(256\), got 257'),
    ({'eviction_ratio': 0.25}, 'eviction_ratio must be 1 - 50 / 100, got 0.25'),
])
def test_an_account_that_contradicts_itself_is_refused_when_it_is_made_and_when_it_is_checked(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(ACCOUNT, **changes)
    timing = replace(ACCOUNT)
    vars(timing).update(changes)  # filled in step by step
    with pytest.raises(ValueError, match=sentence):
        timing.check()


def test_an_account_of_a_deadline_that_moved_to_before_the_release_is_none():
    assert Timing(time_budget_s=-0.5).time_budget_s == -0.5


@pytest.mark.parametrize(('changes', 'sentence'), [
    ({'messages': [{'role': 'user', 'content': 'hi'}]}, 'empty beside 1 messages, got .[0-9]+ characters'),
    ({'prompt': '', 'messages': [{'role': 'user'}]}, r"messages\[0\] must be a role and a content, got \['role'\]"),
    ({'release_s': math.inf}, 'release_s must be finite, got inf'),
    ({'deadline_s': math.nan}, 'deadline_s must be an instant, got nan'),
    ({'max_new_tokens': 0}, 'max_new_tokens must be 1 or more, got 0'),
    ({'priority': 256}, 'priority must be from 0 to 255, got 256'),
    ({'delivery_margin_s': -0.1}, 'delivery_margin_s must be finite and 0 or more, got -0.1'),
    ({'max_overrun_s': math.nan}, 'max_overrun_s must be finite and 0 or more, got nan'),
    ({'max_overrun_s': 1.0}, '0 for a strategy other than SKIP_NEXT, got 1.0'),
])
def test_a_request_that_no_client_can_cause_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(REQUESTS[0], **changes)


def test_a_request_in_simulated_time_may_be_due_before_its_release():
    assert Request.from_dict(to_dict(replace(REQUESTS[0], deadline_s=9.0))).time_budget_s == -1.5


ENDINGS = {  # finish reason -> error codes that go with it
    FinishReason.UNKNOWN: {'NONE'},
    FinishReason.EOS: {'NONE'},
    FinishReason.STOP: {'NONE'},
    FinishReason.LENGTH: {'NONE', 'INVALID_GOAL'},
    FinishReason.CAPPED: {'NONE', 'DEADLINE_MISSED', 'PROMPT_TOO_LONG'},
    FinishReason.DEADLINE: {'NONE', 'DEADLINE_MISSED'},
    FinishReason.CANCELED: {'CANCELED'},
    FinishReason.SKIPPED: {'SKIPPED'},
    FinishReason.ERROR: {'UNKNOWN', 'INVALID_GOAL', 'INACTIVE', 'PROMPT_TOO_LONG', 'INFEASIBLE', 'OUT_OF_MEMORY',
                         'WORKER_LOST', 'BUSY', 'PREEMPTED'},
}
KEEPING = {'NONE', 'UNKNOWN', 'INACTIVE', 'WORKER_LOST', 'CANCELED', 'PREEMPTED'}  # codes that may come with text


@pytest.mark.parametrize('reason', FinishReason)
@pytest.mark.parametrize('code', ErrorCode)
@pytest.mark.parametrize('message', ['', 'why'])
@pytest.mark.parametrize('text', ['', 'so far'])
def test_which_outcomes_there_are(reason, code, message, text):
    possible = code.name in ENDINGS[reason] and bool(message) == (code is not ErrorCode.NONE)
    possible &= code.name in KEEPING or not text
    # An answer that reads as success is empty only where the model itself ended it (UNKNOWN: nothing has ended yet).
    possible &= bool(text) or code is not ErrorCode.NONE or reason in (
        FinishReason.EOS, FinishReason.STOP, FinishReason.UNKNOWN)
    if possible:
        assert Outcome(code, message, text, reason).error_code is code
    else:
        with pytest.raises(ValueError, match='(error_code|error_msg|text) must be .*, got '):
            Outcome(code, message, text, reason)


def test_a_record_as_data_holds_its_own_lists():
    """The dispatcher's thread makes it: copying 100,000 calls would take half a second."""
    request = Request('id', 0.0, 1.0, messages=[{'role': 'user', 'content': 'hi'}])
    data = to_dict(request)
    assert data['messages'] is request.messages and data['sampling'] == vars(request.sampling)
    assert Request.from_dict(data) == request
