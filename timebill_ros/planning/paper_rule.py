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

"""The paper's rule: the least eviction that lets the pessimistic length fit, on the model's own weights."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from timebill_ros.codes import Verdict
from timebill_ros.length.pessimistic_length import expected
from timebill_ros.planning import solver
from timebill_ros.planning.situation import Option, Progress, Situation
from timebill_ros.request import Plan


class PaperRule:
    """Evict as little as lets N_W fit, or else as lets N_hat fit; where not even that can be, as much as is allowed.

    (PAPER: solver.) Quality is not weighed, and nothing that was evicted comes back.
    """

    min_kept = 1  # entries that any eviction leaves
    brings_back = False

    def promised_ratio(self, variant: str) -> float:
        """Return the largest eviction ratio for which a promise is made, as far as a goal allows it."""
        return 1.0

    def first(self, options: Sequence[Option], known: Situation, time_left_s: float, eviction_s: float) -> Plan:
        """Return the first plan; `eviction_s`: what an eviction takes. See `Planner.plan`."""
        own, bounds = options[0], known.bounds
        plan = solver.solve(
            steps=own.steps, n_x=known.n_x, n_min=known.n_min, time_left_s=time_left_s, eviction_s=eviction_s,
            predicted=known.distribution.median(), pessimistic=known.pessimistic(), n_max=known.n_max,
            n_goal=known.n_goal, caution=bounds.time_bound, reserve_s=bounds.reserve_s)
        return replace(plan, variant=own.variant)

    def revise(self, plan: Plan, option: Option, known: Situation, now: Progress, time_left_s: float,
               eviction_s: float, restore_s: float = 0.0) -> Plan:
        """Return the plan made again, `plan` itself where nothing changes. See `Planner.revise`.

        The tokens so far count as part of the cache, and the next token is the first of the rest. Where the response
        would miss, more of the prompt is evicted. Where not even N_hat fits any more, the cache stays as it is: the
        response will be cut in any case, and is better for what it can still read. The plan's verdict says so.
        """
        bounds, n, n_kv = known.bounds, now.n, now.n_kv
        n_w = known.pessimistic(n)
        unchanged = Verdict.FITS if now.n_keep == known.n_x else Verdict.FITS_WITH_EVICTION
        if plan.verdict is unchanged and n_w <= known.n_max and solver.fits(
                option.steps.scaled(bounds.time_bound), n_kv, n_w - n + 1, time_left_s - bounds.reserve_s):
            return plan  # the usual case. Nothing more is computed, because the next token waits for this.
        n_hat = min(expected(known.distribution, known.n_max, n), n_w)
        generated = n_kv - now.n_keep
        rest = solver.solve(
            steps=option.steps, n_x=n_kv, n_min=min(known.n_min + generated, n_kv), time_left_s=time_left_s,
            eviction_s=eviction_s, predicted=n_hat - n + 1, pessimistic=n_w - n + 1, n_max=known.n_max - n + 1,
            n_goal=max(known.n_goal - n + 1, 0), caution=bounds.time_bound, reserve_s=bounds.reserve_s)
        evicts = rest.n_keep < n_kv and rest.verdict is not Verdict.INFEASIBLE
        verdict = unchanged if rest.verdict is Verdict.FITS else rest.verdict
        if not evicts and verdict is plan.verdict:
            return plan
        n_keep = rest.n_keep - generated if evicts else now.n_keep
        return replace(plan, verdict=verdict, n_x=known.n_x, n_keep=n_keep, eviction_ratio=1 - n_keep / known.n_x,
                       predicted_tokens=n_hat, pessimistic_tokens=n_w, fitting_tokens=n - 1 + rest.fitting_tokens,
                       decode_wcet_s=rest.decode_wcet_s, decode_expected_s=rest.decode_expected_s)
