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

"""What a monitor knows of a node: the latest goals, from messages of its status and stats topics. No ROS, no drawing.

Instants in ROS time are seconds; `heard` is when a message arrived, on this machine's monotonic clock.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

from timebill_ros.cli.first_verdicts import FirstVerdicts
from timebill_ros.codes import Phase, Verdict

REMEMBERED = 200  # goals
SILENT_S = 1.0  # the node's clock goes on for so long after a message; stats come every half second


@dataclass
class Goal:
    """One goal as the status topic tells of it. An instant is 0 where it is not known, or has not come yet."""

    request_id: str
    release_s: float = 0.0
    deadline_s: float = 0.0
    started_s: float = 0.0
    decoding_s: float = 0.0
    ended_s: float = 0.0
    verdict: int = Verdict.UNKNOWN  # of the first plan: the promise
    latest: object = None  # the latest RequestStatus

    @property
    def is_over(self) -> bool:
        return self.latest.phase >= Phase.DONE

    @property
    def is_missed(self) -> bool:
        """Whether the goal is late now, or was cut or ended late."""
        return bool(self.latest.overrun)


class GoalBoard:
    """The goals in the order in which they came, and the latest DeadlineStats."""

    def __init__(self):
        self.stats = None
        self.stats_heard_s = -math.inf
        self.degraded = False
        self._goals: dict[str, Goal] = {}
        self._verdicts = FirstVerdicts()
        self._stamp_s, self._heard_s = 0.0, -math.inf  # ROS time of the latest message, and when it came

    def take_status(self, m, heard_s: float) -> None:
        """Take note of one RequestStatus."""
        at_s = self._take_stamp(m, heard_s)
        self.degraded = m.degraded
        if not m.request_id:
            return
        goal = self._goals.setdefault(m.request_id, Goal(m.request_id))
        goal.latest, goal.verdict = m, self._verdicts.of(m)
        goal.release_s, goal.deadline_s = _seconds(m.release), _seconds(m.deadline)  # either may move with /clock
        if m.phase in (Phase.PREFILL, Phase.DECODE):
            goal.started_s = goal.started_s or at_s
        if m.phase == Phase.DECODE:
            goal.decoding_s = goal.decoding_s or at_s
        if m.phase >= Phase.DONE:
            goal.ended_s = at_s
        while len(self._goals) > REMEMBERED:
            del self._goals[next(iter(self._goals))]

    def take_stats(self, m, heard_s: float) -> None:
        """Take note of one DeadlineStats."""
        self._take_stamp(m, heard_s)
        self.stats, self.stats_heard_s, self.degraded = m, heard_s, m.degraded

    def latest(self, count: int) -> list[Goal]:
        """Return at most `count` goals: those that are held, and then those that came last; in the order they came."""
        goals = list(self._goals.values())
        held = [goal for goal in goals if not goal.is_over]
        over = [goal for goal in goals if goal.is_over]
        held = held[len(held) - min(count, len(held)):]
        over = over[len(over) - min(count - len(held), len(over)):]
        chosen = {id(goal) for goal in [*held, *over]}
        return [goal for goal in goals if id(goal) in chosen]

    def now_s(self, monotonic_s: float) -> float:
        """Return ROS time as the node has it, from the stamp of the latest message; 0 before the first."""
        return self._stamp_s + min(max(0.0, monotonic_s - self._heard_s), SILENT_S) if self._stamp_s else 0.0

    def _take_stamp(self, m, heard_s: float) -> float:
        self._stamp_s, self._heard_s = _seconds(m.header.stamp), heard_s
        return self._stamp_s


def _seconds(stamp) -> float:
    return stamp.sec + stamp.nanosec * 1e-9
