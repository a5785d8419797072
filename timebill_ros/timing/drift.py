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
import time
from collections.abc import Sequence

from timebill_ros.deadline import Clock
from timebill_ros.timing.fading import Fading

MEMORY_S = 120.0  # for how long a ratio is kept at least
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

    Ratios are forgotten, see Fading. Without any, `value` is 1: the profile is right.

    bounded: keep `value` within FASTEST and SLOWEST. A profile that extrapolates may be wrong by more.
    """

    window, soon = 9, 3  # requests

    def __init__(self, *, bounded: bool = True, clock: Clock = time.monotonic, wall: Clock = time.time):
        self._fastest, self._slowest = (FASTEST, SLOWEST) if bounded else (0.0, math.inf)
        self._seen = Fading(self.window, MEMORY_S, clock=clock, wall=wall)

    def observe(self, measured_s: float, profiled_s: float) -> None:
        """Account for one request's times, in seconds. A pair without a positive finite ratio is left out."""
        if not (measured_s > 0 and profiled_s > 0 and math.isfinite(measured_s / profiled_s)):
            return
        ratio = measured_s / profiled_s
        if self._seen.is_doubted:  # this is the request that was let through to try
            doubted = _median([(known, 1.0) for known, _ in self._seen.recall()], 1.0, 0.0)
            self._seen.settle(confirmed=ratio >= (1 + doubted) / 2)
        self._seen.observe(ratio)

    def refused(self) -> None:
        """Be less sure after a goal was refused that would have been let through by `value` 1.

        After a few of them `value` is 1, so that a goal is let through to try. It shows whether they were right. That
        is for an unusual `value` only: goals between 1 and a usual one are few, and time forgets it.
        """
        if self.value > USUAL[1]:
            self._seen.fade()

    @property
    def value(self) -> float:
        """The factor that estimates are multiplied by now."""
        return self.value_beside(1.0)

    def value_beside(self, usual: float) -> float:
        """Return `value`, with `usual` in place of 1 for what has not been seen."""
        ratios = self._seen.recall()
        # Until the window is half full, usual ratios stand for the requests still to come.
        found = max(_median(ratios, usual, self.window // 2), _median(ratios[-self.soon:], usual, self.soon))
        return min(max(found, self._fastest), self._slowest)

    @property
    def quickest(self) -> float:
        """The factor of the quickest of the last few requests; `value` at the most.

        For what cannot be taken back, as refusing a goal: about half of all requests are quicker than `value` says.
        """
        return min([self.value, *(ratio for ratio, _ in self._seen.recall()[-self.soon:])])

    def state(self) -> list[list]:
        """Return the kept ratios, as JSON-ready data, see Fading."""
        return self._seen.state()

    def restore(self, state: list[list]) -> None:
        """Go on from what `state` returned. ValueError or TypeError for anything else."""
        self._seen.restore(state, lambda ratio: math.isfinite(ratio) and ratio > 0)


def _median(weighted: Sequence[tuple[float, float]], usual: float, least: float) -> float:
    """Return the median of (value, weight) pairs; `usual` fills their weight up to `least`."""
    known = sorted([*weighted, (usual, max(0.0, least - sum(weight for _, weight in weighted)))])
    half = sum(weight for _, weight in known) / 2
    reached, lower = 0.0, None
    for value, weight in known:
        reached += weight
        if lower is None and reached >= half * (1 - 1e-9):
            lower = value
        if reached > half * (1 + 1e-9):
            return (lower + value) / 2
    return usual


class StepFactors:
    """A timing factor of decode steps for each kind of sampling (request.Sampling.kind).

    Drawing takes part of a step's time, and the profile may foretell it better for one kind than for another. So ratios
    of sampled goals say nothing of greedy ones. A greedy step is mostly the model's, so greedy goals do tell what to
    expect of a kind that has not been seen lately.
    """

    def __init__(self, *, clock: Clock = time.monotonic, wall: Clock = time.time):
        self._clocks = {'clock': clock, 'wall': wall}
        self._greedy = TimingFactor(bounded=False, **self._clocks)
        self._others: dict[str, TimingFactor] = {}
        self.latest = 'greedy'  # kind of the last request

    def _of(self, kind: str) -> TimingFactor:
        return self._greedy if kind == 'greedy' else \
            self._others.setdefault(kind, TimingFactor(bounded=False, **self._clocks))

    def observe(self, kind: str, measured_s: float, profiled_s: float) -> None:
        """Account for one request's decoding, in seconds."""
        self._of(kind).observe(measured_s, profiled_s)
        self.latest = kind

    def refused(self, kind: str) -> None:
        """Be less sure after a goal was refused because of this kind's factor."""
        self._greedy.refused()  # part of every kind's, see `value`
        if kind != 'greedy':
            self._of(kind).refused()

    def value(self, kind: str) -> float:
        """Return how much longer than profiled a step takes now."""
        return self._greedy.value if kind == 'greedy' else self._of(kind).value_beside(self._greedy.value)

    def state(self) -> dict[str, list]:
        """Return what is worth keeping across a restart, by kind, as JSON-ready data."""
        return {'greedy': self._greedy.state(), **{kind: factor.state() for kind, factor in self._others.items()}}

    def restore(self, state: dict[str, list]) -> None:
        """Go on from what `state` returned. ValueError, TypeError or AttributeError for anything else."""
        for kind, ratios in state.items():
            self._of(kind).restore(ratios)
