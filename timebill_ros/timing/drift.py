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

"""How much slower the device is now than when it was profiled: thermal throttling, contention, another power mode.

No numpy, no torch.
"""
from __future__ import annotations

import math
from collections import deque
from statistics import median

SLOWEST, FASTEST = 4.0, 0.5  # bounds of the timing factor, where it has any
USUAL = (0.8, 1.5)  # a timing factor outside this range: the profile no longer describes the device


def is_unusual(factor: float) -> bool:
    """Tell whether `factor`, measured over profiled time, says that the profile no longer describes the device."""
    return not USUAL[0] <= factor <= USUAL[1]


class TimingFactor:
    """Measured over profiled time, tracked over the last requests; estimates are multiplied by `value`.

    `value` is the larger of two medians of such ratios, of the last 9 requests and of the last 3. So a device that
    became slower is followed after two requests, because every request until then breaks its promise, and one that
    became faster after five. A single request that was preempted changes nothing.

    bounded: keep `value` within FASTEST and SLOWEST. A profile that extrapolates may be wrong by more.
    """

    window, soon = 9, 3  # requests

    def __init__(self, *, bounded: bool = True):
        self._fastest, self._slowest = (FASTEST, SLOWEST) if bounded else (0.0, math.inf)
        self._ratios: deque[float] = deque(maxlen=self.window)
        self.value = 1.0

    def observe(self, measured_s: float, profiled_s: float) -> None:
        """Account for one request's times, in seconds. A pair without a positive finite ratio is left out."""
        if not (measured_s > 0 and profiled_s > 0 and math.isfinite(measured_s / profiled_s)):
            return
        self._ratios.append(measured_s / profiled_s)
        self._update()

    def _update(self) -> None:
        # Until the window is half full, ratios of 1 (the profile is right) stand for the requests still to come.
        missing = [1.0] * max(0, self.window // 2 - len(self._ratios))
        known = [*missing, *self._ratios]
        self.value = min(max(median(known), median(known[-self.soon:]), self._fastest), self._slowest)

    def state(self) -> list[float]:
        """Return the kept ratios, as JSON-ready data."""
        return list(self._ratios)

    def restore(self, state: list[float]) -> None:
        """Go on from what `state` returned. ValueError or TypeError for anything else."""
        ratios = [float(ratio) for ratio in state]
        if any(not (math.isfinite(ratio) and ratio > 0) for ratio in ratios):
            raise ValueError(f'ratios of times must be positive numbers, got {ratios}')
        self._ratios = deque(ratios, maxlen=self.window)
        self._update()
