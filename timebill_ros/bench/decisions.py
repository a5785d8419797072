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

"""The decisions of one request, and whether they would have been the same with other time or another strategy.

The deadline changes what a request does in two ways only: through its plans, and through the checks that end it. Where
every plan would have been the same in effect, the tokens are the same. This is worked out after the request has ended,
from what the planner was asked, so that it takes no time from the request.
"""
from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from timebill_ros.length.pessimistic_length import PessimisticLength
from timebill_ros.planning.planner import Planner
from timebill_ros.planning.situation import Bounds, Progress, Situation
from timebill_ros.request import Plan
from timebill_ros.timing.execution_time import ExecutionTimes


@dataclass(frozen=True)
class Decision:
    """One answer of a planner: `plan`. `before`: the plan that was made again, after `now`; None: it is the first."""

    plan: Plan
    known: Situation
    left_s: float
    before: Plan | None = None
    now: Progress | None = None

    @property
    def effect(self) -> tuple[int, str, int]:
        """What tokens depend on: the cap, the weights, and the entries kept by a change now (0: there is none).

        An eviction that waits is decided again at the next look, and a plan that stays changes nothing, see Replanner.
        """
        plan, now = self.plan, self.now
        if now is None:
            changes = plan.n_keep < plan.n_x and not plan.evict_after
        else:
            changes = plan is not self.before and plan.n_keep != now.n_keep and plan.evict_after <= now.n
        return plan.length_cap, plan.variant, plan.n_keep if changes else 0


@dataclass
class Decisions:
    """The decisions of one request, in their order.

    `length`: the rule for N_W as it was before the request, because the request's own rule has learned from it since.
    """

    planner: Planner
    length: PessimisticLength
    made: list[Decision] = field(default_factory=list)

    def again(self, *, later_s: float, may_cap: bool) -> list[Plan] | None:
        """Return the plans of a request whose deadline is `later_s` seconds later; `may_cap`: as in Situation.

        None where one of them has another effect than what was decided. None too where the decisions cannot be worked
        out again as they were.
        """
        first = self.made[0].known.may_cap if self.made else may_cap
        same = self._replayed(0.0, first)
        if same is None or [made.plan for made in self.made] != same:
            return None
        return self._replayed(later_s, may_cap)

    def _replayed(self, later_s: float, may_cap: bool) -> list[Plan] | None:
        plans: list[Plan] = []
        for made in self.made:
            known = replace(made.known, may_cap=may_cap, bounds=self._bounds(made.known.bounds))
            left_s = made.left_s + later_s
            if made.before is None:
                # Without time left the engine evicts nothing, whatever the plan says.
                if (left_s > 0) != (made.left_s > 0):
                    return None
                again = replace(made, plan=self.planner.plan(known, left_s))
            else:
                before = plans[-1]
                factor = _factor(made, before)
                if factor is None:
                    return None
                now = made.now._replace(factor=factor)
                again = replace(made, before=before, now=now, plan=self.planner.revise(before, known, now, left_s))
            if again.effect != made.effect:
                return None
            plans.append(again.plan)
        return plans

    def _bounds(self, bounds: Bounds) -> Bounds:
        told = bounds.told and replace(bounds.told, length=self.length.at(bounds.told.length.probability))
        return replace(bounds, length=self.length, told=told)


def _factor(made: Decision, before: Plan) -> float | None:
    """Return how much longer than profiled a step took, where `before` would have been the plan until then.

    It is no less than the factor that the plan was made with. None where that hides what the last steps took.
    """
    known = made.now.factor > made.before.timing_factor
    if known or before.timing_factor >= made.before.timing_factor:
        return max(made.now.factor, before.timing_factor)
    return None


class WatchedPlanner:
    """A planner whose decisions are noted. It passes on what an engine and a Replanner ask."""

    def __init__(self, planner: Planner):
        self.planner = planner
        self._made: list[Decision] = []

    def begin(self, length: PessimisticLength) -> Decisions:
        """Note the decisions of the next request in what is returned; `length`: the rule for N_W, which is copied."""
        found = Decisions(self.planner, copy.deepcopy(length))
        self._made = found.made
        return found

    @property
    def brings_back(self) -> bool:
        """See Planner."""
        return self.planner.brings_back

    def times_of(self, variant: str, sampling: str = 'greedy') -> ExecutionTimes:
        """See Planner."""
        return self.planner.times_of(variant, sampling)

    def with_bounds(self, known: Situation, time_left_s: float) -> Callable[[Bounds], Plan]:
        """See Planner. Such plans decide nothing."""
        return self.planner.with_bounds(known, time_left_s)

    def plan(self, known: Situation, time_left_s: float) -> Plan:
        """See Planner."""
        plan = self.planner.plan(known, time_left_s)
        self._made.append(Decision(plan, known, time_left_s))
        return plan

    def revise(self, plan: Plan, known: Situation, now: Progress, time_left_s: float) -> Plan:
        """See Planner."""
        revised = self.planner.revise(plan, known, now, time_left_s)
        self._made.append(Decision(revised, known, time_left_s, plan, now))
        return revised
