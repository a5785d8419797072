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

"""The bound on how much longer than estimated whole requests take: a quantile of ratios that forgets. numpy only."""
from __future__ import annotations

import math
import time
from collections.abc import Sequence

from timebill_ros.deadline import Clock
from timebill_ros.length.conformal import WINDOW, ScoreWindow, thinned
from timebill_ros.length.promise_level import PromiseLevel
from timebill_ros.timing.fading import Fading

MEMORY_S = 1800.0  # for how long a ratio is kept
MOST = 3.0
PRIOR_WEIGHT = 40  # requests that the profile's residuals count as: runs of a few steps are noisier than requests


def limited(bound: float, largest: float) -> float:
    """Return `bound` within 1 and MOST. `largest`: the largest ratio of late.

    An infinite bound on a length is cut at N_max. A time has no such limit; a little more than the largest ratio takes
    its place.
    """
    return min(max(bound if math.isfinite(bound) else 1.05 * largest, 1.0), MOST)


class TimeBound:
    """The ratio of measured to estimated time that is exceeded with the probability that `level` leaves for times.

    `ratios` are where it starts from. Ratios that requests have shown are forgotten with time, see Fading. Then the
    bound is what it would be if the requests that are still remembered were the only ones.
    """

    def __init__(self, level: PromiseLevel, ratios: Sequence[float], *, clock: Clock = time.monotonic,
                 wall: Clock = time.time):
        self.level, self._ratios = level, thinned(ratios, PRIOR_WEIGHT)
        # One odd ratio moves a quantile, so none is kept for longer.
        self._seen = Fading(WINDOW, MEMORY_S, gaps=0.0, clock=clock, wall=wall)
        self._replay()

    def _replay(self) -> None:
        self._window = ScoreWindow(self.level.miss_rate / 2, self._ratios)
        for (ratio, *_), _ in self._seen.recall():
            self._window.observe(ratio)

    @property
    def value(self) -> float:
        """The bound that the next request is planned with."""
        return self.exceeded_with(self.level.of_times)

    def exceeded_with(self, probability: float) -> float:
        """Return the ratio that is exceeded with this probability."""
        if self._seen.forget():
            self._replay()
        return limited(self._window.bound(probability), self._window.top(probability))

    def observe(self, ratio: float) -> None:
        """Account for a request."""
        self._seen.observe([ratio])
        self._window.observe(ratio)

    def state(self) -> list[list]:
        """Return what is worth keeping across a restart, as JSON-ready data."""
        return self._seen.state()

    def restore(self, state: list[list]) -> None:
        """Go on from what `state` returned. ValueError or TypeError for anything else."""
        self._seen.restore(state, lambda seen: len(seen) >= 1 and math.isfinite(seen[0]) and seen[0] > 0)
        self._replay()
