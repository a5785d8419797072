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

"""Bounds on the next score that are exceeded at a stated rate, the miss rate. numpy only.

A score is any number that is larger the worse a case was: how surprising a length was (calibration.py), or a request's
measured time over its estimated time. Split conformal prediction (Vovk et al., 2005; Angelopoulos and Bates, arXiv
2107.07511) bounds the next score by a quantile of past scores. Adaptive conformal inference (Gibbs and Candes, arXiv
2106.00170) also moves the level of that quantile after every outcome. Neither needs a predictor that is calibrated, or
an estimate that is right.
"""
from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

STEP = 0.03  # step size (gamma) of the online level; with a smaller one it follows a change too slowly to be of use
WINDOW = 300  # scores that an OnlineQuantile keeps


def conformal_quantile(scores: Sequence[float], miss_rate: float) -> float:
    """Return the bound that the next score exceeds with probability `miss_rate` at most.

    The bound is the k-th smallest of the n scores, k = ceil((n + 1) * (1 - miss_rate)). It is infinite where k > n:
    too few scores for such a promise. It holds if the next score is exchangeable with `scores`.
    """
    n = len(scores)
    k = math.ceil((n + 1) * (1 - miss_rate) - 1e-9)
    if k > n:
        return math.inf
    return float(np.partition(np.asarray(scores, dtype=float), max(k, 1) - 1)[max(k, 1) - 1])


def thinned(scores: Iterable[float], n: int) -> list[float]:
    """Return at most `n` scores, ascending, distributed as all of them are: evenly spaced order statistics.

    `n` or fewer scores come back whole.
    """
    ordered = sorted(scores)
    if len(ordered) <= n:
        return ordered
    return [ordered[int((i + 0.5) * len(ordered) / n)] for i in range(n)]


class OnlineQuantile:
    """A bound on the next score that is exceeded at the rate `miss_rate` in the long run, whatever the scores do.

    Adaptive conformal inference (Gibbs and Candes, arXiv 2106.00170). The bound is the conformal quantile of the kept
    scores at a level that starts at `miss_rate`. After a score above its bound the level falls by
    `step * (1 - miss_rate)`; after any other it rises by `step * miss_rate`. At a level of 0 or below the bound is
    infinite. The last `window` scores are kept, so old ones are forgotten. Because they are, the level need not rise
    beyond four times the miss rate (this cap only makes misses rarer).

    scores:  to start from; more than `window` of them are thinned.

    Raises ValueError for a miss rate outside (0, 1) or a step outside [0.03, 1].
    """

    def __init__(self, miss_rate: float, scores: Iterable[float] = (), *, step: float = STEP, window: int = WINDOW):
        if not 0 < miss_rate < 1:
            raise ValueError(f'miss rate must be above 0 and below 1, got {miss_rate}')
        if not STEP <= step <= 1:
            raise ValueError(f'step must be from {STEP} to 1, got {step}')
        self.miss_rate, self.step = miss_rate, step
        self.level = miss_rate
        self.scores: deque[float] = deque(thinned(scores, window), maxlen=window)
        self._bound: float | None = None  # computed when it is asked for

    def bound(self) -> float:
        """Return the bound on the next score; infinite where nothing can be said."""
        if self._bound is None:  # kept, because it is asked for again and again while one answer is decoded
            self._bound = conformal_quantile(self.scores, self.level) if self.level > 0 else math.inf
        return self._bound

    def observe(self, missed: bool, score: float | None = None, *, counts: bool = True) -> None:
        """Account for one outcome.

        missed:  whether it exceeded its bound.
        score:   None where it is not known.
        counts:  False where nothing was promised. Such an outcome adds its score, and never lowers the level. It raises
                 a level below the miss rate: at the usual pace while the bound is infinite, so that promises can be
                 made again, and then at a tenth of that pace up to the miss rate. A full pace would let easy cases
                 that were not promised make up for missed promises.
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
        # A time may be missed even under an infinite bound. The level must then stay where it can return from.
        self.level = min(max(self.level, -self.step), 4 * self.miss_rate)

    def state(self) -> dict:
        """Return what is worth keeping across a restart, as JSON-ready data."""
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
