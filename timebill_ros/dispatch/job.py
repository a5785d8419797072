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

"""One accepted goal in the node, from release to its outcome."""
from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field

from timebill_ros.request import Outcome, Phase, Plan, Request, Timing, Verdict


@dataclass
class Job:
    """One accepted goal. Written by the dispatcher only; `ended` is set after `outcome`."""

    request: Request
    ros_deadline_s: float | None = None  # absolute deadline in ROS time, where the goal has one that may move
    clock_epoch: int = 0  # of the ROS clock when it was released
    budget_deadline_s: float = math.inf  # instant that its time budget alone would give
    phase: Phase = Phase.QUEUED
    timing: Timing = field(default_factory=Timing)
    plan: Plan | None = None  # the latest; while an answer is decoded it may be made again
    promise: Verdict = Verdict.UNKNOWN  # verdict of the first plan, which is what counts
    started_s: float = 0.0  # when it was given to the worker
    planned_s: float = 0.0  # when the plan was made
    text: str = ''  # as streamed so far
    n_tokens: int = 0
    is_late: bool = False  # it runs on after its deadline (SKIP_NEXT)
    canceled: bool = False  # by its client
    preempted_by: str = ''  # sentence about the goal that took its place
    stop_by_s: float = math.inf  # when a cancel that the worker does not answer ends it
    outcome: Outcome | None = None
    finished_s: float = 0.0  # when the worker, or else the node, ended it
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self):
        self.timing.time_budget_s = self.request.time_budget_s

    def remaining_s(self, now: float) -> tuple[float, float]:
        """Estimated seconds to the end: (at the predicted length, at the pessimistic length); NaN before the plan."""
        if self.outcome is not None:
            return 0.0, 0.0
        if self.plan is None:
            return float('nan'), float('nan')
        spent = now - self.planned_s
        return max(0.0, self.plan.decode_expected_s - spent), max(0.0, self.plan.decode_wcet_s - spent)

    def guard_s(self) -> float:
        """When the node ends the goal itself: half of the delivery margin is left to the worker, half to ROS."""
        request = self.request
        overrun_s = request.max_overrun_s if self.phase is not Phase.QUEUED else 0.0  # one that waits is never late
        return min(request.deadline_s + overrun_s - request.delivery_margin_s / 2, self.stop_by_s)
