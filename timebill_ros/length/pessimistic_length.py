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

"""The two lengths that a plan is made for: pessimistic N_W and expected N_hat, also while a response grows. numpy only.

Each rule for N_W is one class (setting `pessimistic_length`). A new one needs the methods of `PessimisticLength` and a
row in the test matrix:

    FixedFactor  N_W = k * N_hat (PAPER: ETE)
    Conformal    a quantile of calibration scores, fixed
    Adaptive     the same with scores that follow the lengths observed, and a level that follows what goals came to
"""
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from timebill_ros.length.calibration import MOST_SURPRISE, surprise
from timebill_ros.length.conformal import ScoreWindow, conformal_quantile
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.promise_level import PromiseLevel
from timebill_ros.length.run_ons import RunOns, kind_of


class PessimisticLength(ABC):
    """A rule that turns a predicted length distribution into the length to plan for."""

    @abstractmethod
    def pessimistic(self, distribution: LengthDistribution, n_max: int, generated: int = 0,
                    prompt_tokens: int = 0) -> int:
        """Return the pessimistic length N_W in tokens, from 1 to `n_max`.

        n_max:      N_max, the hard limit of the response, in tokens. ValueError below 1.
        generated:      tokens that have come of a response that goes on; N_W is then larger than `generated`.
        prompt_tokens:  N_x; 0 where the length is asked for no prompt in particular.
        """

    def observe(self, distribution: LengthDistribution, n: int, *, n_max: int,  # noqa: B027
                ended: bool, capped: bool = False, prompt_tokens: int = 0) -> None:
        """Learn from a response of `n` tokens; `n_max` was its own limit.

        ended:          the response came to its natural end or to its own limit. One that was cut says only that it
                        would have been longer.
        capped:         it ran to a limit, not to an end: its own limit, the context's or the plan's.
        prompt_tokens:  N_x.

        (Not abstract: a rule need not learn.)
        """

    def state(self) -> dict:
        """Return what is worth keeping across a restart, as JSON-ready data."""
        return {}

    def restore(self, state: dict) -> None:  # noqa: B027 optional
        """Go on from what `state` returned. ValueError, KeyError or TypeError for anything else."""


def _within(distribution: LengthDistribution, bound: float, n_max: int, generated: int) -> int:
    """Return the longest length, at most `n_max`, whose score is within `bound` once `generated` tokens have come.

    That score is -log P(length >= n | length > generated).
    """
    if n_max < 1:
        raise ValueError(f'n_max must be at least 1, got {n_max}')
    left = distribution.tail(generated + 1) if generated else 1.0
    if bound >= MOST_SURPRISE or left == 0:
        return n_max
    # Rounding may lift exp(-surprise(n)) just above the tail that it was made of, hence the tolerance.
    longest = distribution.longest_with_tail(math.exp(-bound) * left * (1 - 1e-9))
    return n_max if longest is None else min(max(longest, generated + 1), n_max)


def expected(distribution: LengthDistribution, n_max: int, generated: int = 0) -> int:
    """Return N_hat in tokens, at most `n_max`, once `generated` tokens have come: the median of the lengths left.

    As in `LengthDistribution.median`, a bucket counts with its upper edge. After more tokens than the last bucket's
    upper edge, only `n_max` is known.
    """
    longest = distribution.bucket_size * distribution.n_buckets
    left = distribution.tail(generated + 1) if generated < longest else 0.0
    if left == 0:
        return n_max
    return min(max(distribution.longest_with_tail(left / 2) or longest, generated + 1), n_max)


@dataclass(frozen=True)
class FixedFactor(PessimisticLength):
    """`N_W = min(ceil(k * N_hat), N_max)`: the TimeBill paper's rule (arXiv 2512.21859), there with k = 5.

    Once that many tokens have come, N_W is N_max. Raises ValueError for k below 1 or not finite.
    """

    k: float = 5.0

    def __post_init__(self):
        if not (math.isfinite(self.k) and self.k >= 1):
            raise ValueError(f'pessimistic factor k must be a finite number from 1 up, got {self.k}')

    def pessimistic(self, distribution: LengthDistribution, n_max: int, generated: int = 0,
                    prompt_tokens: int = 0) -> int:
        if n_max < 1:
            raise ValueError(f'n_max must be at least 1, got {n_max}')
        n_w = min(math.ceil(self.k * distribution.median()), n_max)
        return n_w if n_w > generated else n_max


class Conformal(PessimisticLength):
    """Split conformal prediction: N_W is the longest length whose score is within a fixed quantile of `scores`.

    scores: of calibration prompts (calibration.py). While prompts are like those, a length exceeds its N_W with
    probability `miss_rate` at most. With fewer than 1 / miss_rate - 1 scores that cannot be had, and N_W is N_max.
    """

    def __init__(self, scores: Sequence[float], miss_rate: float):
        if not 0 < miss_rate < 1:
            raise ValueError(f'miss rate must be above 0 and below 1, got {miss_rate}')
        self.bound = conformal_quantile(scores, miss_rate)

    def pessimistic(self, distribution: LengthDistribution, n_max: int, generated: int = 0,
                    prompt_tokens: int = 0) -> int:
        return _within(distribution, self.bound, n_max, generated)


class Adaptive(PessimisticLength):
    """Conformal with scores that follow what is observed, at a level that follows what promises came to.

    So the miss rate is kept under drift. A response that was cut is known to be longer than what came, and counts so
    (`censored_quantile`). One that was cut beyond what would have been planned for without its limit runs on. Where
    many of one kind do (run_ons.py), N_W is N_max for prompts of this kind, and those that run on teach no other.

    scores:  of calibration prompts.
    level:   shared with the bound on times.
    """

    def __init__(self, scores: Sequence[float], level: PromiseLevel):
        self.level, self.scores, self.run_ons = level, ScoreWindow(level.miss_rate / 2, scores), RunOns()

    def pessimistic(self, distribution: LengthDistribution, n_max: int, generated: int = 0,
                    prompt_tokens: int = 0) -> int:
        return self.exceeded_with(self.level.of_lengths, distribution, n_max, generated, prompt_tokens)

    def at(self, probability: float) -> AtProbability:
        """Return the rule that gives N_W as it is exceeded with this probability, whatever the level."""
        return AtProbability(self, probability)

    def exceeded_with(self, probability: float, distribution: LengthDistribution, n_max: int, generated: int,
                      prompt_tokens: int) -> int:
        """Return the N_W that a length exceeds with this probability."""
        runs_on = self.run_ons.is_likely(kind_of(distribution, prompt_tokens))
        bound = math.inf if runs_on else self.scores.bound(probability)
        return _within(distribution, bound, n_max, generated)

    def observe(self, distribution: LengthDistribution, n: int, *, n_max: int, ended: bool, capped: bool = False,
                prompt_tokens: int = 0) -> None:
        whole = ended and not capped and n < n_max
        # A response that was cut has at least one more token.
        score = surprise(distribution, n if whole else n + 1)
        probability = self.level.miss_rate / 2  # not the present level, which may be high: a run-on is unusually long
        ran_on = not whole and score > min(self.scores.bound(probability), self.scores.top(probability))
        kind = kind_of(distribution, prompt_tokens)
        if whole or ran_on:
            self.run_ons.observe(kind, ran_on)
        if not (ran_on and self.run_ons.is_likely(kind)):  # it teaches its kind only
            self.scores.observe(score, cut=not whole)

    def state(self) -> dict:
        return {**self.scores.state(), 'run_ons': self.run_ons.state()}

    def restore(self, state: dict) -> None:
        self.scores.restore(state)
        self.run_ons.restore(state.get('run_ons', {}))


@dataclass(frozen=True)
class AtProbability(PessimisticLength):
    """What an adaptive rule would say were lengths to exceed N_W with a stated probability."""

    rule: Adaptive
    probability: float

    def pessimistic(self, distribution: LengthDistribution, n_max: int, generated: int = 0,
                    prompt_tokens: int = 0) -> int:
        return self.rule.exceeded_with(self.probability, distribution, n_max, generated, prompt_tokens)
