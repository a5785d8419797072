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

"""The pessimistic length N_W that the planner plans for, and the expected length N_hat, while a response grows.

How N_W follows from the prediction is a policy of its own: a new one is a class with the methods of
`PessimisticLength` and a row in the test matrix. numpy only.
"""
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from timebill_ros.length.calibration import MOST_SURPRISE, surprise
from timebill_ros.length.conformal import OnlineQuantile, conformal_quantile
from timebill_ros.length.length_distribution import LengthDistribution


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
