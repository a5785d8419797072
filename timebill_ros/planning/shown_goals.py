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

"""What goals show of the level of promises, those without a promise too.

A promise that is made shows only whether the present level is too high. A goal that got none shows more: at which level
it would have had one, and whether it was answered in time all the same. So the level that keeps the miss rate is known
after tens of goals, where single steps take hundreds.
"""
from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable

from timebill_ros.deadline import Clock
from timebill_ros.timing.fading import Fading

FEWEST, MOST, PER_RATE = 200, 1000, 10  # goals that are kept: at least, at most, and between them so many per miss
MEMORY_S = 3600.0  # for how long a goal is kept
DOUBT = 0.5  # of a miss: what is added to those seen for more than the aim (Jeffreys' prior of a share)
LOWEST = 1 / 6  # of the levels, times the miss rate; the highest is 1
PER_DOUBLING = 2  # levels


class ShownGoals:
    """The last goals: of each the least level at which it would have had a promise, and whether it was in time.

    Raises ValueError for a miss rate outside (0, 1).
    """

    def __init__(self, miss_rate: float, *, clock: Clock = time.monotonic, wall: Clock = time.time):
        if not 0 < miss_rate < 1:
            raise ValueError(f'miss rate must be above 0 and below 1, got {miss_rate}')
        n = math.ceil(-PER_DOUBLING * math.log2(LOWEST * miss_rate))
        self.levels = [2.0 ** ((i - n) / PER_DOUBLING) for i in range(n + 1)]
        self.miss_rate = miss_rate
        window = min(max(math.ceil(PER_RATE / miss_rate), FEWEST), MOST)
        self._seen = Fading(window, MEMORY_S, gaps=0.0, clock=clock, wall=wall)
        self._known: tuple[float, float] | None = None  # an aim and its level: each plan asks

    def needed(self, is_promised: Callable[[float], bool]) -> float:
        """Return the least of the levels for which `is_promised` holds; infinite: there is none.

        A rule may promise at a level and not at a higher one. Then it is one of the levels at which promises begin.
        """
        i = bisect_left(self.levels, True, key=is_promised)
        return self.levels[i] if i < len(self.levels) else math.inf

    def observe(self, needed: float, in_time: bool) -> None:
        """Add a goal; one that no level would promise shows nothing."""
        if math.isfinite(needed):
            self._seen.observe([needed, in_time])
            self._known = None

    def level(self, aim: float) -> float:
        """Return the level at which the share `aim` of promises is missed.

        Up to `aim` itself bounds hold by themselves: there a level is too high only where more goals than that were
        missed. A higher one needs so many goals in time that DOUBT of a miss besides changes nothing, and none is
        higher than a goal in time has shown. An aim below the miss rate lowers the level in proportion: what lowered it
        is among the goals, and is not to count twice.
        """
        if aim < self.miss_rate:
            return self.level(self.miss_rate) * aim / self.miss_rate
        known = self._known  # another thread may save the state meanwhile
        if self._seen.forget() or known is None or known[0] != aim:
            self._known = known = aim, self._level(aim)
        return known[1]

    def _level(self, aim: float) -> float:
        goals = sorted((needed, in_time) for (needed, in_time), _ in self._seen.recall())
        found = self.levels[0]
        i = missed = 0
        highest = max((needed for needed, in_time in goals if in_time), default=0.0)
        for level in sorted({*self.levels, aim}):
            while i < len(goals) and goals[i][0] <= level:
                missed += not goals[i][1]
                i += 1
            if missed <= aim * i if level <= aim else level <= highest and missed + DOUBT <= aim * (i + 1):
                found = level
        return found

    def state(self) -> list[list]:
        """Return what is worth keeping across a restart, as JSON-ready data."""
        return self._seen.state()

    def restore(self, state: list[list]) -> None:
        """Go on from what `state` returned. ValueError or TypeError for anything else."""
        self._seen.restore(state, lambda seen: len(seen) == 2 and not isinstance(seen[0], str) and 0 < seen[0] <= 1
                           and seen[1] in (True, False))
        self._known = None
