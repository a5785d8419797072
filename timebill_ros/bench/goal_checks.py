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

"""Whether a goal ended in a way that the node may end it: the rules by which `timebill bench load` counts errors.

Nothing runs here: records of goals go in, sentences about what is wrong come out. Times are monotonic seconds.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from timebill_ros.codes import ErrorCode, FinishReason, Strategy

SUCCEEDED, CANCELED, ABORTED = 4, 5, 6  # action_msgs/GoalStatus
CLOCK_S = 0.25  # how far apart the node's and a client's view of one instant may be on a busy machine
NEVER_STARTED = (ErrorCode.INFEASIBLE, ErrorCode.SKIPPED, ErrorCode.BUSY)


@dataclass
class GoalRecord:
    """One goal as its client saw it."""

    sent_s: float
    budget_s: float
    strategy: Strategy
    expected: ErrorCode = ErrorCode.NONE  # of a malformed goal: the code that it must end with
    accepted_s: float = math.nan
    received_s: float = math.nan
    canceled_s: float = math.nan  # when a cancel was sent
    status: int = 0
    code: int = 0
    message: str = ''
    reason: int = 0
    text: str = ''
    n_feedback: int = 0
    timing: dict = field(default_factory=dict)  # fields of msg/Timing

    @property
    def is_lost(self) -> bool:
        return math.isnan(self.received_s)

    @property
    def tardiness_s(self) -> float:
        """Tardiness as the node measured it when it set the result; 0 where it measured none."""
        tardiness_s = self.timing.get('tardiness_s', math.nan)
        return 0.0 if math.isnan(tardiness_s) else tardiness_s

    @property
    def lateness_s(self) -> float:
        """Lateness at the client, from sending: the goal's way to the node counts too."""
        return self.received_s - (self.sent_s + self.budget_s)


@dataclass(frozen=True)
class Circumstances:
    """What else went on: the (start, end) of each time without a worker, and of each late goal of SKIP_NEXT."""

    without_worker: Sequence[tuple[float, float]] = ()
    overruns: Sequence[tuple[float, float]] = ()
    queue_size: int = 32
    most_open: int = 0  # goals that were ever open at once


def overruns(records: Sequence[GoalRecord]) -> list[tuple[float, float]]:
    """Return (start, end) of each time that a goal of SKIP_NEXT ran on after its deadline."""
    return [(r.sent_s + r.budget_s, r.received_s) for r in records
            if r.strategy is Strategy.SKIP_NEXT and not r.is_lost and r.tardiness_s > 0]


def _touches(spans: Sequence[tuple[float, float]], start_s: float, end_s: float) -> bool:
    return any(start <= end_s + CLOCK_S and end >= start_s - CLOCK_S for start, end in spans)


def wrong(record: GoalRecord, around: Circumstances) -> str:
    """Return a sentence about what is wrong with the end of this goal, empty for nothing. Not for a lost goal."""
    try:
        code, reason = ErrorCode(record.code), FinishReason(record.reason)
    except ValueError as error:
        return str(error)
    expected_status = SUCCEEDED if code is ErrorCode.NONE else CANCELED if code is ErrorCode.CANCELED else ABORTED
    if record.status != expected_status:
        return f'status {record.status} with code {code.name}'
    if bool(record.message) != (code is not ErrorCode.NONE):
        return f'code {code.name} with the sentence {record.message!r}'
    if record.expected is not ErrorCode.NONE:
        return '' if code is record.expected and reason is FinishReason.ERROR and not record.text else \
            f'a malformed goal ended with {code.name}, not {record.expected.name}'
    if code is ErrorCode.NONE:
        return _wrong_answer(record, reason)
    if record.text and code not in (ErrorCode.CANCELED, ErrorCode.WORKER_LOST):
        return f'{code.name} with a text of {len(record.text)} characters'
    if code is ErrorCode.DEADLINE_MISSED:
        return '' if reason in (FinishReason.DEADLINE, FinishReason.CAPPED) else f'DEADLINE_MISSED with {reason.name}'
    if code is ErrorCode.CANCELED:
        return '' if reason is FinishReason.CANCELED and not math.isnan(record.canceled_s) else \
            f'CANCELED with {reason.name}, cancel sent at {record.canceled_s}'
    if code is ErrorCode.INFEASIBLE:
        return '' if reason is FinishReason.ERROR else f'INFEASIBLE with {reason.name}'
    if code is ErrorCode.WORKER_LOST:
        if record.text and record.strategy is Strategy.KILL:
            return 'WORKER_LOST under KILL with a text'
        return '' if _touches(around.without_worker, record.sent_s, record.received_s) else \
            'WORKER_LOST while there was a worker'
    if code is ErrorCode.SKIPPED:
        return '' if reason is FinishReason.SKIPPED and _touches(around.overruns, record.sent_s, record.received_s) \
            else f'SKIPPED with {reason.name} while no goal was known to be late'
    if code is ErrorCode.BUSY:
        return '' if around.most_open >= around.queue_size else f'BUSY with at most {around.most_open} goals open'
    return f'{code.name}: {record.message[:200]}'


def _wrong_answer(record: GoalRecord, reason: FinishReason) -> str:
    if not record.text:
        return f'success without a text ({reason.name})'
    if reason is FinishReason.DEADLINE:
        return 'KILL succeeded at its deadline' if record.strategy is Strategy.KILL else ''
    if not (reason.is_natural or reason is FinishReason.CAPPED):
        return f'success with {reason.name}'
    return ''


def most_open(records: Sequence[GoalRecord]) -> int:
    """Return the largest number of goals that were open at once."""
    edges = sorted([(r.sent_s, 1) for r in records if not r.is_lost] +
                   [(r.received_s, -1) for r in records if not r.is_lost])
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most
