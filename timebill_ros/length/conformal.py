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
2107.07511) bounds the next score by a quantile of past scores. It needs neither a predictor that is calibrated nor an
estimate that is right. Which quantile it is under the policy `adaptive` follows outcomes, see promise_level.py.
"""
from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

WINDOW, LARGEST_WINDOW = 300, 1000  # scores that a ScoreWindow keeps, at least and at most
PER_MISS = 15  # between them it keeps so many for each one beyond the bound: enough to tell where that is
LEAST = 1e-9  # probability
MOST_KNOWN = 64  # bounds


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


def interleaved(ordered: Sequence[float]) -> list[float]:
    """Return ascending scores in an order in which the last ones, however many, are distributed as all of them are."""
    golden = (math.sqrt(5) - 1) / 2  # whose multiples fill the unit interval evenly
    return [ordered[i] for i in sorted(range(len(ordered)), key=lambda i: i * golden % 1)]


class ScoreWindow:
    """The last scores, and the bound that the next one exceeds with a given probability.

    Where the scores name no quantile, because the probability is too small for so few, the largest of them is the
    bound, stretched by the distance from the median to the largest for each factor of e that the probability is smaller
    still. So the bound outgrows scores which grow. Fewer than 1 / miss_rate - 1 scores cannot carry that: then the
    bound is infinite.

    scores:     to start from, all of them whole; more than the window holds are thinned. Later ones push out small and
                large ones alike.
    miss_rate:  the smallest probability that is asked for in the long run; it says how many scores are kept.

    Raises ValueError for a miss rate outside (0, 1).
    """

    def __init__(self, miss_rate: float, scores: Iterable[float] = ()):
        if not 0 < miss_rate < 1:
            raise ValueError(f'miss rate must be above 0 and below 1, got {miss_rate}')
        window = min(max(math.ceil(PER_MISS / miss_rate), WINDOW), LARGEST_WINDOW)
        self.miss_rate = miss_rate
        self.scores: deque[float] = deque(interleaved(thinned(scores, window)), maxlen=window)
        self._cut = deque([False] * len(self.scores), maxlen=window)  # whether the score is only a lower bound
        self._known: dict[float, float] = {}  # bounds by probability: asked for again and again while one decodes

    def bound(self, probability: float) -> float:
        """Return the bound; infinite for the probability 0, and where there are too few scores."""
        known = self._known.get(probability)
        if known is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            known = self._known[probability] = self._new_bound(probability)
        return known

    def _new_bound(self, probability: float) -> float:
        if probability <= 0:
            return math.inf
        bound = censored_quantile(self.scores, self._cut, probability)
        # So few scores: nothing has been seen yet that could stand in.
        return bound if math.isfinite(bound) or (len(self.scores) + 1) * self.miss_rate < 1 else self.top(probability)

    def top(self, probability: float) -> float:
        """Return the largest score, stretched where the probability is small; infinite without scores."""
        if not self.scores:
            return math.inf
        largest, missing = max(self.scores), -math.log(max(probability, LEAST) * (len(self.scores) + 1))
        return largest + (largest - float(np.median(self.scores))) * max(0.0, missing)

    def observe(self, score: float, *, cut: bool = False) -> None:
        """Add a score; `cut`: it is at least `score`, and was not seen whole."""
        self.scores.append(score)
        self._cut.append(cut)
        self._known.clear()

    def state(self) -> dict:
        """Return what is worth keeping across a restart, as JSON-ready data. `cut`: numbers of cut scores."""
        return {'scores': list(self.scores), 'cut': [i for i, cut in enumerate(self._cut) if cut]}

    def restore(self, state: dict) -> None:
        """Go on from what `state` returned. ValueError, KeyError or TypeError for anything else."""
        scores, cut = [float(score) for score in state['scores']], {int(i) for i in state.get('cut', ())}
        if any(math.isnan(score) for score in scores):
            raise ValueError('one of the scores is not a number')
        self.scores = deque(scores, maxlen=self.scores.maxlen)
        self._cut = deque([i in cut for i in range(len(scores))], maxlen=self.scores.maxlen)
        self._known.clear()
