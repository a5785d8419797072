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

"""The plan looked at again while decoding: the pace is measured by then, and less of the length is unknown.

Where the current plan would miss, more of the prompt is evicted, as much as the planner's rules ask for and never below
the floor. Where not even that would let the expected length fit, the cache stays as it is: the answer will be cut
wherever it is, and is better for what it can still read. Either way the revised plan says so.
"""
from __future__ import annotations

from dataclasses import replace

from timebill_ros.inference.control import Control
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.pessimistic_length import PessimisticLength, expected
from timebill_ros.planning import planner
from timebill_ros.request import Plan, Timing, Verdict
from timebill_ros.timing.execution_time import ExecutionTimes


class Replanner:
    """One request's. Called from the token loop: it computes, and evicts; another thread sends what it writes to
    `control.revised`.
    """

    def __init__(self, model, times: ExecutionTimes, length: PessimisticLength, distribution: LengthDistribution, *,
                 plan: Plan, timing: Timing, control: Control, n_min: int, n_max: int, started_s: float,
                 caution: float = 1.0, reserve_s: float = 0.0, for_promises: bool = False, drops: bool = False):
        # caution, reserve_s: as in planner.plan. for_promises: evict only where that lets the pessimistic length fit,
        # because a quality table has chosen the cache of an answer that will probably be cut. drops: set
        # control.dropped where not even the predicted length fits any more.
        self.caution, self.reserve_s, self.for_promises, self.drops = caution, reserve_s, for_promises, drops
        self.model, self.times, self.length, self.distribution = model, times, length, distribution
        self._steps = times.steps
        self.plan, self.timing, self.control = plan, timing, control
        self.n_min, self.n_max, self.started_s = n_min, n_max, started_s
        self.profiled_s = 0.0  # profile's time for the segments that are over
        self._since = 1  # tokens when the current segment began

    def __call__(self, n: int, n_kv: int, pace: float) -> int:
        """After `n` tokens, with `n_kv` cached entries and steps of `pace` seconds lately -> cached entries."""
        plan, timing = self.plan, self.timing
        # A device that seems faster than it was planned for is no reason to plan for less.
        step_s = self._steps(n_kv)
        slow = max(pace / step_s, plan.timing_factor) if step_s > 0 else plan.timing_factor
        steps = self._steps.scaled(slow)
        left = self.control.deadline.remaining() - self.control.margin_s
        n_w = self.length.pessimistic(self.distribution, self.n_max, n)
        # The planner's rules with the tokens so far as part of the cache, and the next token as the first.
        still = Verdict.FITS_WITH_EVICTION if timing.kept_tokens < timing.prompt_tokens else Verdict.FITS
        if plan.verdict is still and \
                planner.fits(steps.scaled(self.caution), n_kv, n_w - n + 1, left - self.reserve_s):
            return n_kv  # as mostly: no more is worked out, because the next token waits for this
        n_hat = min(expected(self.distribution, self.n_max, n), n_w)
        generated = n_kv - timing.kept_tokens
        revised = planner.plan(
            steps=steps, n_x=n_kv, n_min=min(self.n_min + generated, n_kv), time_left_s=left,
            eviction_s=self.times.eviction(n_kv) * slow, predicted=n_hat - n + 1, pessimistic=n_w - n + 1,
            n_max=self.n_max - n + 1, caution=self.caution, reserve_s=self.reserve_s)
        evicts = revised.n_keep < n_kv and (revised.verdict.is_promise or not self.for_promises and
                                            revised.verdict is not Verdict.INFEASIBLE)
        verdict = still if revised.verdict is Verdict.FITS else revised.verdict
        self.control.dropped = self.drops and verdict is Verdict.INFEASIBLE
        if not evicts and verdict is plan.verdict:
            return n_kv
        if evicts:
            self._evict(n, n_kv, revised.n_keep - generated)
            n_kv = revised.n_keep
        self.plan = replace(
            plan, verdict=verdict, n_x=timing.prompt_tokens, n_keep=timing.kept_tokens,
            eviction_ratio=1 - timing.kept_tokens / timing.prompt_tokens,
            predicted_tokens=n_hat, pessimistic_tokens=n_w, fitting_tokens=n - 1 + revised.fitting_tokens,
            decode_wcet_s=revised.decode_wcet_s, decode_expected_s=revised.decode_expected_s, timing_factor=slow)
        told = replace(timing)
        told.set_plan(self.plan)
        told.generated_tokens = n
        told.wcet_s = self.control.deadline.clock() - self.started_s + self.plan.decode_wcet_s
        self.control.revised = (self.plan, told)
        return n_kv

    def _evict(self, n: int, n_kv: int, n_keep: int) -> None:
        clock = self.control.deadline.clock
        self.profiled_s += self.segment_s(n) + self.times.eviction(n_kv)
        self._since = n
        started = clock()
        self.model.evict(n_keep)
        self.model.synchronize()
        timing = self.timing
        timing.eviction_s += clock() - started
        timing.kept_tokens, timing.eviction_ratio = n_keep, 1 - n_keep / timing.prompt_tokens

    def segment_s(self, n: int) -> float:
        """Profile's time of the steps since the last eviction, up to `n` tokens."""
        first = self._since
        cached = self.timing.kept_tokens + first - 1
        return self.times.steps.decode(cached, n - first + 1)
