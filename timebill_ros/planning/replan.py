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
from timebill_ros.inference.evictions import Evictions
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.planning.planner import Planner
from timebill_ros.planning.situation import Progress, Situation
from timebill_ros.request import Plan, Timing


class Replanner:
    """Looks at one request's plan again whenever the token loop calls it, and evicts, or brings back, as that says.

    `started_s`: the instant from which the WCET is counted, pauses left out. `drops`: whether to set `control.dropped`
    where not even the predicted length fits any more. A new plan is put into `control.revised`, for another thread to
    send. `remaining`: returns the distribution of the whole length after so many tokens, see RemainingLength; None: it
    stays what it was before the first one. `since`: the tokens when decoding began, the first of the answer included.
    `evictions`: the request's; None: what is evicted stays gone.
    """

    def __init__(self, model, planner: Planner, known: Situation, *, plan: Plan, timing: Timing, control: Control,
                 started_s: float, drops: bool = False,
                 remaining: Callable[[int], LengthDistribution] | None = None, since: int = 1,
                 evictions: Evictions | None = None):
        self.model, self.planner, self.drops = model, planner, drops
        self.evictions = evictions or Evictions(model)
        # A cap of the first plan is raised while steps take no longer than expected. Without another look it stays.
        self.known = known if known.look_tokens else replace(known, n_max=plan.length_cap)
        self.plan, self.timing, self.control, self.started_s = plan, timing, control, started_s
        self.remaining = remaining
        self._times = planner.times_of(plan.variant, known.sampling)
        self._steps = self._times.steps
        # A segment is the steps between two changes of the cache, each of which evicts or brings back.
        self.profiled_s = 0.0  # seconds that the profile gives for the segments that are over, changes included
        self._since = since  # tokens when the current segment began

    def __call__(self, n: int, n_kv: int, pace: float) -> int:
        """Look at the plan after `n` tokens; return the number of cached entries, `n_kv` unless that was changed.

        `pace`: median seconds of the last RECENT steps, of those since the last change.
        """
        plan, timing, control = self.plan, self.timing, self.control
        # A device that seems faster than it was planned for is no reason to plan for less.
        # `pace` is a median of the last steps, the middle one of which saw a smaller cache.
        step_s = self._steps(n_kv - 1 - min(n - self._since, RECENT) // 2)
        factor = max(pace / step_s, plan.timing_factor) if step_s > 0 else plan.timing_factor
        # Nor is one that has recovered, but for entries that come back: never quicker than at the first plan.
        latest = max(pace / step_s, self.known.bounds.timing_factor) if step_s > 0 and pace > 0 else factor
        known = self.known if self.remaining is None else replace(self.known, distribution=self.remaining(n))
        left_s = control.deadline.remaining() - control.margin_s
        now = Progress(n, n_kv, timing.kept_tokens, factor, self.evictions.most, latest)
        revised = self.planner.revise(plan, known, now, left_s)
        control.dropped = self.drops and revised.verdict is Verdict.INFEASIBLE
        if revised is plan:
            return n_kv
        if revised.n_keep != now.n_keep and revised.evict_after <= n:
            self._keep(n, n_kv, revised.n_keep)
            n_kv += revised.n_keep - now.n_keep
        control.cap = revised.length_cap
        timing.length_cap = max(timing.length_cap, revised.length_cap)
        self.plan = revised
        told = replace(timing)
        told.set_plan(revised)
        told.generated_tokens = n
        told.wcet_s = control.deadline.clock() - timing.paused_s - self.started_s + revised.decode_wcet_s
        control.revised = (revised, told)
        return n_kv

    def _keep(self, n: int, n_kv: int, n_keep: int) -> None:
        clock, timing, more = self.control.deadline.clock, self.timing, n_keep - self.timing.kept_tokens
        self.profiled_s += self.segment_s(n) + (self._times.restore(n_kv + more) if more > 0 else
                                                self._times.eviction(n_kv))
        self._since = n
        started = clock()
        (self.evictions.bring_back if more > 0 else self.evictions.evict)(n_keep)
        self.model.synchronize()
        timing.eviction_s += clock() - started
        timing.kept_tokens, timing.eviction_ratio = n_keep, 1 - n_keep / timing.prompt_tokens

    def segment_s(self, n: int) -> float:
        """Return the seconds that the profile gives for the steps since the last change, up to `n` tokens."""
        first = self._since
        cached = self.timing.kept_tokens + first - 1
        return self._steps.decode(cached, n - first + 1)
