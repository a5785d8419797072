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

"""The choice of several knobs: how much of the cache to keep, which weights to decode with, where to cap.

Pure functions. Without a quality table, this is the paper's rule on the model's own weights. With one, the plan is the
choice of highest expected quality: among those that keep the promised miss rate, or where there are none, among all.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.planning import solver
from timebill_ros.planning.quality_table import QualityTable
from timebill_ros.request import Plan
from timebill_ros.timing.step_time import StepTime


@dataclass(frozen=True)
class Option:
    """Weights that are loaded and profiled, with their step times."""

    variant: str
    steps: StepTime


def choose(options: Sequence[Option], table: QualityTable | None, distribution: LengthDistribution, *, n_x: int,
           n_min: int, time_left_s: float, eviction_s: float, predicted: int, pessimistic: int, n_max: int,
           n_goal: int = 0, caution: float = 1.0, reserve_s: float = 0.0, may_cap: bool = False) -> Plan:
    """Return the plan of the best option. `options[0]` is the model's own weights; see `solver.solve` for the rest.

    `may_cap`: a response that will probably be cut may be capped before the deadline. That helps where a late response
    is worth nothing. Elsewhere the deadline guard is better: it cuts later than a cautious cap would.
    """
    paper = [replace(solver.solve(steps=o.steps, n_x=n_x, n_min=n_min, time_left_s=time_left_s, eviction_s=eviction_s,
                                  predicted=predicted, pessimistic=pessimistic, n_max=n_max, n_goal=n_goal,
                                  caution=caution, reserve_s=reserve_s), variant=o.variant)
             for o in (options if table else options[:1])]
    if table is None:
        return paper[0]
    promises = [plan for plan in paper if plan.verdict.is_promise]
    if promises:  # each has the least eviction that keeps the promise; of equals, the first is taken
        return max(promises, key=lambda plan: table.of(plan.variant, plan.eviction_ratio))
    verdict = min(plan.verdict for plan in paper)  # AT_RISK where any option lets N_hat fit
    candidates = []
    for option, base in zip(options, paper, strict=True):
        ratios = [ratio for ratio, _ in table.variants.get(option.variant, ())]
        keeps = {n_x, n_min, base.n_keep, *(min(n_x, max(n_min, math.floor((1 - ratio) * n_x))) for ratio in ratios)}
        worst = option.steps.scaled(caution)
        for n_keep in sorted(keeps, reverse=True):
            cost = eviction_s if n_keep < n_x else 0.0
            n_fit = solver.longest_fit(option.steps, n_keep, time_left_s - cost, n_max)
            cap = solver.longest_fit(worst, n_keep, time_left_s - reserve_s - cost * caution, n_max)
            ratio = 1 - n_keep / n_x if n_x else 0.0
            quality = table.of(option.variant, ratio) * table.of_cut(distribution, n_fit)
            candidates.append((quality, replace(
                base, verdict=verdict, n_keep=n_keep, eviction_ratio=ratio,
                length_cap=cap if may_cap and 0 < cap < n_max else n_max,
                decode_wcet_s=reserve_s + cost * caution + worst.decode(n_keep, min(base.pessimistic_tokens, n_max)),
                decode_expected_s=cost + option.steps.decode(n_keep, base.predicted_tokens))))
    return max(candidates, key=lambda pair: pair[0])[1]
