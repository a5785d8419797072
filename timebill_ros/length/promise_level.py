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

"""How sure a plan must be for a promise, so that promises are missed at a stated rate and hardly less often.

A promise is made with bounds on a length and on a time, each of which is exceeded with some probability. What becomes
of a promise is another thing: a budget is mostly longer than the bounds need, and what is planned anew while an answer
grows saves many that exceed them. So promises whose bounds are exceeded at the miss rate would be missed far less
often, and goals would get no promise that could have one. Here the probability follows what promises came to, and what
other goals show (planning/shown_goals.py).
"""
from __future__ import annotations

import math
import time
from collections.abc import Callable

from timebill_ros.deadline import Clock

STEP = 0.5  # a larger one follows a change sooner, and promises and refuses by turns
LEAST_STEP, LARGEST_STEP = 0.1, 3.0
HIGHEST = 4.0  # of the aim, times the miss rate: promises kept in a row make up for misses after them
HIGHEST_EACH = 0.5  # of a bound: what is promised is more likely than not to be within each
LOWEST = 0.02  # of the aim, times the miss rate: at and below it the bounds are infinite
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the level that lengths may have
STAY = 0.99  # another share has to cost less than this part of what the present one costs
HALF_LIFE_S = 2700.0  # over the step: in it an aim that misses have lowered is half-way back, on a scale of factors


class PromiseLevel:
    """A probability that starts at `miss_rate` and follows outcomes, by way of an aim.

    The aim is the share of promises that may be missed now: adaptive conformal inference (Gibbs and Candes, arXiv
    2106.00170) on a scale of factors, by promises only. It starts at `miss_rate`; each promise that was kept multiplies
    it by `exp(step * miss_rate)`, each that was missed by `exp(-step * (1 - miss_rate))`. As it has a floor and a
    ceiling, the misses of T promises are at most `miss_rate * T` and `log(HIGHEST / LOWEST) / step` more, whatever
    lengths and times do, while goals come often (below). Where promises could be missed more often, they approach that
    rate.

    The level is `level_for(aim)`: what goals have shown to be missed at that rate. Without it the two are the same.

    Promises of goals with time to spare (tracker.py says which) raise the aim to the miss rate at the most: they are
    kept whatever the level, and show nothing of what others come to. Otherwise a client that gives its goals hours
    would have others promised what they hardly get.

    At the floor nothing can be said, and the bounds are infinite: nothing but the longest answers is promised. There
    goals without a promise count too: as many as make up for one miss let one more promise be tried. An aim below the
    miss rate also comes back with time, as what lowered it may be over; so a restart or an idle hour locks nothing out.
    Goals that come so rarely that it comes back between them are missed more often, if all are.

    The level is shared between the two bounds, see `share_by`.

    Raises ValueError for a miss rate outside (0, 1) or a step outside [0.1, 3].
    """

    def __init__(self, miss_rate: float, *, step: float = STEP, level_for: Callable[[float], float] | None = None,
                 clock: Clock = time.monotonic, wall: Clock = time.time):
        if not 0 < miss_rate < 1:
            raise ValueError(f'miss rate must be above 0 and below 1, got {miss_rate}')
        if not LEAST_STEP <= step <= LARGEST_STEP:
            raise ValueError(f'step must be from {LEAST_STEP} to {LARGEST_STEP}, got {step}')
        self.miss_rate, self.step, self.length_share = miss_rate, step, 0.5
        self._clock, self._wall, self._level_for = clock, wall, level_for
        self._floor, self._ceiling = math.log(LOWEST * miss_rate), math.log(min(HIGHEST * miss_rate, 1.0))
        self._log, self._set_s = math.log(miss_rate), clock()
        self.value = miss_rate  # the level; 0: the bounds are infinite

    @property
    def aim(self) -> float:
        """The share of promises that may be missed now; 0 where it is at most LOWEST times the miss rate."""
        return math.exp(self._log) if self._log > self._floor else 0.0

    def come_back(self) -> None:
        """Raise an aim below the miss rate for the time that has passed, and set the level.

        The level is the same until the next call of this or of `observe`.
        """
        now, middle = self._clock(), math.log(self.miss_rate)
        if self._log < middle:
            self._log = middle - (middle - self._log) * 0.5 ** ((now - self._set_s) * self.step / HALF_LIFE_S)
        self._set_s = now
        self._set_level()

    def _set_level(self) -> None:
        aim = self.aim
        self.value = self._level_for(aim) if aim and self._level_for else aim

    @property
    def of_lengths(self) -> float:
        """The probability with which a length may exceed its bound; 0: the bound is infinite."""
        return min(self.value * self.length_share, HIGHEST_EACH)

    @property
    def of_times(self) -> float:
        """The probability with which a time may exceed its bound; 0: the bound is infinite."""
        return min(self.value * (1 - self.length_share), HIGHEST_EACH)

    def observe(self, kept: bool | None, *, ample: bool = False) -> None:
        """Account for a goal: whether its promise was kept, or None where nothing was promised.

        `ample`: whether the goal had time to spare.
        """
        self.come_back()
        is_silent = self.aim == 0
        if kept and ample:
            self._log = max(self._log, min(self._log + self.step * self.miss_rate, math.log(self.miss_rate)))
        elif kept is not None:
            self._log += self.step * (self.miss_rate - (not kept))
        elif is_silent:
            just_above = self._floor + 1e-6
            self._log = min(self._log + self.step * self.miss_rate, just_above)
        self._clamp()

    def _clamp(self) -> None:
        # A time may be missed even under an infinite bound, so there is a floor to return from: one miss below silence.
        lowest = self._floor - self.step * (1 - self.miss_rate)
        self._log = min(max(self._log, lowest), self._ceiling)
        self._set_level()

    def lower_to_miss_rate(self) -> None:
        """Take back what promises that were kept have raised."""
        self._log = min(self._log, math.log(self.miss_rate))
        self._clamp()

    def share_by(self, cost: Callable[[], float]) -> None:
        """Give lengths the share of SHARES with which `cost()` is least; it is asked once for each."""
        present, costs = self.length_share, {}
        for share in SHARES:
            self.length_share = share
            costs[share] = cost() * (STAY if share == present else 1.0)
        self.length_share = min(costs, key=lambda share: (costs[share], share != present))

    def state(self) -> dict:
        """Return what is worth keeping across a restart, as JSON-ready data."""
        self.come_back()
        return {'log_level': self._log, 'length_share': self.length_share, 'date': self._wall()}

    def restore(self, state: dict) -> None:
        """Go on from what `state` returned; time has passed for it. ValueError, KeyError or TypeError for another."""
        level, share, date = (float(state[name]) for name in ('log_level', 'length_share', 'date'))
        if not (math.isfinite(level) and 0 < share < 1 and math.isfinite(date)):
            raise ValueError(f'{state!r} is no state of a promise level')
        self._log, self.length_share = level, share
        self._set_s = self._clock() - max(0.0, self._wall() - date)
        self._clamp()
