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

"""Bounds on the next score that keep a stated miss rate, from the scores of the past. numpy only.

Split conformal prediction (Vovk et al., 2005; Angelopoulos and Bates, arXiv 2107.07511) takes a quantile of past
scores, and adaptive conformal inference (Gibbs and Candes, arXiv 2106.00170) moves the level of that quantile with
every miss. A score is any number that is larger where a case was worse: how surprising a length was (calibration.py),
or how many times its estimate a request took. Neither method needs the predictor or the estimate to be right.
"""
from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

STEP = 0.03  # of the online level per request; smaller ones follow a change too slowly to be of use
WINDOW = 300  # scores kept


def conformal_quantile(scores: Sequence[float], miss_rate: float) -> float:
    """The bound that the next score exceeds with probability `miss_rate` at most, if it is exchangeable with `scores`.

    The ceil((n + 1)(1 - miss_rate))-th smallest of n scores; infinite where n is too small for such a promise.
    """
    n = len(scores)
    k = math.ceil((n + 1) * (1 - miss_rate) - 1e-9)
    if k > n:
        return math.inf
    return float(np.partition(np.asarray(scores, dtype=float), max(k, 1) - 1)[max(k, 1) - 1])


def thinned(scores: Iterable[float], n: int) -> list[float]:
    """At most `n` scores with the distribution of all of them: evenly spaced order statistics."""
    ordered = sorted(scores)
    if len(ordered) <= n:
        return ordered
    return [ordered[int((i + 0.5) * len(ordered) / n)] for i in range(n)]


class OnlineQuantile:
    """A bound on the next score that is exceeded at the rate `miss_rate` in the long run, whatever the scores do.

    Adaptive conformal inference (Gibbs and Candes, arXiv 2106.00170): the level of the quantile falls by
    `step * (1 - miss_rate)` after a score above its bound and rises by `step * miss_rate` after any other. At a level
    of 0 or below the bound is infinite. Scores are kept in a window, so old ones are forgotten; and because they are,
    the level need not rise beyond four times the miss rate (a cap only makes misses rarer).

    Raises ValueError for a miss rate outside (0, 1) or a step below 0.03.
    """

    def __init__(self, miss_rate: float, scores: Iterable[float] = (), *, step: float = STEP, window: int = WINDOW):
        if not 0 < miss_rate < 1:
            raise ValueError(f'miss rate must be above 0 and below 1, got {miss_rate}')
        if not STEP <= step <= 1:
            raise ValueError(f'step must be from {STEP} to 1, got {step}')
        self.miss_rate, self.step = miss_rate, step
        self.level = miss_rate
        self.scores: deque[float] = deque(thinned(scores, window), maxlen=window)
        self._bound: float | None = None  # until it is asked for

    def bound(self) -> float:
        """What the next score is expected to keep to; infinite where nothing can be said."""
        if self._bound is None:  # asked for again and again while one answer is decoded
            self._bound = conformal_quantile(self.scores, self.level) if self.level > 0 else math.inf
        return self._bound

    def observe(self, missed: bool, score: float | None = None, *, counts: bool = True) -> None:
        """Account for one outcome: whether it exceeded its bound, and its score where that is known.

        One that does not count (nothing was promised) lends its score. It helps a fallen level back to where the bound
        is finite, so that promises can be made again, and on to the miss rate at a tenth of the pace: easy cases among
        those would otherwise pay for missed promises.
        """
        if counts:
            self.level += self.step * (self.miss_rate - missed)
        elif self.level < self.miss_rate:
            pace = 1.0 if self.level < 1 / (len(self.scores) + 1) else 0.1
            self.level = min(self.level + pace * self.step * self.miss_rate, self.miss_rate)
        self._clamp()
        if score is not None:
            self.scores.append(score)
        self._bound = None

    def _clamp(self) -> None:
        # Where even an infinite bound does not help (a time), the level must not run away from where it can return.
        self.level = min(max(self.level, -self.step), 4 * self.miss_rate)

    def state(self) -> dict:
        return {'level': self.level, 'scores': list(self.scores)}

    def restore(self, state: dict) -> None:
        """Go on from what `state` returned. ValueError for anything else."""
        level, scores = float(state['level']), [float(score) for score in state['scores']]
        if not math.isfinite(level) or any(math.isnan(score) for score in scores):
            raise ValueError(f'level {level} or one of the scores is not a number')
        self.level = level
        self._clamp()
        self.scores = deque(scores, maxlen=self.scores.maxlen)
        self._bound = None
