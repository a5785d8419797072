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

"""Plans made again while decoding: by then steps have been measured, and less of the length is unknown."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from timebill_ros.codes import Verdict
from timebill_ros.inference.control import RECENT, Control
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.planning.planner import Planner
from timebill_ros.planning.situation import Progress, Situation
from timebill_ros.request import Plan, Timing


class Replanner:
    """Looks at one request's plan again whenever the token loop calls it, and evicts where the new plan says so.

    `started_s`: the instant from which the WCET is counted. `drops`: whether to set `control.dropped` where not even
    the predicted length fits any more. A new plan is put into `control.revised`, for another thread to send.
    `remaining`: returns the distribution of the whole length after so many tokens, see RemainingLength; None: it stays
    what it was before the first one. `since`: the tokens when decoding began, the first of the answer included.
    """

    def __init__(self, model, planner: Planner, known: Situation, *, plan: Plan, timing: Timing, control: Control,
                 started_s: float, drops: bool = False,
                 remaining: Callable[[int], LengthDistribution] | None = None, since: int = 1):
        self.model, self.planner, self.drops = model, planner, drops
        # A cap of the first plan is raised while steps take no longer than expected. Without another look it stays.
        self.known = known if known.look_tokens else replace(known, n_max=plan.length_cap)
        self.plan, self.timing, self.control, self.started_s = plan, timing, control, started_s
        self.remaining = remaining
        self._times = planner.times_of(plan.variant, known.sampling)
        self._steps = self._times.steps
        # A segment is the steps between two evictions.
        self.profiled_s = 0.0  # seconds that the profile gives for the segments that are over, evictions included
        self._since = since  # tokens when the current segment began

    def __call__(self, n: int, n_kv: int, pace: float) -> int:
        """Look at the plan after `n` tokens; return the number of cached entries, `n_kv` unless some were evicted.

        `pace`: median seconds of the last RECENT steps, of those since the last eviction.
        """
        plan, timing, control = self.plan, self.timing, self.control
        # A device that seems faster than it was planned for is no reason to plan for less.
        # `pace` is a median of the last steps, the middle one of which saw a smaller cache.
        step_s = self._steps(n_kv - 1 - min(n - self._since, RECENT) // 2)
        factor = max(pace / step_s, plan.timing_factor) if step_s > 0 else plan.timing_factor
        known = self.known if self.remaining is None else replace(self.known, distribution=self.remaining(n))
        left_s = control.deadline.remaining() - control.margin_s
        revised = self.planner.revise(plan, known, Progress(n, n_kv, timing.kept_tokens, factor), left_s)
        control.dropped = self.drops and revised.verdict is Verdict.INFEASIBLE
        if revised is plan:
            return n_kv
        if revised.n_keep < timing.kept_tokens and revised.evict_after <= n:
            evicted = timing.kept_tokens - revised.n_keep
            self._evict(n, n_kv, revised.n_keep)
            n_kv -= evicted
        control.cap = revised.length_cap
        timing.length_cap = max(timing.length_cap, revised.length_cap)
        self.plan = revised
        told = replace(timing)
        told.set_plan(revised)
        told.generated_tokens = n
        told.wcet_s = control.deadline.clock() - self.started_s + revised.decode_wcet_s
        control.revised = (revised, told)
        return n_kv

    def _evict(self, n: int, n_kv: int, n_keep: int) -> None:
        clock = self.control.deadline.clock
        self.profiled_s += self.segment_s(n) + self._times.eviction(n_kv)
        self._since = n
        started = clock()
        self.model.evict(n_keep)
        self.model.synchronize()
        timing = self.timing
        timing.eviction_s += clock() - started
        timing.kept_tokens, timing.eviction_ratio = n_keep, 1 - n_keep / timing.prompt_tokens

    def segment_s(self, n: int) -> float:
        """Return the seconds that the profile gives for the steps since the last eviction, up to `n` tokens."""
        first = self._since
        cached = self.timing.kept_tokens + first - 1
        return self._steps.decode(cached, n - first + 1)
