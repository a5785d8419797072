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

"""One goal as a row: the parts of its bar, its deadline, and the words beside them. No Qt.

A place is where something lies in the area of the bars, from 0 at its left end to 1 at its right.
"""
from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

from timebill_ros.codes import Phase
from timebill_ros.monitoring import wording
from timebill_ros.monitoring.goal_board import Goal
from timebill_ros.monitoring.wording import Said

YEAR_2001_S = 1e9  # ROS time before it is no time of day: a simulation counts from 0
PHASES = (Phase.QUEUED, Phase.PREFILL, Phase.DECODE)


class Part(NamedTuple):
    """A part of a bar, in places. `is_late`: it is beyond the deadline."""

    phase: Phase
    begin: float
    end: float
    is_late: bool = False


@dataclass(frozen=True)
class Row:
    """What is drawn of one goal. A place is None where there is nothing to mark; `words`: why there is no bar."""

    request_id: str
    cells: dict[str, list[Said]]  # by the names of COLUMNS
    verdict: int
    is_missed: bool
    words: str = ''
    parts: tuple[Part, ...] = ()
    release: float = 0.0
    deadline: float | None = None
    expected: float | None = None
    worst: float | None = None
    is_beyond: bool = False  # the bar goes on at the right


def row(goal: Goal, axis, now_s: float) -> Row:
    """Return the row of a goal. `axis`: one of axes.py; `now_s`: ROS time."""
    cells = {'released': [Said(time_of_day(goal.release_s))], 'request': [Said(goal.request_id[:8])],
             'budget': [Said(length(goal.budget_s) if goal.deadline_s else '-')],
             'promise': [Said(wording.promise(goal))], 'slack': [wording.slack(goal, now_s)],
             'tokens': [Said(wording.tokens(goal))], 'state': _state(goal)}
    if words := wording.without_bar(goal):
        return Row(goal.request_id, cells, goal.verdict, goal.is_missed, words)
    deadline = axis.place(goal, goal.deadline_s)
    end = axis.place(goal, goal.phase_ends(now_s)[2])
    held = not goal.is_over
    return Row(
        goal.request_id, cells, goal.verdict, goal.is_missed, parts=tuple(_parts(goal, axis, now_s)),
        release=min(axis.place(goal, goal.release_s), 1.0), deadline=deadline if deadline <= 1.0 else None,
        expected=_after(end, axis.place(goal, goal.expected_s)) if held and goal.expected_s else None,
        worst=_after(end, min(axis.place(goal, goal.worst_s), 1.0)) if held and goal.worst_s else None,
        is_beyond=end > 1.0)


def _parts(goal: Goal, axis, now_s: float):
    """Yield the phases, each in two parts where the deadline came meanwhile."""
    begin_s = goal.release_s
    for phase, end_s in zip(PHASES, goal.phase_ends(now_s), strict=True):
        for is_late, since_s, until_s in ((False, begin_s, min(end_s, goal.deadline_s)),
                                          (True, max(begin_s, goal.deadline_s), end_s)):
            begin, end = min(axis.place(goal, since_s), 1.0), min(axis.place(goal, until_s), 1.0)
            if until_s > since_s and end > begin:
                yield Part(phase, begin, end, is_late)
        begin_s = max(begin_s, end_s)


def _after(end: float, place: float) -> float | None:
    """Return a place that is still to come and in sight, otherwise None."""
    return place if end <= place <= 1.0 else None


def time_of_day(ros_s: float) -> str:
    """Return an instant as the logs have it: this machine's time of day, or seconds where ROS time is simulated."""
    if ros_s < YEAR_2001_S:
        return f'{ros_s:.1f} s' if ros_s else '-'
    return time.strftime('%H:%M:%S', time.localtime(ros_s))


def length(span_s: float) -> str:
    """Return a length of time in few characters."""
    return f'{span_s:.2f} s' if abs(span_s) < 10.0 else f'{span_s:.1f} s' if abs(span_s) < 100.0 else f'{span_s:.0f} s'


def _state(goal: Goal) -> list[Said]:
    """Return how a goal ended, or how far it has come."""
    if goal.is_over:
        return wording.end(goal)
    return [Said(wording.phase(goal)), *(Said(f', {text}', tone) for text, tone in wording.end(goal))]
