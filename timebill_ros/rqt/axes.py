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

"""Where an instant lies in the area of the bars, from 0 at its left end to 1 at its right. No Qt."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from timebill_ros.monitoring.goal_board import Goal
from timebill_ros.monitoring.wording import without_bar

SHARE = 0.8  # of the width: up to the deadline, or to now; the rest is for what is late, or still to come
SHORTEST_S = 1.0  # of an axis of time
STEPS = (1, 2, 5)  # of the labels of an axis, times a power of ten
MOST_STEPS = 6


@dataclass(frozen=True)
class Tick:
    """A label of an axis. `place`: from 0 to 1; `is_main`: others make way for it."""

    place: float
    label: str
    is_main: bool = False


@dataclass(frozen=True)
class BudgetAxis:
    """Each goal begins at the left, and the deadlines of all lie above one another."""

    title: str = 'share of the budget used'

    def place(self, goal: Goal, instant_s: float) -> float:
        """Return where an instant of a goal lies; it may be beyond 1. `instant_s`: ROS time."""
        return max(0.0, (instant_s - goal.release_s) / goal.budget_s * SHARE)

    def ticks(self) -> list[Tick]:
        shares = ((0.0, '0 %'), (0.25, '25 %'), (0.5, '50 %'), (0.75, '75 %'), (1.0, 'deadline'), (1.25, '125 %'))
        return [Tick(share * SHARE, label, share == 1.0) for share, label in shares]


@dataclass(frozen=True)
class ClockAxis:
    """One axis of time for all goals. `begin_s`, `end_s`: ROS time at the left end and at SHARE of the width.

    `origin`: what `end_s` is.
    """

    begin_s: float
    end_s: float
    origin: str = 'now'

    @property
    def title(self) -> str:
        return f'time from {self.origin}'

    def place(self, goal: Goal, instant_s: float) -> float:
        """Return where an instant lies; it may be beyond 1. `instant_s`: ROS time."""
        return self.place_of(instant_s)

    def place_of(self, instant_s: float) -> float:
        return max(0.0, (instant_s - self.begin_s) / (self.end_s - self.begin_s) * SHARE)

    def ticks(self) -> list[Tick]:
        span_s = (self.end_s - self.begin_s) / SHARE
        step_s = step(span_s)
        first = math.ceil((self.begin_s - self.end_s) / step_s)
        last = math.floor((self.begin_s + span_s - self.end_s) / step_s)
        return [Tick(self.place_of(self.end_s + i * step_s), self.origin if i == 0 else f'{i * step_s:+g} s', i == 0)
                for i in range(first, last + 1)]


def budget_axis(goals: Sequence[Goal], now_s: float) -> BudgetAxis:
    """Return the axis on which deadlines can be compared."""
    return BudgetAxis()


def clock_axis(goals: Sequence[Goal], now_s: float) -> ClockAxis:
    """Return an axis from the first release of these goals to now, or to the last end where none of them is held."""
    with_bars = [goal for goal in goals if not without_bar(goal)]
    is_held = any(not goal.is_over for goal in with_bars)
    end_s = max((goal.phase_ends(now_s)[2] for goal in with_bars), default=now_s)
    begin_s = min((goal.release_s for goal in with_bars), default=now_s)
    return ClockAxis(min(begin_s, end_s - SHORTEST_S), end_s, 'now' if is_held or not with_bars else 'the last end')


AXES = {'against the deadline': budget_axis, 'over time': clock_axis}


def step(span: float) -> float:
    """Return the distance of labels: 1, 2 or 5 times a power of ten, so that MOST_STEPS at most fit into `span`."""
    power = 10.0 ** math.floor(math.log10(span / MOST_STEPS))
    return next((power * factor for factor in STEPS if span / (power * factor) <= MOST_STEPS), power * 10.0)
