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

What to choose is a rule's: `paper_rule.py` or `quality_rule.py`. A new rule is a class with the methods of theirs and a
row in the test matrix. `solver.py` holds the arithmetic. Nothing in this file runs a model.

A rule promises with bounds that kept promises may have made short (length/promise_level.py). What is told as the worst
case is another thing: seconds that one request exceeds at the miss rate only. It is made here, of what the rule chose.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from timebill_ros.planning.paper_rule import PaperRule
from timebill_ros.planning.quality_rule import QualityRule
from timebill_ros.planning.situation import Bounds, Option, Progress, Situation
from timebill_ros.request import SAMPLING_KINDS, Plan
from timebill_ros.timing.execution_time import ExecutionTimes
from timebill_ros.timing.step_time import StepTime


class FirstPlan(NamedTuple):
    """The plan that promised, or did not."""

    plan: Plan
    left_s: float  # the time that it was made for
    needed: Callable[[], float] | None  # see Tracker.needed; None: the goal shows nothing of the level

    def worst_s(self, plan: Plan, left_s: float) -> float:
        """Return the seconds that a later plan, made with `left_s` left, takes in the worst case."""
        return min(plan.decode_wcet_s, left_s) if self.plan.verdict.is_promise else plan.decode_wcet_s


class Planner:
    """Plans requests of one model on one device.

    `times`: the device's profile. `variants`: weights to choose from, the model's own first. `rule`: what is chosen;
    the paper's unless given.
    """

    def __init__(self, times: ExecutionTimes, variants: Sequence[str], rule: PaperRule | QualityRule | None = None):
        self.times, self.variants, self.rule = times, list(variants), rule or PaperRule()
        # Looked up once, because the token loop waits for plans.
        self._times_of = {(name, kind): times.of_variant(name).of_sampling(kind)
                          for name in variants for kind in SAMPLING_KINDS}
        self._steps_of = {case: own.steps for case, own in self._times_of.items()}

    @property
    def brings_back(self) -> bool:
        """Whether entries that were evicted may come back: where the rule does that, and it is known what it takes."""
        return self.rule.brings_back and self.times.knows_restores

    def times_of(self, variant: str, sampling: str = 'greedy') -> ExecutionTimes:
        """Return the profile of decoding with these weights, empty: the model's own, and this kind of sampling."""
        return self._times_of[variant or self.variants[0], sampling]

    def plan(self, known: Situation, time_left_s: float) -> Plan:
        """Make the first plan, with `time_left_s` seconds for eviction and decoding (PAPER: solver)."""
        factor = known.bounds.timing_factor
        options = [Option(name, self._steps_of[name, known.sampling].scaled(factor)) for name in self.variants]
        plan = self.rule.first(options, known, time_left_s, self.times.eviction(known.n_x) * factor)
        steps = self._steps_of[plan.variant or self.variants[0], known.sampling].scaled(factor)
        return replace(plan, timing_factor=factor, decode_planned_s=plan.decode_wcet_s,
                       decode_wcet_s=_worst_case_s(plan, known, steps, time_left_s))

    def with_bounds(self, known: Situation, time_left_s: float) -> Callable[[Bounds], Plan]:
        """Return what makes a first plan with bounds other than those of `known`."""
        return lambda bounds: self.plan(replace(known, bounds=bounds), time_left_s)

    def revise(self, plan: Plan, known: Situation, now: Progress, time_left_s: float) -> Plan:
        """Make `plan` again, with `time_left_s` seconds left; return `plan` itself where nothing changes.

        Lengths in a revised plan count from the start of the response. The weights and the cap stay.
        """
        if now.most > now.n_keep and now.latest < now.factor:
            revised = self._revise(plan, known, now._replace(factor=now.latest), time_left_s)
            if revised.n_keep > now.n_keep:
                return revised
        return self._revise(plan, known, now, time_left_s)

    def _revise(self, plan: Plan, known: Situation, now: Progress, time_left_s: float) -> Plan:
        variant = plan.variant or self.variants[0]
        option = Option(variant, self._steps_of[variant, known.sampling].scaled(now.factor))
        eviction_s = self.times.eviction(now.n_kv) * now.factor
        restore_s = self.times.restore(now.n_kv + now.most - now.n_keep) * now.factor if now.most else 0.0
        revised = self.rule.revise(plan, option, known, now, time_left_s, eviction_s, restore_s)
        return revised if revised is plan else replace(
            revised, timing_factor=now.factor, decode_planned_s=revised.decode_wcet_s,
            decode_wcet_s=_worst_case_s(revised, known, option.steps, time_left_s, now.n))


def _worst_case_s(plan: Plan, known: Situation, steps: StepTime, time_left_s: float, generated: int = 0) -> float:
    """Return the seconds of eviction and decoding that are told as the worst case of a rule's plan.

    They are those of the plan with the bounds `known.bounds.told`. What is promised ends by its deadline though a bound
    is exceeded, or else is a miss; so the worst case of a promise is the time left, at the most.
    """
    bounds, told = known.bounds, known.bounds.told
    if told is None:
        return plan.decode_wcet_s
    n_w = told.length.pessimistic(known.distribution, known.longest, generated, known.n_x)
    # The tokens beyond those planned for come last, when whatever is evicted is gone.
    more_s = (steps.decode(plan.n_keep, max(min(n_w, known.n_max), 1))
              - steps.decode(plan.n_keep, max(min(plan.pessimistic_tokens, known.n_max), 1)))
    worst_s = (told.reserve_s + (plan.decode_wcet_s - bounds.reserve_s) * told.time_bound / bounds.time_bound
               + told.time_bound * more_s)
    if plan.verdict.is_promise:
        worst_s = min(worst_s, time_left_s)
    return max(plan.decode_wcet_s, worst_s)
