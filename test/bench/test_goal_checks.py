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

"""The rules that the load bench counts errors by: every end that the node may give a goal, and those it may not."""
import math
from dataclasses import replace

import pytest

from timebill_ros.bench.goal_checks import (
    ABORTED,
    CANCELED,
    SUCCEEDED,
    Circumstances,
    GoalRecord,
    most_open,
    overruns,
    wrong,
)
from timebill_ros.codes import ErrorCode, FinishReason, Strategy

KILL, SKIP_NEXT, TRUNCATE = Strategy.KILL, Strategy.SKIP_NEXT, Strategy.TRUNCATE
QUIET = Circumstances()


def record(code=ErrorCode.NONE, reason=FinishReason.EOS, text='text', message=None, status=None, strategy=TRUNCATE,
           **fields):
    status = status or {ErrorCode.NONE: SUCCEEDED, ErrorCode.CANCELED: CANCELED}.get(code, ABORTED)
    message = ('' if code is ErrorCode.NONE else 'a sentence') if message is None else message
    return GoalRecord(**{'sent_s': 100.0, 'budget_s': 1.0, 'strategy': strategy, 'received_s': 100.9, 'status': status,
                         'code': int(code), 'message': message, 'reason': int(reason), 'text': text, **fields})


def ended(code, reason=FinishReason.ERROR, **fields):
    return record(code, reason, **{'text': '', **fields})


AWAY = Circumstances(without_worker=[(100.5, 104.0)])
LATE = Circumstances(overruns=[(100.2, 100.5)])
FULL = Circumstances(queue_size=4, most_open=5)

RIGHT = [
    (record(), QUIET), (record(reason=FinishReason.STOP), QUIET), (record(reason=FinishReason.LENGTH), QUIET),
    (record(reason=FinishReason.CAPPED, strategy=KILL), QUIET),
    (record(reason=FinishReason.DEADLINE), QUIET), (record(reason=FinishReason.DEADLINE, strategy=SKIP_NEXT), QUIET),
    (ended(ErrorCode.DEADLINE_MISSED, FinishReason.DEADLINE, strategy=KILL), QUIET),
    (ended(ErrorCode.INFEASIBLE), QUIET),
    (record(ErrorCode.CANCELED, FinishReason.CANCELED, canceled_s=100.4), QUIET),
    (record(ErrorCode.WORKER_LOST, FinishReason.ERROR), AWAY), (ended(ErrorCode.WORKER_LOST, strategy=KILL), AWAY),
    (ended(ErrorCode.SKIPPED, FinishReason.SKIPPED), LATE), (ended(ErrorCode.BUSY), FULL),
    (ended(ErrorCode.INVALID_GOAL, expected=ErrorCode.INVALID_GOAL), QUIET),
]
WRONG = [
    (record(text=''), QUIET, 'without a text'),
    (record(message='why'), QUIET, "'why'"),
    (record(status=ABORTED), QUIET, 'status 6'),
    (record(reason=FinishReason.DEADLINE, strategy=KILL), QUIET, 'KILL'),
    (record(reason=FinishReason.ERROR), QUIET, 'ERROR'),
    (ended(ErrorCode.DEADLINE_MISSED, FinishReason.DEADLINE, message=''), QUIET, "sentence ''"),
    (ended(ErrorCode.DEADLINE_MISSED, FinishReason.EOS), QUIET, 'EOS'),
    (record(ErrorCode.DEADLINE_MISSED, FinishReason.DEADLINE), QUIET, '4 characters'),
    (record(ErrorCode.CANCELED, FinishReason.CANCELED), QUIET, 'cancel sent at nan'),
    (ended(ErrorCode.WORKER_LOST), QUIET, 'while there was a worker'),
    (ended(ErrorCode.WORKER_LOST, received_s=100.1), AWAY, 'while there was a worker'),
    (record(ErrorCode.WORKER_LOST, FinishReason.ERROR, strategy=KILL), AWAY, 'under KILL'),
    (ended(ErrorCode.SKIPPED, FinishReason.SKIPPED), QUIET, 'late'),
    (ended(ErrorCode.BUSY), QUIET, 'at most 0'),
    (ended(ErrorCode.UNKNOWN), QUIET, 'UNKNOWN'), (ended(ErrorCode.INACTIVE), QUIET, 'INACTIVE'),
    (ended(ErrorCode.INFEASIBLE, FinishReason.DEADLINE), QUIET, 'DEADLINE'),
    (record(expected=ErrorCode.INVALID_GOAL), QUIET, 'malformed'),
    (ended(ErrorCode.DEADLINE_MISSED, FinishReason.DEADLINE, expected=ErrorCode.INVALID_GOAL), QUIET, 'malformed'),
    (replace(record(), code=4711), QUIET, '4711'), (replace(record(), reason=99), QUIET, '99'),
]


@pytest.mark.parametrize(('goal', 'around'), RIGHT)
def test_right_ends(goal, around):
    assert wrong(goal, around) == ''


@pytest.mark.parametrize(('goal', 'around', 'words'), WRONG)
def test_wrong_ends(goal, around, words):
    assert words in wrong(goal, around)


def test_overruns_are_those_of_late_goals_of_skip_next():
    late = record(strategy=SKIP_NEXT, received_s=103.0, timing={'tardiness_s': 1.9})
    assert overruns([late, record(), record(strategy=SKIP_NEXT), replace(late, received_s=math.nan)]) == [
        (101.0, 103.0)]


def test_the_most_goals_open_at_once():
    spans = [(0.0, 5.0), (1.0, 2.0), (3.0, 4.0), (3.5, math.nan), (6.0, 7.0)]
    assert most_open([record(sent_s=sent, received_s=received) for sent, received in spans]) == 2


def test_lateness_counts_from_sending_and_tardiness_is_the_nodes():
    goal = record(received_s=101.25, timing={'tardiness_s': 0.1})
    assert goal.lateness_s == pytest.approx(0.25) and goal.tardiness_s == 0.1
    assert record(timing={'tardiness_s': math.nan}).tardiness_s == 0.0
    assert record(received_s=math.nan).is_lost
