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

"""The stats of the last minutes, for plots over time. No Qt."""
from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass

from timebill_ros.monitoring.goal_board import seconds

KEPT_S = 600.0
MOST_POINTS = 2400  # stats come twice a second; a publisher with another rate must not fill the memory


@dataclass(frozen=True)
class Point:
    """What one DeadlineStats says. `at_s`: ROS time; `miss_rate`: None where no promised goal has ended lately."""

    at_s: float
    miss_rate: float | None
    allowed: float
    step_factor: float
    prefill_factor: float


class StatsHistory:
    """The points in the order of time."""

    def __init__(self):
        self._points: deque[Point] = deque(maxlen=MOST_POINTS)

    def take(self, m) -> None:
        """Take note of one DeadlineStats. Where time has gone back, as in a simulation that began anew, forget all."""
        at_s = seconds(m.header.stamp)
        if self._points and at_s < self._points[-1].at_s:
            self._points.clear()
        if self._points and at_s == self._points[-1].at_s:  # /clock stands still
            self._points.pop()
        self._points.append(Point(at_s, m.miss_rate if m.miss_rate_is_current else None, m.miss_rate_allowed,
                                  m.timing_factor, m.prefill_factor))
        while self._points[0].at_s < at_s - KEPT_S:
            self._points.popleft()

    def points(self) -> list[Point]:
        return list(self._points)

    def snapshot(self) -> StatsHistory:
        """Return a copy that later messages leave as it is."""
        other = StatsHistory()
        other._points = copy.copy(self._points)
        return other
