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

STEP = 0.5  # by which part of the miss rate one miss lowers the level of an OnlineQuantile
LEAST_STEP = 0.1  # a smaller one follows a change too slowly to be of use
DEBT = 3  # misses below level 0 after which no bound is named any more
WINDOW, LARGEST_WINDOW = 300, 1000  # scores that an OnlineQuantile keeps, at least and at most
PER_MISS = 15  # between them it keeps so many for each one beyond the bound: enough to tell where that is


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


def censored_quantile(scores: Sequence[float], cut: Sequence[bool], miss_rate: float) -> float:
    """Return `conformal_quantile` of scores, where those with `cut` are only known to be at least so large.

    The distribution is that of Kaplan and Meier (1958): each cut score hands its share on to all larger ones, the score
    to come among them, which counts as the largest. So short answers are not overrated, as they would be if answers
    that were cut were left out. It holds if what cuts does not depend on the score. Infinite where the cut scores and
    the score to come have a larger share than `miss_rate` beyond the last whole one.
    """
    values, is_cut = np.asarray(scores, dtype=float), np.asarray(cut, dtype=bool)
    order = np.lexsort((is_cut, values))  # of equal scores, the cut ones last: their true score is larger
    beyond = np.cumprod(np.where(is_cut[order], 1.0, 1 - 1 / (len(values) + 1 - np.arange(len(values)))))
    enough = np.flatnonzero(~is_cut[order] & (beyond <= miss_rate + 1e-9))
    return float(values[order[enough[0]]]) if len(enough) else math.inf


def thinned(scores: Iterable[float], n: int) -> list[float]:
    """Return at most `n` scores, ascending, distributed as all of them are: evenly spaced order statistics.

    `n` or fewer scores come back whole.
    """
    ordered = sorted(scores)
    if len(ordered) <= n:
        return ordered
    return [ordered[int((i + 0.5) * len(ordered) / n)] for i in range(n)]


class OnlineQuantile:
    """A bound on the next score that promised cases exceed at the rate `miss_rate` in the long run.

    Adaptive conformal inference (Gibbs and Candes, arXiv 2106.00170). The bound is the conformal quantile of the kept
    scores at a level that starts at `miss_rate`. Only promised cases move the level: one whose score is above its bound
    lowers it by `step * miss_rate * (1 - miss_rate)`, any other one raises it by `step * miss_rate * miss_rate`. So
    the misses of T promises are at most `miss_rate * T` and a few more, as long as the level stays above its floor,
    whatever the share promised is.

    Where the scores name no quantile for the level, the largest of them is the bound. Below level 0 it is stretched, by
    the distance from the median to the largest for each miss, so that the bound outgrows scores which grow. At the
    floor, DEBT misses below 0, the bound is infinite: nothing but the longest answers is promised. Only there cases
    that were not promised count: as many as it takes to make up for one miss (1 / miss_rate) let one more promise be
    tried. So even where every promise is missed, misses are at most a share `miss_rate` of all cases, and nothing is
    locked out for ever. The level need not rise beyond four times the miss rate, because old scores are forgotten (this
    cap only makes misses rarer).

    scores:  to start from, all of them whole; more than the window holds are thinned.
    step:    as a share of the miss rate.

    Raises ValueError for a miss rate outside (0, 1) or a step outside [0.1, 1].
    """

    def __init__(self, miss_rate: float, scores: Iterable[float] = (), *, step: float = STEP):
        if not 0 < miss_rate < 1:
            raise ValueError(f'miss rate must be above 0 and below 1, got {miss_rate}')
        if not LEAST_STEP <= step <= 1:
            raise ValueError(f'step must be from {LEAST_STEP} to 1, got {step}')
        window = min(max(math.ceil(PER_MISS / miss_rate), WINDOW), LARGEST_WINDOW)
        self.miss_rate, self.step = miss_rate, step * miss_rate
        self.level = miss_rate
        self.scores: deque[float] = deque(thinned(scores, window), maxlen=window)
        self._cut = deque([False] * len(self.scores), maxlen=window)  # whether the score is only a lower bound
        self._bound: float | None = None  # computed when it is asked for

    @property
    def _silent(self) -> float:
        """The level at and below which the bound is infinite."""
        return -DEBT * self.step

    def bound(self) -> float:
        """Return the bound on the next score; infinite where nothing can be said."""
        if self._bound is None:  # kept, because it is asked for again and again while one answer is decoded
            self._bound = self._new_bound()
        return self._bound

    def _new_bound(self) -> float:
        if self.level <= self._silent:
            return math.inf
        bound = censored_quantile(self.scores, self._cut, self.level) if self.level > 0 else math.inf
        # So few scores cannot carry the promise at any level: nothing has been seen yet that could stand in.
        return bound if math.isfinite(bound) or (len(self.scores) + 1) * self.miss_rate < 1 else self.top()

    def top(self) -> float:
        """Return the largest score, stretched where the level is below 0; infinite without scores."""
        if not self.scores:
            return math.inf
        largest = max(self.scores)
        return largest + (largest - float(np.median(self.scores))) * max(0.0, -self.level) / self.step

    def observe(self, missed: bool, score: float | None = None, *, cut: bool = False, counts: bool = True) -> None:
        """Account for one outcome.

        missed:  whether it exceeded its bound.
        score:   None where nothing is known of it.
        cut:     the score is at least `score`; it was not seen whole.
        counts:  False where nothing was promised: the level then stays, unless it is at its floor.
        """
        if counts:
            self.level += self.step * (self.miss_rate - missed)
        elif self.level <= self._silent:
            probe = self._silent + 1e-6 * self.step  # just above: the next promise is made with a finite bound
            self.level = min(self.level + self.step * self.miss_rate, probe)
        self._clamp()
        if score is not None:
            self.scores.append(score)
            self._cut.append(cut)
        self._bound = None

    def _clamp(self) -> None:
        # A time may be missed even under an infinite bound, so the level needs a floor that it can return from: one
        # miss below the level at which it falls silent.
        self.level = min(max(self.level, self._silent - self.step * (1 - self.miss_rate)), 4 * self.miss_rate)

    def state(self) -> dict:
        """Return what is worth keeping across a restart, as JSON-ready data. `cut`: numbers of cut scores."""
        return {'level': self.level, 'scores': list(self.scores), 'cut': [i for i, cut in enumerate(self._cut) if cut]}

    def restore(self, state: dict) -> None:
        """Go on from what `state` returned. ValueError, KeyError or TypeError for anything else."""
        level, scores = float(state['level']), [float(score) for score in state['scores']]
        cut = {int(i) for i in state.get('cut', ())}
        if not math.isfinite(level) or any(math.isnan(score) for score in scores):
            raise ValueError(f'level {level} or one of the scores is not a number')
        self.level = level
        self._clamp()
        self.scores = deque(scores, maxlen=self.scores.maxlen)
        self._cut = deque([i in cut for i in range(len(scores))], maxlen=self.scores.maxlen)
        self._bound = None
