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

"""How long a response may get, and how much longer than estimated it may take: bounds that keep a stated miss rate.

The planner plans for the pessimistic length `N_W`. How it follows from the prediction is a policy of its own: a new
one is a class with the methods of `PessimisticLength` and a row in the test matrix.

Scores of split conformal prediction (Vovk et al., 2005; Angelopoulos and Bates, arXiv 2107.07511) say how surprising
an observed length was to the predictor: minus the logarithm of the probability that was left for it and longer ones.
The bound is a quantile of past scores, and so does not depend on the predictor being calibrated. numpy only.
"""
from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from timebill_ros.length.length_distribution import LengthDistribution

STEP = 0.03  # of the online level per request; smaller ones follow a change too slowly to be of use
WINDOW = 300  # scores kept
MOST_SURPRISE = 700.0  # of a length that the predictor gave no chance; exp(-700) is still a number


def surprise(distribution: LengthDistribution, n: int) -> float:
    """Score of the length `n` (tokens): -log P(length >= n), n's bucket counted whole; 0 or more."""
    tail = distribution.tail(n)
    # Sums of probabilities may come out a hair above 1.
    return min(max(-math.log(tail), 0.0), MOST_SURPRISE) if tail > 0 else MOST_SURPRISE


def conformal_quantile(scores: Sequence[float], miss_rate: float) -> float:
    """The bound that the next score exceeds with probability `miss_rate` at most, if it is exchangeable with `scores`.

    The ceil((n + 1)(1 - miss_rate))-th smallest of n scores; infinite where n is too small for such a promise.
    """
    n = len(scores)
    k = math.ceil((n + 1) * (1 - miss_rate) - 1e-9)
    if k > n:
        return math.inf
    return float(np.partition(np.asarray(scores, dtype=float), max(k, 1) - 1)[max(k, 1) - 1])


SCORES_FILE = 'calibration.json'  # beside a length predictor's other files
SCORES_FORMAT = 1


def save_scores(path: Path, scores: Sequence[float], **facts) -> None:
    """Write scores of calibration prompts, with what is to be known about them (where they come from)."""
    data = {'format': SCORES_FORMAT, **facts, 'scores': [round(float(score), 5) for score in scores]}
    path.write_text(json.dumps(data) + '\n', encoding='utf-8')


def load_scores(path: Path) -> list[float]:
    """The scores of a file that `save_scores` wrote; none where there is no file. ValueError for any other file."""
    if not path.is_file():
        return []
    try:
        data = json.loads(path.read_text(encoding='utf-8'))
        if data['format'] != SCORES_FORMAT:
            raise ValueError(f'its format is {data["format"]!r}, not {SCORES_FORMAT}')
        scores = [float(score) for score in data['scores']]
        if not all(score >= 0 for score in scores):  # NaN is not either
            raise ValueError('a score is negative or not a number')
        return scores
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f'calibration scores {path} cannot be used: {type(error).__name__}: {error}') from error


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


class PessimisticLength(ABC):
    """The rule that turns a predicted distribution into the length to plan for."""

    @abstractmethod
    def pessimistic(self, distribution: LengthDistribution, n_max: int, generated: int = 0) -> int:
        """The pessimistic length N_W in tokens: at least 1 and at most `n_max`, the response's hard limit.

        `generated`: that many tokens have come and the response goes on, so N_W is larger.
        """

    def observe(self, distribution: LengthDistribution, n: int, *, n_w: int, n_max: int,  # noqa: B027
                ended: bool, promised: bool = True) -> None:
        """Learn from a response of `n` tokens that had been planned for `n_w`; `n_max` was its own limit.

        `ended`: it came to its natural end, or to that limit. One that was cut at N_W or later has exceeded it; one
        that was cut before says nothing about lengths. One that ended is exact, and no miss even beyond N_W: there was
        time for it. (Not abstract: a rule need not learn.)
        """

    def state(self) -> dict:
        """What is worth keeping across a restart, as JSON-ready data."""
        return {}

    def restore(self, state: dict) -> None:  # noqa: B027 optional
        """Go on from what `state` returned. ValueError, KeyError or TypeError for anything else."""


def _within(distribution: LengthDistribution, bound: float, n_max: int, generated: int) -> int:
    """The longest length, at most `n_max`, whose surprise (given that `generated` tokens came) is within `bound`."""
    if n_max < 1:
        raise ValueError(f'n_max must be at least 1, got {n_max}')
    left = distribution.tail(generated + 1) if generated else 1.0
    if bound >= MOST_SURPRISE or left == 0:
        return n_max
    # The tolerance: exp(-surprise(n)) may come out a hair above the tail that it was made of.
    longest = distribution.longest_with_tail(math.exp(-bound) * left * (1 - 1e-9))
    return n_max if longest is None else min(max(longest, generated + 1), n_max)


def expected(distribution: LengthDistribution, n_max: int, generated: int = 0) -> int:
    """N_hat once `generated` tokens have come: the median of the lengths that are left, at most `n_max`.

    As for any prediction the last bucket counts with its upper edge; beyond that nothing is known but `n_max`.
    """
    longest = distribution.bucket_size * distribution.n_buckets
    left = distribution.tail(generated + 1) if generated < longest else 0.0
    if left == 0:
        return n_max
    return min(max(distribution.longest_with_tail(left / 2) or longest, generated + 1), n_max)


@dataclass(frozen=True)
class FixedFactor(PessimisticLength):
    """`N_W = min(ceil(k * N_hat), N_max)`: the TimeBill paper's rule (arXiv 2512.21859), there with k = 5.

    Raises ValueError for k below 1 or not finite.
    """

    k: float = 5.0

    def __post_init__(self):
        if not (math.isfinite(self.k) and self.k >= 1):
            raise ValueError(f'pessimistic factor k must be a finite number from 1 up, got {self.k}')

    def pessimistic(self, distribution: LengthDistribution, n_max: int, generated: int = 0) -> int:
        if n_max < 1:
            raise ValueError(f'n_max must be at least 1, got {n_max}')
        n_w = min(math.ceil(self.k * distribution.median()), n_max)
        return n_w if n_w > generated else n_max


class Conformal(PessimisticLength):
    """Split conformal: the quantile of the scores of calibration prompts, fixed.

    The length exceeds N_W with probability `miss_rate` at most while prompts are like those of calibration. With too
    few scores for that (fewer than 1 / miss_rate - 1) N_W is N_max.
    """

    def __init__(self, scores: Sequence[float], miss_rate: float):
        if not 0 < miss_rate < 1:
            raise ValueError(f'miss rate must be above 0 and below 1, got {miss_rate}')
        self.bound = conformal_quantile(scores, miss_rate)

    def pessimistic(self, distribution: LengthDistribution, n_max: int, generated: int = 0) -> int:
        return _within(distribution, self.bound, n_max, generated)


class Adaptive(PessimisticLength):
    """Conformal with a level and scores that follow what is observed, so that the miss rate is kept under drift."""

    def __init__(self, scores: Sequence[float], miss_rate: float, **options):
        self.quantile = OnlineQuantile(miss_rate, scores, **options)

    def pessimistic(self, distribution: LengthDistribution, n_max: int, generated: int = 0) -> int:
        return _within(distribution, self.quantile.bound(), n_max, generated)

    def observe(self, distribution: LengthDistribution, n: int, *, n_w: int, n_max: int, ended: bool,
                promised: bool = True) -> None:
        if ended:
            # The length is exact at the limit too, but how surprising the unlimited one had been is not known.
            self.quantile.observe(False, surprise(distribution, n) if n < n_max else None, counts=promised)
        elif n >= n_w:
            # The length is n + 1 at least. Its score is larger still, but this much of it is known.
            self.quantile.observe(True, surprise(distribution, n + 1), counts=promised)

    def state(self) -> dict:
        return self.quantile.state()

    def restore(self, state: dict) -> None:
        self.quantile.restore(state)
