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

"""One goal that two tiers answer: what each has by now, and which answer is the better one. Pure."""
from __future__ import annotations

import math
from dataclasses import dataclass, replace

from timebill_ros import overrun
from timebill_ros.codes import ErrorCode, FinishReason, Tier
from timebill_ros.dispatch.job import Job
from timebill_ros.request import Outcome, Timing

NOTHING, CUT, WHOLE = range(3)  # what an outcome holds; the quality counts between two that hold as much
STALL_S, STALL_PIECES = 0.5, 5  # an answer that flowed has stalled after so long, and so many times the usual pause
FINAL = (ErrorCode.CANCELED, ErrorCode.INACTIVE, ErrorCode.INVALID_GOAL)  # ends that no answer of a server changes


@dataclass
class Race:
    """A goal for which the server is asked, or has answered. Instants are monotonic seconds."""

    job: Job
    asked_s: float
    silence_s: float  # for how long the server had said nothing then
    expected_s: float  # seconds until its answer is complete, in the usual case; NaN: not known
    model: str = ''  # what the server calls its model
    is_try: bool = False  # of a breaker that is open
    first_s: float = math.nan  # seconds from asking to the first token
    last_s: float = math.nan  # when the latest piece came
    n: int = 0  # pieces so far
    text: str = ''  # the server's, so far
    finish: FinishReason | None = None  # how the server's answer ended; None: it has not
    held: Outcome | None = None  # how the goal ended on board, while the server's answer is waited for

    @property
    def due_s(self) -> float:
        """Until when a good answer on board waits for a better one: the whole margin is left for delivery."""
        return self.job.request.deadline_s - self.job.request.delivery_margin_s

    @property
    def limit_s(self) -> float:
        """Until when the server may answer: as for the worker, ROS has half of the margin for the result."""
        return self.job.request.deadline_s - self.job.request.delivery_margin_s / 2

    @property
    def next_timer_s(self) -> float:
        """When something has to be decided, whatever the server does."""
        waits = self.held is not None and not self.held.error_code
        return self.due_s if waits and self.finish is None else self.limit_s

    @property
    def is_expected_in_time(self) -> bool:
        """Whether the answer is expected by the time that it is due; also where nothing is known."""
        return not self.asked_s + self.expected_s > self.due_s

    def flowed(self, until_s: float) -> bool:
        """Whether pieces of the answer came until just before the instant `until_s`: it is long or slow, no failure."""
        if math.isnan(self.first_s):
            return False
        pause_s = (self.last_s - self.asked_s - self.first_s) / max(1, self.n - 1)
        return until_s - self.last_s <= max(STALL_S, STALL_PIECES * pause_s)

    def is_worth_waiting(self, outcome: Outcome, quality: float) -> bool:
        """Whether the server may still bring more than `outcome`, the end on board; `quality`: of its answers."""
        return (WHOLE, quality) > rank(outcome, self.job) and (bool(outcome.error_code) or self.is_expected_in_time)

    def wins_at_once(self, quality: float) -> bool:
        """Whether a complete answer of the server is no worse than any that may still come on board."""
        plan = self.job.plan
        return quality >= (plan.quality if plan is not None else 1.0)

    def better(self, outcome: Outcome, quality: float) -> Outcome:
        """Return the better one of `outcome`, the end on board, and what the server has said by now."""
        if self.finish is not None:
            return self.answer(outcome.timing) if (WHOLE, quality) >= rank(outcome, self.job) else outcome
        if not outcome.error_code or not self.text.strip():
            return outcome
        cut = self._settled(FinishReason.DEADLINE, outcome.timing)
        return outcome if cut.error_code else cut

    def answer(self, timing: Timing) -> Outcome:
        """Return the server's complete answer as an outcome; `timing`: the account of what ran on board."""
        return self._settled(self.finish, timing)

    def _settled(self, reason: FinishReason, timing: Timing) -> Outcome:
        # Where an answer is cut within a character, some servers send U+FFFD for the half of it.
        text = self.text.rstrip('\ufffd') if reason is not FinishReason.EOS else self.text
        return overrun.settle(self.job.request, reason, text, self.timing(timing))

    def timing(self, on_board: Timing) -> Timing:
        """Return the account of a goal that is answered with the server's text."""
        return replace(on_board, tier=Tier.OFFBOARD, generated_tokens=self.n, forced_tokens=0, reasoning_tokens=0,
                       length_cap=0, decode_s=math.nan, mask_s=math.nan, variant=self.model,
                       time_to_first_token_s=self.asked_s + self.first_s - self.job.request.release_s)


def rank(outcome: Outcome, job: Job) -> tuple[int, float]:
    """Return how good an end on board is: what it holds, and the quality that its plan expects."""
    if outcome.error_code:
        return NOTHING, 0.0
    holds = WHOLE if outcome.finish_reason.is_natural else CUT
    return holds, job.plan.quality if job.plan is not None else 1.0
