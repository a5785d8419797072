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

"""Messages to records and back, without a node."""
from __future__ import annotations

import dataclasses
import math
import re

import pytest
from builtin_interfaces.msg import Duration, Time

from timebill_ros import settings
from timebill_ros.action import Generate
from timebill_ros.codes import ErrorCode, FinishReason, GoalError, OnCut, Phase, Strategy, Verdict
from timebill_ros.msg import ChatMessage, SamplingConfig
from timebill_ros.node import translation
from timebill_ros.request import Outcome, Timing

DEFAULTS = settings.check({})
RELEASE_S = 100.0  # monotonic
ROS_NOW_S = 1_700_000_000.25


def to_request(changed: dict | None = None, **fields):
    fields.setdefault('prompt', 'p')
    fields.setdefault('time_budget', Duration(sec=2))
    goal = Generate.Goal(**fields)
    absolute_s = translation.seconds(goal.deadline)
    return translation.to_request(goal, 'ab' * 16, release_s=RELEASE_S,
                                  deadline_in_s=absolute_s - ROS_NOW_S if absolute_s else None,
                                  settings={**DEFAULTS, **(changed or {})}, margin_s=0.04,
                                  model_sampling={'temperature': 0.5, 'top_k': 20, 'repetition_penalty': 1.5})


@pytest.mark.parametrize('message, seconds', [
    (Duration(), 0.0), (Duration(sec=1, nanosec=500_000_000), 1.5), (Duration(sec=-1, nanosec=500_000_000), -0.5),
    (Duration(nanosec=1), 1e-9), (Time(sec=2 ** 31 - 1, nanosec=999_999_999), 2 ** 31 - 1e-9),
])
def test_seconds(message, seconds):
    assert translation.seconds(message) == pytest.approx(seconds)


@pytest.mark.parametrize('seconds, sec, nanosec', [
    (0.0, 0, 0), (1.5, 1, 500_000_000), (2 ** 31 - 0.5, 2 ** 31 - 1, 500_000_000), (0.9999999999, 0, 999_999_999),
    (math.nan, 0, 0), (math.inf, 0, 0), (-math.inf, 0, 0), (-1e-9, 0, 0), (float(2 ** 31), 0, 0), (1e300, 0, 0),
])
def test_stamp(seconds, sec, nanosec):
    assert translation.stamp(seconds) == Time(sec=sec, nanosec=nanosec)


def test_the_defaults_of_a_goal_are_the_servers():
    request = to_request()
    assert (request.prompt, request.messages, request.request_id) == ('p', [], 'ab' * 16)
    assert (request.release_s, request.deadline_s, request.delivery_margin_s) == (RELEASE_S, RELEASE_S + 2, 0.04)
    assert request.strategy is Strategy.TRUNCATE
    assert request.max_new_tokens == DEFAULTS['default_max_new_tokens']
    assert request.max_eviction_ratio == DEFAULTS['max_eviction_ratio']
    assert (request.sampling.temperature, request.sampling.top_p, request.sampling.top_k) == (0.0, 1.0, 0)
    assert (request.closing_text, request.stop_at_line_end, request.sampling.stop) == ('', False, [])


def test_a_goals_own_values_are_kept():
    request = to_request(overrun_strategy=Generate.Goal.STRATEGY_KILL, max_new_tokens=7, max_eviction_ratio=0.5,
                         sampling=SamplingConfig(temperature=0.5, top_p=0.25, top_k=3, seed=2 ** 64 - 1, stop=['x'],
                                                 min_p=0.125, repetition_penalty=1.25),
                         priority=9, closing_text='}', stop_at_line_end=True)
    assert (request.strategy, request.max_new_tokens, request.max_eviction_ratio) == (Strategy.KILL, 7, 0.5)
    assert dataclasses.astuple(request.sampling) == (0.5, 0.25, 3, 2 ** 64 - 1, ['x'], 0.125, 1.25, False)
    assert (request.priority, request.closing_text, request.stop_at_line_end) == (9, '}', True)


@pytest.mark.parametrize('strategy, error', [(0, False), (9, True)])
def test_the_goal_itself_keeps_no_text(strategy, error):
    """The texts are cleared, because rclpy keeps goals as long as their results."""
    goal = Generate.Goal(prompt='p' * 9, closing_text='c', messages=[ChatMessage(role='user', content='hi')],
                         **(dict(response_schema='{}', choices=['c'], regex='r') if error else {}),
                         sampling=SamplingConfig(stop=['s'], seed=3), time_budget=Duration(sec=2),
                         overrun_strategy=strategy)
    request = None
    try:
        request = translation.to_request(goal, 'ab' * 16, release_s=RELEASE_S, deadline_in_s=None, settings=DEFAULTS,
                                         margin_s=0.04, model_sampling={})
    except GoalError:
        assert error
    assert goal == Generate.Goal(sampling=SamplingConfig(seed=3), time_budget=Duration(sec=2),
                                 overrun_strategy=strategy)
    if request is not None:
        assert (request.messages, request.closing_text, request.sampling.stop) == (
            [{'role': 'user', 'content': 'hi'}], 'c', ['s'])


@pytest.mark.parametrize(('defaults', 'expected'), [('greedy', (0.0, 0, 1.0)), ('model', (0.5, 20, 1.5))])
def test_a_goal_without_sampling_is_drawn_as_the_parameter_says_with_a_seed_of_its_own(defaults, expected):
    first, second = (to_request({'sampling_defaults': defaults}).sampling for _ in range(2))
    assert (first.temperature, first.top_k, first.repetition_penalty) == expected
    assert 0 < first.seed != second.seed


@pytest.mark.parametrize(('field', 'value'), [
    ('response_schema', '{}'), ('choices', ['left', 'right']), ('regex', '[a-z]+')])
def test_the_form_of_an_answer(field, value):
    request = to_request(**{field: value}, on_cut=Generate.Goal.ON_CUT_CLOSE)
    assert request.has_form and getattr(request, field) == value and request.on_cut is OnCut.CLOSE
    assert request.sampling.kind == 'greedy+grammar'
    assert not to_request().has_form and to_request().on_cut is OnCut.DROP


def test_a_way_to_complete_that_is_not_known_is_refused():
    with pytest.raises(GoalError, match='unknown on_cut 7') as refused:
        to_request(regex='a', on_cut=7)
    assert refused.value.code is ErrorCode.INVALID_GOAL


@pytest.mark.parametrize(('field', 'allowed'), [
    ('overrun_strategy', '0 (DEFAULT), 1 (KILL), 2 (SKIP_NEXT), 3 (TRUNCATE)'), ('on_cut', '0 (DROP), 1 (CLOSE)'),
    ('tool_choice', '0 (AUTO), 1 (REQUIRED)'), ('thinking', '0 (DEFAULT), 1 (OFF), 2 (ON)')])
def test_a_number_that_is_no_constant_is_refused_with_those_that_are(field, allowed):
    with pytest.raises(GoalError, match=re.escape(f'unknown {field} 99: it must be one of {allowed}')):
        to_request(**{field: 99})


def test_a_ratio_that_float32_makes_1_is_refused_with_the_reason():
    with pytest.raises(GoalError, match='float32'):
        to_request(max_eviction_ratio=1.0)  # what DDS makes of 0.9999999999
    assert to_request(max_eviction_ratio=0.9999).max_eviction_ratio == pytest.approx(0.9999)



@pytest.mark.parametrize('what', ['refuse', 'drop_oldest'])
def test_what_happens_to_a_long_conversation_is_a_parameter(what):
    assert to_request({'on_long_history': what}).on_long_history == what


def test_a_ratio_of_zero_is_not_the_default():
    assert to_request(max_eviction_ratio=0.0).max_eviction_ratio == 0


def test_whether_a_goal_may_leave_the_robot():
    assert (to_request().allow_offboard, to_request(allow_offboard=True).allow_offboard) == (False, True)


def test_messages_replace_the_prompt():
    request = to_request(messages=[ChatMessage(role='user', content='hi')])
    assert (request.prompt, request.messages) == ('', [{'role': 'user', 'content': 'hi'}])


@pytest.mark.parametrize('name, strategy', [('kill', Strategy.KILL), ('truncate', Strategy.TRUNCATE)])
def test_the_default_strategy_is_a_parameter(name, strategy):
    assert to_request({'default_overrun_strategy': name}).strategy is strategy


def deadline(in_s: float) -> Time:
    return translation.stamp(ROS_NOW_S + in_s)


@pytest.mark.parametrize('budget_s, deadline_in_s, default_s, expected_s', [
    (2, None, 0.0, 2.0),
    (2, None, 9.0, 2.0),
    (0, None, 9.0, 9.0),
    (0, 5.0, 0.0, 5.0),
    (0, 5.0, 1.0, 5.0),
    (2, 5.0, 0.0, 2.0),
    (5, 2.0, 0.0, 2.0),
])
def test_deadline(budget_s, deadline_in_s, default_s, expected_s):
    request = to_request({'default_time_budget_s': default_s}, time_budget=Duration(sec=budget_s),
                         deadline=Time() if deadline_in_s is None else deadline(deadline_in_s))
    assert request.time_budget_s == pytest.approx(expected_s, abs=1e-6)


@pytest.mark.parametrize('fields, code, words', [
    (dict(time_budget=Duration()), ErrorCode.INVALID_GOAL, 'neither'),
    (dict(time_budget=Duration(sec=-1)), ErrorCode.INVALID_GOAL, '-1'),
    (dict(time_budget=Duration(sec=-1, nanosec=999_999_999)), ErrorCode.INVALID_GOAL, 'time_budget'),
    (dict(deadline=deadline(-3.0)), ErrorCode.INFEASIBLE, '3.000 s in the past'),
    (dict(deadline=Time(sec=-1)), ErrorCode.INFEASIBLE, 'in the past'),
    (dict(prompt=''), ErrorCode.INVALID_GOAL, 'empty'),
    (dict(prompt='x' * 1_000_001), ErrorCode.PROMPT_TOO_LONG, '1000001'),
    (dict(overrun_strategy=4), ErrorCode.INVALID_GOAL, '4'),
    (dict(max_eviction_ratio=math.nan), ErrorCode.INVALID_GOAL, 'nan'),
    (dict(messages=[ChatMessage(role='robot', content='x')]), ErrorCode.INVALID_GOAL, "'robot'"),
    (dict(sampling=SamplingConfig(top_p=math.nan)), ErrorCode.INVALID_GOAL, 'nan'),
])
def test_what_cannot_be_a_request(fields, code, words):
    with pytest.raises(GoalError, match=words) as raised:
        to_request(**fields)
    assert raised.value.code is code


def test_a_record_that_cannot_be_is_no_fault_of_the_client():
    """A bug of ours, so it is no GoalError; who takes goals answers with UNKNOWN and these words."""
    with pytest.raises(ValueError, match='max_new_tokens must be 1 or more, got 0'):
        to_request({'default_max_new_tokens': 0})


def test_every_field_of_timing_is_carried():
    names = [field.name for field in dataclasses.fields(Timing)]
    values = {name: index + 1 for index, name in enumerate(names)}
    values.update(variant='bf16', verdict=Verdict.AT_RISK, **{
        name: value + 0.5 for name, value in values.items() if name.endswith('_s') or name == 'eviction_ratio'})
    timing = Timing()
    vars(timing).update(values)  # each another, so they contradict each other
    message = translation.to_timing(timing)
    assert set(names) == set(message.get_fields_and_field_types())
    assert {name: getattr(message, name) for name in names} == {**values, 'verdict': 3}


def test_unknown_times_stay_nan():
    message = translation.to_timing(Timing())
    assert math.isnan(message.wcet_s) and math.isnan(message.tardiness_s) and math.isnan(message.eviction_ratio)


def test_result():
    outcome = Outcome(ErrorCode.WORKER_LOST, 'gone', 'text', FinishReason.ERROR, Timing(prompt_tokens=4))
    result = translation.to_result(outcome)
    assert (result.error_code, result.error_msg, result.text) == (Generate.Result.WORKER_LOST, 'gone', 'text')
    assert (result.finish_reason, result.timing.prompt_tokens) == (Generate.Result.FINISH_ERROR, 4)


def test_a_result_tells_how_much_of_its_text_is_the_models_own():
    outcome = Outcome(text='[1, 2]', finish_reason=FinishReason.DEADLINE, added_characters=1)
    assert translation.to_result(outcome).generated_characters == 5
    assert translation.to_result(dataclasses.replace(outcome, added_characters=0)).generated_characters == 6
    assert translation.to_result(dataclasses.replace(outcome, dropped_items=3)).dropped_items == 3


def test_a_sentence_of_pages_is_cut():
    result = translation.to_result(Outcome(ErrorCode.UNKNOWN, 'why ' * 10_000, '', FinishReason.ERROR))
    assert result.error_msg == 'why ' * 250


def test_status_of_a_running_request():
    message = translation.to_status('ff', Phase.DECODE, Timing(verdict=Verdict.FITS, wcet_s=1.5), ros_now_s=1000.0,
                                    time_left_s=3.0, age_s=1.5, remaining_s=(0.5, 1.25), degraded=True,
                                    strategy=Strategy.KILL, priority=7, queue_position=2)
    assert (message.request_id, message.phase, message.verdict, message.wcet_s) == ('ff', 3, 1, 1.5)
    assert (message.header.stamp.sec, message.deadline.sec) == (1000, 1003)
    assert (message.predicted_finish, message.slack_s) == (Time(sec=1000, nanosec=500_000_000), 1.75)
    assert (message.finish_reason, message.error_code, message.overrun, message.degraded) == (0, 0, False, True)
    assert (message.strategy, message.priority, message.queue_position) == (1, 7, 2)
    assert message.release == Time(sec=998, nanosec=500_000_000)


def test_the_slack_of_a_deadline_that_had_passed_counts_from_the_release():
    outcome = Outcome(ErrorCode.INFEASIBLE, 'why', '', FinishReason.ERROR, Timing(tardiness_s=1.5))
    for time_left_s, age_s, slack_s in ((-1.8e9, 1.5, -1.5), (-1.0, 1.5, -1.0), (-1.0, math.nan, -1.0)):
        message = translation.to_status('ff', Phase.DONE, outcome.timing, ros_now_s=2e9, time_left_s=time_left_s,
                                        age_s=age_s, remaining_s=(0.0, 0.0), outcome=outcome)
        assert message.slack_s == slack_s and message.tardiness_s == 1.5
    assert message.deadline.sec == 2e9 - 1


def test_status_of_what_is_unknown():
    message = translation.to_status('ff', Phase.QUEUED, Timing(), ros_now_s=1000.0)
    assert (message.deadline, message.predicted_finish) == (Time(), Time())
    assert math.isnan(message.slack_s) and math.isnan(message.response_time_s)
    assert message.release == Time() and math.isnan(message.time_budget_s)


def test_the_status_of_a_request_that_is_over_has_no_nan():
    outcome = Outcome(ErrorCode.INVALID_GOAL, 'why', '', FinishReason.ERROR, Timing())
    message = translation.to_status('ff', Phase.DONE, outcome.timing, ros_now_s=1000.0, outcome=outcome)
    values = {name: getattr(message, name) for name, kind in message.get_fields_and_field_types().items()
              if kind == 'double'}
    assert not [name for name, value in values.items() if math.isnan(value)]
    assert (values['wcet_s'], values['eviction_ratio'], values['timing_factor']) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(('pace', 'release', 'deadline'), [(1.0, 998, 1004), (0.5, 999, 1002)])
def test_release_and_deadline_follow_the_pace_of_simulated_time(pace, release, deadline):
    message = translation.to_status('ff', Phase.QUEUED, Timing(), ros_now_s=1000.0, age_s=2.0, time_left_s=4.0,
                                    pace=pace)
    assert (message.release.sec, message.deadline.sec) == (release, deadline)


@pytest.mark.parametrize('reason, tardiness_s, overrun', [
    (FinishReason.EOS, 0.0, False), (FinishReason.DEADLINE, 0.0, True), (FinishReason.EOS, 0.1, True),
    (FinishReason.ERROR, math.nan, False),
])
def test_overrun_in_the_last_status(reason, tardiness_s, overrun):
    timing = Timing(tardiness_s=tardiness_s)
    code = {FinishReason.DEADLINE: ErrorCode.DEADLINE_MISSED, FinishReason.ERROR: ErrorCode.UNKNOWN}.get(
        reason, ErrorCode.NONE)
    outcome = Outcome(code, 'm' if code else '', '', reason, timing)
    message = translation.to_status('ff', Phase.DONE, timing, ros_now_s=1.0, outcome=outcome)
    assert (message.overrun, message.finish_reason, message.error_code) == (overrun, int(reason), int(code))
