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

"""Several knobs: how much of the cache to keep, which weights to decode with, where to cap. Pure functions.

Without a quality table this is the paper's rule, on the model's own weights. With one, the plan is the choice of
highest expected quality: among those that keep the promised miss rate where there are any, otherwise among all.

A quality table is a JSON file, made by `timebill bench knobs` for the embedded model and its task:

    {"format": 1,
     "variants": {"float32": [[0.0, 0.98], [0.5, 0.80], ...], "int8": ...},    eviction ratio, mean quality (0 to 1)
     "cut": [[0.0, 0.0], [0.5, 0.52], [1.0, 1.0]]}                             share of a response that came before it
                                                                               was cut, share of its quality
"""
from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.planning import planner
from timebill_ros.request import Plan
from timebill_ros.timing.step_time import StepTime

FORMAT = 1
Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Option:
    """Weights that the node has loaded and profiled, with their step times."""

    variant: str
    steps: StepTime


@dataclass(frozen=True)
class QualityTable:
    """Measured quality: by variant over the eviction ratio, and of a response that was cut. ValueError for no curve."""

    variants: dict[str, Curve]
    cut: Curve

    def __post_init__(self):
        for name, curve in [*self.variants.items(), ('cut', self.cut)]:
            xs = [x for x, _ in curve]
            if len(curve) < 2 or xs != sorted(set(xs)) or not all(0 <= v <= 1 for pair in curve for v in pair):
                raise ValueError(f'quality of {name} must be two or more pairs of numbers from 0 to 1, the first '
                                 f'ascending, got {list(curve)[:3]}')

    def of(self, variant: str, eviction_ratio: float) -> float:
        """Expected quality of a whole response; 0 for a variant that was not measured."""
        curve = self.variants.get(variant)
        return float(np.interp(eviction_ratio, *zip(*curve, strict=True))) if curve else 0.0

    def of_cut(self, distribution: LengthDistribution, n: int) -> float:
        """Expected share of the quality that is left where the response is cut after `n` tokens."""
        lengths = (np.arange(distribution.n_buckets) + 1) * distribution.bucket_size
        shares = np.interp(np.minimum(1.0, n / lengths), *zip(*self.cut, strict=True))
        return float(distribution.probabilities @ shares)

    @staticmethod
    def load(path: str | Path) -> QualityTable:
        """ValueError with a sentence for a file that is missing or is no quality table."""
        try:
            data = json.loads(Path(path).read_text())
            if data['format'] != FORMAT:
                raise ValueError(f'its format is {data["format"]!r}, not {FORMAT}')
            return QualityTable({name: _curve(pairs) for name, pairs in data['variants'].items()}, _curve(data['cut']))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f'quality table {path} cannot be used: {type(error).__name__}: {error}') from error


def _curve(pairs: Sequence[Sequence[float]]) -> Curve:
    return tuple((float(x), float(y)) for x, y in pairs)


def choose(options: Sequence[Option], table: QualityTable | None, distribution: LengthDistribution, *, n_x: int,
           n_min: int, time_left_s: float, eviction_s: float, predicted: int, pessimistic: int, n_max: int,
           caution: float = 1.0, reserve_s: float = 0.0, may_cap: bool = False) -> Plan:
    """The plan of the best option. The first option is the model's own weights; see `planner.plan` for the rest.

    `may_cap`: a response that will probably be cut may be capped before the deadline (of use where a late one is worth
    nothing; otherwise the deadline guard cuts later than a cautious cap would).
    """
    paper = [replace(planner.plan(steps=o.steps, n_x=n_x, n_min=n_min, time_left_s=time_left_s, eviction_s=eviction_s,
                                  predicted=predicted, pessimistic=pessimistic, n_max=n_max, caution=caution,
                                  reserve_s=reserve_s), variant=o.variant)
             for o in (options if table else options[:1])]
    if table is None:
        return paper[0]
    promises = [plan for plan in paper if plan.verdict.is_promise]
    if promises:  # each with the least eviction that keeps the promise; the first of equals
        return max(promises, key=lambda plan: table.of(plan.variant, plan.eviction_ratio))
    verdict = min(plan.verdict for plan in paper)  # AT_RISK where any option lets N_hat fit
    candidates = []
    for option, base in zip(options, paper, strict=True):
        ratios = [ratio for ratio, _ in table.variants.get(option.variant, ())]
        keeps = {n_x, n_min, base.n_keep, *(min(n_x, max(n_min, math.floor((1 - ratio) * n_x))) for ratio in ratios)}
        worst = option.steps.scaled(caution)
        for n_keep in sorted(keeps, reverse=True):
            cost = eviction_s if n_keep < n_x else 0.0
            n_fit = planner.longest_fit(option.steps, n_keep, time_left_s - cost, n_max)
            cap = planner.longest_fit(worst, n_keep, time_left_s - reserve_s - cost * caution, n_max)
            ratio = 1 - n_keep / n_x if n_x else 0.0
            quality = table.of(option.variant, ratio) * table.of_cut(distribution, n_fit)
            candidates.append((quality, replace(
                base, verdict=verdict, n_keep=n_keep, eviction_ratio=ratio,
                length_cap=cap if may_cap and 0 < cap < n_max else n_max,
                decode_wcet_s=reserve_s + cost * caution + worst.decode(n_keep, base.pessimistic_tokens),
                decode_expected_s=cost + option.steps.decode(n_keep, base.predicted_tokens))))
    return max(candidates, key=lambda pair: pair[0])[1]
