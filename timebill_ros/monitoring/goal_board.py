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

import copy
import math
from dataclasses import dataclass, replace

from timebill_ros.codes import Phase, Verdict
from timebill_ros.monitoring.first_verdicts import FirstVerdicts

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

    @property
    def budget_s(self) -> float:
        """Seconds from release to deadline; 0 or less where there is no deadline, or it had passed at the release."""
        return self.deadline_s - self.release_s

    @property
    def expected_s(self) -> float:
        """When the goal is expected to end; 0 where that is not known."""
        return seconds(self.latest.predicted_finish)

    @property
    def worst_s(self) -> float:
        """When the goal ends in the worst case that its plan allows for; 0 where that is not known."""
        return 0.0 if math.isnan(self.latest.slack_s) or not self.deadline_s else self.deadline_s - self.latest.slack_s

    def phase_ends(self, now_s: float) -> tuple[float, float, float]:
        """Return when queueing, prefill and decoding ended. What goes on ends at `now_s`; what never began has no span.

        `now_s`: ROS time.
        """
        until = self.ended_s or now_s
        begun = self.started_s or until
        return begun, self.decoding_s or until, until


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
        goal.release_s, goal.deadline_s = seconds(m.release), seconds(m.deadline)  # either may move with /clock
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

    def goals(self) -> list[Goal]:
        """Return all goals that are remembered, in the order they came."""
        return list(self._goals.values())

    def latest(self, count: int) -> list[Goal]:
        """Return at most `count` goals: those that are held, and then those that came last; in the order they came."""
        goals = self.goals()
        held = [goal for goal in goals if not goal.is_over]
        over = [goal for goal in goals if goal.is_over]
        held = held[len(held) - min(count, len(held)):]
        over = over[len(over) - min(count - len(held), len(over)):]
        chosen = {id(goal) for goal in [*held, *over]}
        return [goal for goal in goals if id(goal) in chosen]

    def now_s(self, monotonic_s: float) -> float:
        """Return ROS time as the node has it, from the stamp of the latest message; 0 before the first."""
        return self._stamp_s + min(max(0.0, monotonic_s - self._heard_s), SILENT_S) if self._stamp_s else 0.0

    def snapshot(self) -> GoalBoard:
        """Return a copy that later messages leave as it is."""
        other = copy.copy(self)
        other._goals = {name: replace(goal) for name, goal in self._goals.items()}
        return other

    def _take_stamp(self, m, heard_s: float) -> float:
        self._stamp_s, self._heard_s = seconds(m.header.stamp), heard_s
        return self._stamp_s


def seconds(stamp) -> float:
    """Return a builtin_interfaces/Time in seconds."""
    return stamp.sec + stamp.nanosec * 1e-9
