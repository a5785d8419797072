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

"""The one entry to planning: the engine's first plan, estimates, and plans made again while decoding.

    Situation (what is known) + time left -> Planner.plan                      how much to keep, which weights, what to
                                                                               promise
    Situation + Progress (how far it has come) + time left -> Planner.revise   the same, now that less is uncertain

`solver.py` holds the arithmetic, `knobs.py` the choice among several weights by expected quality. Nothing in this file
runs a model.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from timebill_ros.codes import Verdict
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.pessimistic_length import PessimisticLength, expected
from timebill_ros.planning import knobs, solver
from timebill_ros.planning.quality_table import QualityTable
from timebill_ros.request import SAMPLING_KINDS, Plan
from timebill_ros.timing.execution_time import ExecutionTimes


@dataclass(frozen=True)
class Bounds:
    """What earlier requests have taught (Tracker.bounds), read once per request so that all its plans agree."""

    length: PessimisticLength  # gives N_W for a distribution
    timing_factor: float = 1.0  # how much longer than profiled a step takes now
    time_bound: float = 1.0  # how many times the expected time a promise allows for
    reserve_s: float = 0.0  # seconds that a promise keeps free besides


@dataclass(frozen=True)
class Situation:
    """What one request is planned from. Lengths in tokens."""

    distribution: LengthDistribution  # of the response's length
    n_x: int  # N_x: prompt tokens
    n_min: int  # the fewest prompt entries that may be kept
    n_max: int  # N_max: the longest response that can come
    bounds: Bounds
    may_cap: bool = False  # whether the response may be capped before the deadline, see knobs.choose
    # The goal's own limit, where the response is cut before that: by the model's context, or by a cap of the plan. A
    # cut there is no natural end, so a promise needs N_W <= n_max. 0: n_max is the goal's own.
    n_goal: int = 0
    sampling: str = 'greedy'  # how tokens are drawn (Sampling.kind)

    def pessimistic(self, generated: int = 0) -> int:
        """Return N_W, at most the goal's own limit, once `generated` tokens have come."""
        longest = max(self.n_goal, self.n_max)
        return self.bounds.length.pessimistic(self.distribution, longest, generated, self.n_x)


class Progress(NamedTuple):
    """How far a request has come while it is decoded."""

    n: int  # tokens so far
    n_kv: int  # entries in the cache, generated ones too
    n_keep: int  # entries of the prompt among them
    factor: float  # how much longer than profiled a step takes now


class Planner:
    """Plans requests of one model on one device.

    `times`: the device's profile. `variants`: weights to choose from, the model's own first. `quality`: without a
    table, the paper's rule decides.
    """

    def __init__(self, times: ExecutionTimes, variants: Sequence[str], quality: QualityTable | None = None):
        self.times, self.variants, self.quality = times, list(variants), quality
        # Looked up once, because the token loop waits for plans.
        self._times_of = {(name, kind): times.of_variant(name).of_sampling(kind)
                          for name in variants for kind in SAMPLING_KINDS}
        self._steps_of = {case: own.steps for case, own in self._times_of.items()}

    def times_of(self, variant: str, sampling: str = 'greedy') -> ExecutionTimes:
        """Return the profile of decoding with these weights, empty: the model's own, and this kind of sampling."""
        return self._times_of[variant or self.variants[0], sampling]

    def plan(self, known: Situation, time_left_s: float) -> Plan:
        """Make the first plan, with `time_left_s` seconds for eviction and decoding (PAPER: solver)."""
        bounds, distribution = known.bounds, known.distribution
        factor = bounds.timing_factor
        options = [knobs.Option(name, self._steps_of[name, known.sampling].scaled(factor)) for name in self.variants]
        plan = knobs.choose(
            options, self.quality, distribution, n_x=known.n_x, n_min=known.n_min, n_max=known.n_max,
            time_left_s=time_left_s, eviction_s=self.times.eviction(known.n_x) * factor,
            predicted=distribution.median(), pessimistic=known.pessimistic(), n_goal=known.n_goal,
            caution=bounds.time_bound, reserve_s=bounds.reserve_s, may_cap=known.may_cap)
        return replace(plan, timing_factor=factor)

    def revise(self, plan: Plan, known: Situation, now: Progress, time_left_s: float) -> Plan:
        """Make `plan` again, with `time_left_s` seconds left; return `plan` itself where nothing changes.

        The tokens so far count as part of the cache, and the next token is the first of the rest. Where the response
        would miss, more of the prompt is evicted: never below `known.n_min`, and with a quality table only where that
        lets N_W fit, because the table has already chosen the cache of a response that will probably be cut. Where not
        even N_hat fits any more, the cache stays as it is: the response will be cut in any case, and is better for what
        it can still read. The plan's verdict says so.
        """
        bounds, n, n_kv = known.bounds, now.n, now.n_kv
        n_w = known.pessimistic(n)
        steps = self._steps_of[plan.variant or self.variants[0], known.sampling].scaled(now.factor)
        unchanged = Verdict.FITS if now.n_keep == known.n_x else Verdict.FITS_WITH_EVICTION
        if plan.verdict is unchanged and n_w <= known.n_max and solver.fits(
                steps.scaled(bounds.time_bound), n_kv, n_w - n + 1, time_left_s - bounds.reserve_s):
            return plan  # the usual case. Nothing more is computed, because the next token waits for this.
        n_hat = min(expected(known.distribution, known.n_max, n), n_w)
        generated = n_kv - now.n_keep
        rest = solver.solve(
            steps=steps, n_x=n_kv, n_min=min(known.n_min + generated, n_kv), time_left_s=time_left_s,
            eviction_s=self.times.eviction(n_kv) * now.factor, predicted=n_hat - n + 1, pessimistic=n_w - n + 1,
            n_max=known.n_max - n + 1, n_goal=max(known.n_goal - n + 1, 0), caution=bounds.time_bound,
            reserve_s=bounds.reserve_s)
        evicts = rest.n_keep < n_kv and (rest.verdict.is_promise or self.quality is None and
                                         rest.verdict is not Verdict.INFEASIBLE)
        verdict = unchanged if rest.verdict is Verdict.FITS else rest.verdict
        if not evicts and verdict is plan.verdict:
            return plan
        n_keep = rest.n_keep - generated if evicts else now.n_keep
        return replace(plan, verdict=verdict, n_x=known.n_x, n_keep=n_keep, eviction_ratio=1 - n_keep / known.n_x,
                       predicted_tokens=n_hat, pessimistic_tokens=n_w, fitting_tokens=n - 1 + rest.fitting_tokens,
                       decode_wcet_s=rest.decode_wcet_s, decode_expected_s=rest.decode_expected_s,
                       timing_factor=now.factor)
