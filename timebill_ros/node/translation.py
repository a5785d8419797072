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

"""ROS messages <-> the records of request.py. Reads and writes fields, and converts units; decides nothing."""
from __future__ import annotations

import math
from enum import IntEnum

from builtin_interfaces.msg import Time

from timebill_ros import admission
from timebill_ros.action import Generate
from timebill_ros.codes import ErrorCode, FinishReason, GoalError, OnCut, Phase, Strategy, Thinking, ToolChoice
from timebill_ros.msg import ChatMessage, RequestStatus, ToolCall
from timebill_ros.msg import Timing as TimingMessage
from timebill_ros.request import Outcome, Request, Sampling, Timing
from timebill_ros.settings import STRATEGIES

MAX_ERROR_CHARACTERS = 1000  # longest error_msg in a result; an error of torch can be pages


def seconds(stamp) -> float:
    """Return a builtin_interfaces Duration or Time in seconds."""
    return stamp.sec + stamp.nanosec * 1e-9


def stamp(time_s: float) -> Time:
    """Return seconds of ROS time as builtin_interfaces Time; the zero stamp for NaN and what a Time cannot hold."""
    if not 0 <= time_s < 2 ** 31:
        return Time()
    sec = math.floor(time_s)
    return Time(sec=sec, nanosec=min(int((time_s - sec) * 1e9), 999_999_999))


def to_request(goal: Generate.Goal, request_id: str, *, release_s: float, deadline_in_s: float | None, settings: dict,
               margin_s: float, model_sampling: dict[str, float]) -> Request:
    """Return a goal as a request, with the server's defaults filled in. GoalError for what cannot be one.

    Any other exception is a bug here, because admission refuses what clients do wrong.

    `release_s` is a monotonic instant; the goal's absolute deadline, if it has one, is `deadline_in_s` after it.
    `model_sampling`: what the model's generation config says, fields of Sampling by name.

    The goal's own texts are cleared: rclpy keeps every goal until its result expires, and with the texts any client
    could fill the memory. So all goals together hold at most the texts of those that wait and the one that runs:
    (queue_size + 1) * max_prompt_characters characters, and little more for stop strings, the closing text and what the
    response must be.
    """
    try:
        return _to_request(goal, request_id, release_s, deadline_in_s, settings, margin_s, model_sampling)
    finally:
        goal.prompt = goal.closing_text = goal.response_schema = goal.regex = goal.tools = ''
        goal.messages, goal.sampling.stop, goal.choices = [], [], []


def _to_request(goal: Generate.Goal, request_id: str, release_s: float, deadline_in_s: float | None, settings: dict,
                margin_s: float, model_sampling: dict[str, float]) -> Request:
    strategy, on_cut, tool_choice, thinking = (
        _constant(goal, name, kind) for name, kind in (('overrun_strategy', Strategy), ('on_cut', OnCut),
                                                       ('tool_choice', ToolChoice), ('thinking', Thinking)))
    deadline_s = admission.resolve_deadline(
        release_s=release_s, time_budget_s=seconds(goal.time_budget), deadline_in_s=deadline_in_s,
        default_time_budget_s=settings['default_time_budget_s'])
    ratio = goal.max_eviction_ratio
    s = goal.sampling
    if strategy is Strategy.DEFAULT:
        strategy = STRATEGIES[settings['default_overrun_strategy']]
    request = Request(
        request_id, release_s, deadline_s, prompt='' if goal.messages else goal.prompt,
        messages=[_message(m) for m in goal.messages],
        strategy=strategy, max_overrun_s=settings['max_overrun_s'] if strategy is Strategy.SKIP_NEXT else 0.0,
        max_new_tokens=goal.max_new_tokens or settings['default_max_new_tokens'],
        sampling=admission.resolve_sampling(
            Sampling(s.temperature, s.top_p, s.top_k, s.seed, list(s.stop), s.min_p, s.repetition_penalty),
            model_sampling if settings['sampling_defaults'] == 'model' else {}),
        max_eviction_ratio=settings['max_eviction_ratio'] if ratio < 0 else ratio,
        priority=goal.priority, closing_text=goal.closing_text, stop_at_line_end=goal.stop_at_line_end,
        response_schema=goal.response_schema, choices=list(goal.choices), regex=goal.regex, on_cut=on_cut,
        tools=goal.tools, tool_choice=tool_choice, thinking=thinking,
        delivery_margin_s=margin_s, on_long_history=settings['on_long_history'], allow_offboard=goal.allow_offboard)
    request.sampling.masked = request.has_form or bool(request.tools)
    admission.check(request, max_prompt_characters=settings['max_prompt_characters'])
    return request


def _constant(goal: Generate.Goal, name: str, kind: type[IntEnum]):
    """Return a field that is one of the constants `kind`. GoalError for another number."""
    try:
        return kind(getattr(goal, name))
    except ValueError:
        raise GoalError(ErrorCode.INVALID_GOAL, f'unknown {name} {getattr(goal, name)}: it must be one of '
                        + ', '.join(f'{int(one)} ({one.name})' for one in kind)) from None


def _message(message: ChatMessage) -> dict:
    """Return a turn of a conversation, without the fields that are empty."""
    made: dict = {'role': message.role, 'content': message.content}
    if message.tool_calls:
        made['tool_calls'] = [{'id': call.id, 'name': call.name, 'arguments': call.arguments}
                              for call in message.tool_calls]
    if message.tool_call_id:
        made['tool_call_id'] = message.tool_call_id
    return made


def to_timing(timing: Timing) -> TimingMessage:
    """Return the account of a request as a message."""
    message = TimingMessage()
    for name in message.get_fields_and_field_types():
        value = getattr(timing, name)
        setattr(message, name, int(value) if isinstance(value, IntEnum) else value)
    return message


def to_result(outcome: Outcome) -> Generate.Result:
    """Return the end of a request as the result of its goal."""
    return Generate.Result(error_code=int(outcome.error_code), error_msg=outcome.error_msg[:MAX_ERROR_CHARACTERS],
                           text=outcome.text, finish_reason=int(outcome.finish_reason),
                           generated_characters=len(outcome.text) - outcome.added_characters,
                           dropped_items=outcome.dropped_items,
                           tool_calls=[ToolCall(**call) for call in outcome.tool_calls], reasoning=outcome.reasoning,
                           timing=to_timing(outcome.timing))


def failure(message: str) -> Generate.Result:
    """Return the result of a goal of which the node can say nothing but what went wrong."""
    timing = to_timing(Timing())
    return Generate.Result(error_code=int(ErrorCode.UNKNOWN), error_msg=message[:MAX_ERROR_CHARACTERS],
                           finish_reason=int(FinishReason.ERROR), timing=timing)


def to_status(request_id: str, phase: Phase, timing: Timing, *, ros_now_s: float, time_left_s: float = math.nan,
              age_s: float = math.nan, strategy: int = 0, priority: int = 0, queue_position: int = 0,
              remaining_s: tuple[float, float] = (math.nan, math.nan), outcome: Outcome | None = None,
              timing_factor: float = 1.0, degraded: bool = False, pace: float = 1.0) -> RequestStatus:
    """Return the status of a request now.

    `age_s` is the time since the release, `time_left_s` the time to the deadline, `remaining_s` the estimated time to
    the end at the predicted and at the pessimistic length; all are real seconds from `ros_now_s`, NaN where unknown.
    `pace` is the pace of ROS time, in simulated seconds per real one.
    """
    expected_s, worst_s = remaining_s
    late = outcome is None and time_left_s < 0  # the request runs on after its deadline
    message = RequestStatus(
        request_id=request_id, phase=int(phase), verdict=int(timing.verdict), strategy=int(strategy), priority=priority,
        queue_position=queue_position, release=stamp(ros_now_s - pace * age_s), time_budget_s=timing.time_budget_s,
        deadline=stamp(ros_now_s + pace * time_left_s), predicted_finish=stamp(ros_now_s + pace * expected_s),
        # As for time_budget_s: a plot has no place for the years since a deadline that had passed at the release.
        slack_s=max(time_left_s, -age_s) - worst_s, wcet_s=timing.wcet_s, response_time_s=timing.response_time_s,
        tardiness_s=-time_left_s if late else timing.tardiness_s, eviction_ratio=timing.eviction_ratio,
        predicted_tokens=timing.predicted_tokens, pessimistic_tokens=timing.pessimistic_tokens,
        generated_tokens=timing.generated_tokens, reused_tokens=timing.reused_tokens, timing_factor=timing_factor,
        variant=timing.variant, overrun=late, degraded=degraded, tier=int(timing.tier),
        offboard_verdict=int(timing.offboard_verdict), offboard_wcet_s=timing.offboard_wcet_s,
        offboard_s=timing.offboard_s)
    message.header.stamp = stamp(ros_now_s)
    if outcome is not None:
        message.finish_reason, message.error_code = int(outcome.finish_reason), int(outcome.error_code)
        message.overrun = outcome.finish_reason is FinishReason.DEADLINE or timing.tardiness_s > 0
        _fill(message, 0.0)  # a plot has no place for NaN, and rqt_plot fails where a record begins with it
    return message


def to_health(degraded: bool, ros_now_s: float) -> RequestStatus:
    """Return a status that concerns no request: `degraded` has changed."""
    message = RequestStatus(degraded=degraded)
    for name in _doubles(message):
        setattr(message, name, math.nan)
    message.header.stamp = stamp(ros_now_s)
    return message


def _doubles(message) -> list[str]:
    return [name for name, kind in message.get_fields_and_field_types().items() if kind == 'double']


def _fill(message, value: float) -> None:
    """Put `value` where a float64 is NaN."""
    for name in _doubles(message):
        if math.isnan(getattr(message, name)):
            setattr(message, name, value)
