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
from collections.abc import Callable
from dataclasses import dataclass, field

from timebill_ros.codes import ErrorCode, Part, Phase, Tier, Verdict
from timebill_ros.request import Outcome, Plan, Request, Timing

MOVED_S = 1e-3  # a deadline that would move by less stays where it is
# Fields of Timing that the node alone knows.
OFFBOARD = ('offboard_verdict', 'offboard_wcet_s', 'offboard_first_token_s', 'offboard_s')


@dataclass
class Job:
    """One accepted goal. Only the dispatcher's thread writes here; `ended` is set after `outcome`.

    Instants are monotonic seconds.
    """

    request: Request
    ros_deadline_s: float | None = None  # absolute deadline in ROS time, where the goal has one that may move
    clock_epoch: int = 0  # epoch of the ROS clock at the release: see node/ros_time.py
    budget_deadline_s: float = math.inf  # the instant that the goal's time budget alone would give
    phase: Phase = Phase.QUEUED
    timing: Timing = field(default_factory=Timing)
    plan: Plan | None = None  # the latest; the worker may plan again while it decodes
    promise: Verdict = Verdict.UNKNOWN  # verdict of the first plan, which is the one that counts
    started_s: float = 0.0  # when the goal was given to the worker
    planned_s: float = 0.0  # when `plan` arrived
    text: str = ''  # as streamed so far, without what is in `beside`
    beside: dict[Part, str] = field(default_factory=dict)  # reasoning and calls of tools, as streamed so far
    thinks: bool = False  # it writes a thinking section: the plan is that of the answer behind it
    n_tokens: int = 0
    first_text: tuple[float, int] = (0.0, 0)  # (when the first tokens came, how many came then)
    last_text_s: float = 0.0  # when the latest tokens came
    is_contested: bool = False  # a server is asked too, and it is open whose answer it will be: no text is shown
    is_late: bool = False  # the goal runs on after its deadline (SKIP_NEXT)
    canceled: bool = False
    cancel_reason: str = ''  # a sentence about why the node canceled it; empty: its client did
    preempted_by: str = ''  # a sentence about the goal that took its place
    aside_since_s: float | None = None  # since when it has given way to others; None: it has not, or it goes on
    phase_aside: Phase = Phase.QUEUED  # how far it had come by then
    stop_by_s: float = math.inf  # when a stopped goal ends even though the worker has not answered
    outcome: Outcome | None = None
    finished_s: float = 0.0  # when the worker, or else the node, ended it
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self):
        self.timing.time_budget_s = self.request.time_budget_s

    def remaining_s(self, now: float) -> tuple[float, float]:
        """Return the estimated seconds to the end at the predicted and at the pessimistic length.

        Both are NaN before the plan and 0 after the end. While the goal thinks they are those of the answer.
        """
        if self.outcome is not None:
            return 0.0, 0.0
        if self.plan is None:
            return float('nan'), float('nan')
        if self.thinks:  # until just what is planned for the answer is left
            return self.plan.decode_expected_s, self.plan.decode_planned_s
        spent = self._until(now) - self.planned_s
        return max(0.0, self.plan.decode_expected_s - spent), max(0.0, self.plan.decode_wcet_s - spent)

    def _until(self, now: float) -> float:
        """Return until when the goal has been worked at, of the time since it started or was planned."""
        return now if self.aside_since_s is None else self.aside_since_s

    def ran_s(self, now: float) -> float:
        """Return for how long the goal has been worked at, in seconds."""
        return self._until(now) - self.started_s

    @property
    def is_aside(self) -> bool:
        """Whether the goal has given way to others, and may go on."""
        return self.aside_since_s is not None

    @property
    def waits(self) -> bool:
        """Whether the goal has not ended, and either not started or given way to others."""
        return self.phase is Phase.QUEUED and self.outcome is None

    @property
    def tokens_per_s(self) -> float | None:
        """How fast the answer is decoded, in tokens a second; None before tokens came twice."""
        (began_s, began), last_s = self.first_text, self.last_text_s
        return (self.n_tokens - began) / (last_s - began_s) if last_s > began_s else None

    def guard_s(self) -> float:
        """Return the instant at which the node ends the goal itself.

        Half of the delivery margin before the deadline: the worker has the first half to report, ROS the second.
        """
        request = self.request
        may_overrun = self.phase is not Phase.QUEUED or self.is_aside  # a goal that has not started may not
        overrun_s = request.max_overrun_s if may_overrun else 0.0
        return min(request.deadline_s + overrun_s - request.delivery_margin_s / 2, self.stop_by_s)

    def start(self, now: float) -> None:
        """Account for the goal being given to the worker."""
        self.phase, self.started_s = Phase.PREFILL, now
        self.timing.queue_s = now - self.request.release_s
        self.timing.verdict = Verdict.UNKNOWN  # what was told while it waited; the plan will tell

    def give_way(self, now: float) -> None:
        """Account for others being worked at in its place."""
        self.aside_since_s, self.phase_aside, self.phase = now, self.phase, Phase.QUEUED
        self.timing.preemptions += 1
        if not self.canceled:
            self.stop_by_s = math.inf

    def go_on(self, now: float) -> None:
        """Account for the goal being worked at again: what is measured leaves the time in between out."""
        away_s = now - self.aside_since_s
        self.aside_since_s, self.phase, self.preempted_by = None, self.phase_aside, ''
        self.timing.paused_s += away_s
        self.started_s += away_s
        self.planned_s += away_s
        self.first_text = self.first_text[0] + away_s, self.first_text[1]
        self.last_text_s += away_s

    def start_anew(self) -> None:
        """Account for a goal that gave way before it had any text, and whose worker was lost: it waits again."""
        timing = Timing(time_budget_s=self.request.time_budget_s, preemptions=self.timing.preemptions)
        self.keep_offboard(timing)
        self.aside_since_s, self.plan, self.preempted_by, self.timing = None, None, '', timing

    def renew_deadline(self, instant: Callable[[float], float | None], epoch: int) -> bool:
        """Move a deadline in ROS time to where `instant` puts it; whether it moved. See Dispatcher.renew_deadlines."""
        if self.ros_deadline_s is None or self.clock_epoch != epoch:
            return False
        at_s = instant(self.ros_deadline_s)
        if at_s is None:
            return False  # the deadline stays where it was put last
        at_s = min(at_s, self.budget_deadline_s)
        moves = abs(at_s - self.request.deadline_s) > MOVED_S
        if moves:
            self.request.deadline_s = at_s
        return moves

    def progress(self, event: dict, now: float) -> bool:
        """Take what the worker says of the running goal; True where its phase or its plan has changed."""
        kind = event['event']
        if kind == 'text':
            part = Part(event.get('part', Part.TEXT))
            if part is Part.TEXT:
                self.text += event['delta']
            else:
                self.beside[part] = self.beside.get(part, '') + event['delta']
            if event['delta']:
                self.thinks = part is Part.REASONING
            self.n_tokens = self.timing.generated_tokens = event['n']
            self.last_text_s = now
            if not self.first_text[1]:
                self.first_text = now, event['n']
        elif kind == 'plan':
            plan, timing = Plan.from_dict(event['plan']), Timing.from_dict(event['timing'])  # either may raise
            self.plan, self.planned_s, self.thinks = plan, now, False
            self.keep_offboard(timing)
            self.timing = timing
            if self.promise is Verdict.UNKNOWN:
                self.promise = self.timing.verdict
            return True
        elif kind == 'refused' and self.preempted_by:
            self.preempted_by += f'; it could not be kept for later ({event["why"]})'
        elif kind == 'phase' and event['phase'] != self.phase:
            self.phase = Phase(event['phase'])
            return True
        return False

    def keep_offboard(self, timing: Timing) -> None:
        """Put what is known of the server into an account that the worker has made."""
        for name in OFFBOARD:
            setattr(timing, name, getattr(self.timing, name))

    def written(self) -> dict[Part, str]:
        """Return the text so far that may be shown, by its parts."""
        return {} if self.is_contested else {Part.TEXT: self.text, **self.beside}

    def complete(self, timing: Timing, now: float) -> None:
        """Fill in what the node knows better than the worker, of a goal that ends now."""
        request = self.request
        if self.is_aside and timing.paused_s == self.timing.paused_s:  # an account of the worker's has it already
            timing.paused_s += now - self.aside_since_s
        if self.promise is not Verdict.UNKNOWN:
            timing.verdict = self.promise
        if math.isnan(timing.queue_s):  # it never started
            timing.queue_s = now - request.release_s
        timing.time_budget_s = request.time_budget_s  # a deadline in simulated time may have moved
        if timing is not self.timing:
            self.keep_offboard(timing)
        timing.response_time_s = now - request.release_s
        timing.tardiness_s = max(0.0, now - request.deadline_s)

    def close(self, outcome: Outcome) -> None:
        """Hold the outcome, and wake who waits for it."""
        if outcome.timing.tier is Tier.NONE and (outcome.text or outcome.tool_calls or not outcome.error_code):
            outcome.timing.tier = Tier.ONBOARD
        if outcome.timing.tier is Tier.OFFBOARD:
            self.n_tokens = outcome.timing.generated_tokens  # the last feedback tells it beside the server's text
        self.timing, self.outcome = outcome.timing, outcome
        self.phase = Phase.SKIPPED if outcome.error_code is ErrorCode.SKIPPED else Phase.DONE
        self.ended.set()
