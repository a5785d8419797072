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
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from timebill_ros.planning.paper_rule import PaperRule
from timebill_ros.planning.quality_rule import QualityRule
from timebill_ros.planning.situation import Option, Progress, Situation
from timebill_ros.request import SAMPLING_KINDS, Plan
from timebill_ros.timing.execution_time import ExecutionTimes


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
        return replace(plan, timing_factor=factor)

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
        return revised if revised is plan else replace(revised, timing_factor=now.factor)
