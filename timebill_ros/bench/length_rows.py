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

"""Rows of the comparison of length predictors: how good each is by kind of prompt, how sure the differences are."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from timebill_ros.bench.bootstrap import difference
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.training.length_estimates import interpolated_quantile, mean
from timebill_ros.training.length_scores import MEASURES, Score, mean_of, score, score_of_point

ALL = 'all'
CONSTANT, WORDS, CLASSIFIER = 'constant median', 'TF-IDF and prompt length', 'bucket classifier'
STATES = 'states'  # what the names of rows from hidden states begin with
RIVALS = (CONSTANT, WORDS, CLASSIFIER)  # that they are compared with


@dataclass(frozen=True)
class Case:
    """One response: the number of its prompt and its kind, its tokens `n`, and whether it ended by itself."""

    prompt: int
    kind: str
    n: int
    whole: bool


@dataclass(frozen=True)
class Predicted:
    """What a method expects of one response, in tokens; `distribution` is None where it gives numbers only."""

    median: float
    mean: float
    distribution: LengthDistribution | None = None

    @classmethod
    def of(cls, distribution: LengthDistribution, limit: int) -> Predicted:
        """Take median and mean of a distribution; responses are cut at `limit` tokens."""
        return cls(min(interpolated_quantile(distribution, 0.5), limit), min(mean(distribution), limit), distribution)

    def score(self, n: int, limit: int) -> Score:
        """Compare with a response of `n` tokens."""
        return score_of_point(self.median, n, limit) if self.distribution is None else \
            score(self.distribution, n, limit)


class Comparison:
    """Methods that predicted the same responses. `predicted`: for each method, one for each of `cases`."""

    def __init__(self, cases: Sequence[Case], predicted: dict[str, list[Predicted]], limit: int):
        self.cases, self._predicted = list(cases), predicted
        self._scores = {method: [one.score(case.n, limit) for one, case in zip(found, cases, strict=True)]
                        for method, found in predicted.items()}

    @property
    def kinds(self) -> list[str]:
        """All kinds together, then each, the most frequent first."""
        names = [case.kind for case in self.cases]
        return [ALL, *sorted(dict.fromkeys(names), key=lambda name: -names.count(name))]

    def rows(self) -> list[dict]:
        """Return one row for every method and kind."""
        found = []
        for method, predicted in self._predicted.items():
            for kind in self.kinds:
                at = self._of_kind(kind)
                cases, scores = [self.cases[i] for i in at], mean_of([self._scores[method][i] for i in at])
                points = [(predicted[i].median, predicted[i].mean) for i in at]
                found.append({'method': method, 'family': kind,
                              **measures(points, [case.n for case in cases], [case.kind for case in cases]),
                              'crps': scores.crps, 'log_loss': scores.log_loss,
                              'share_censored': float(np.mean([not case.whole for case in cases]))})
        return found

    def differences(self) -> list[dict]:
        """Return how much less or more than its rivals' the errors of each row from states are, on the same prompts.

        `difference`: the mean and its 95 % interval, see bootstrap.py; `relative`: to the rival's mean.
        """
        found = []
        for ours in (method for method in self._predicted if method.startswith(STATES)):
            for theirs in (method for method in RIVALS if method in self._predicted):
                for kind in self.kinds:
                    for name, field in MEASURES.items():
                        values = [self._by_prompt(method, kind, field) for method in (ours, theirs)]
                        middle, low, high = difference(*values)
                        found.append({'ours': ours, 'theirs': theirs, 'family': kind, 'measure': name,
                                      'difference': [middle, low, high],
                                      'relative': middle / float(np.mean(values[1])) if any(values[1]) else None})
        return found

    def _of_kind(self, kind: str) -> list[int]:
        return [i for i, case in enumerate(self.cases) if kind in (ALL, case.kind)]

    def _by_prompt(self, method: str, kind: str, field: str) -> list[float]:
        """Return the mean score of the responses to each prompt of a kind: these are not independent of each other."""
        values = [(self.cases[i].prompt, getattr(self._scores[method][i], field)) for i in self._of_kind(kind)]
        return [float(np.mean([value for _, value in some])) for _, some in groupby(values, key=lambda pair: pair[0])]


def measures(predicted: list[tuple[float, float]], lengths: list[int], families: list[str]) -> dict:
    """Return the MAE of the medians, RMSE and R2 of the means, and R2 within families.

    `predicted`: (median, mean) for each of `lengths`. R2 is None where the lengths do not vary.
    """
    medians, means = np.array(predicted, dtype=float).T
    n, names = np.array(lengths, dtype=float), np.array(families)
    squares = ((means - n) ** 2).sum()
    around_family = sum(((n[names == name] - n[names == name].mean()) ** 2).sum() for name in set(families))
    around_all = ((n - n.mean()) ** 2).sum()
    return {'n': len(n), 'mae': float(abs(medians - n).mean()), 'rmse': float((squares / len(n)) ** 0.5),
            'r2': float(1 - squares / around_all) if around_all else None,
            'r2_within_families': float(1 - squares / around_family) if around_family else None}
