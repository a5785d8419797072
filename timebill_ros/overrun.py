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

"""What happens when the deadline comes before an answer is complete: one class per strategy, no torch, no rclpy.

A new strategy is a class here, its number in request.Strategy and its name in settings.STRATEGIES, and a row in
test/test_overrun.py. The worker settles the answers that it cuts, the node those that the worker owes.
"""
from __future__ import annotations

from timebill_ros.request import ErrorCode, FinishReason, Outcome, Request, Strategy, Timing


class OverrunStrategy:
    """What one strategy does differently; the defaults are those of a strategy that keeps what there is."""

    runs_on = False  # whether decoding goes on after the deadline, for Request.max_overrun_s at most
    cut_is_lost = False  # whether an answer that the deadline cut is worth nothing: see `drops`, and knobs' may_cap
    nothing = 'there is nothing to keep'  # why a cut answer came to nothing

    def kept(self, request: Request, text: str) -> str:
        """What the client gets of an answer that was cut with `text` so far; empty: nothing."""
        return usable(request, text)


class Truncate(OverrunStrategy):
    """The text so far is an answer."""


class Kill(OverrunStrategy):
    """Firm: an answer that is not complete at the deadline is worth nothing (PAPER: Kill)."""

    cut_is_lost = True
    nothing = 'KILL keeps no text'

    def kept(self, request: Request, text: str) -> str:
        return ''


class SkipNext(OverrunStrategy):
    """Soft: a late answer is completed, and the goals released while it is late are skipped (PAPER: Skip-Next).

    At the end of max_overrun_s it is cut, and what there is is kept.
    """

    runs_on = True


STRATEGIES = {Strategy.KILL: Kill(), Strategy.TRUNCATE: Truncate(), Strategy.SKIP_NEXT: SkipNext()}


def of(request: Request) -> OverrunStrategy:
    """The strategy of a request that passed admission."""
    return STRATEGIES[request.strategy]


def drops(request: Request, drop_infeasible: str) -> bool:
    """Whether `request` ends as soon as not even its predicted length fits, by the parameter of that name."""
    return drop_infeasible == 'all' or drop_infeasible == 'kill' and of(request).cut_is_lost


def usable(request: Request, text: str) -> str:
    """A cut answer as the goal wants it: back to the last line end if so asked, then its closing text.

    Empty where nothing is left of the answer: closing text alone must not read as one. The closing text is appended,
    not generated: it costs no steps, so the plan reserves none for it.
    """
    if request.stop_at_line_end:
        text = text[:text.rfind('\n') + 1]
    return text + request.closing_text if text else ''


def settle(request: Request, reason: FinishReason, text: str, timing: Timing) -> Outcome:
    """What a generation that stopped for `reason` with `text` is worth: the one place where a deadline becomes a code.

    Having nothing to keep is a failure, because an empty answer must not read as success.
    """
    if reason is FinishReason.CANCELED:
        return Outcome(ErrorCode.CANCELED, 'canceled by the client', text, reason, timing)
    if reason not in (FinishReason.DEADLINE, FinishReason.CAPPED):
        return Outcome(ErrorCode.NONE, '', text, reason, timing)
    strategy = of(request)
    if reason is FinishReason.CAPPED:  # in time, whatever the strategy
        ended, kept, nothing = 'the plan capped the answer', usable(request, text), OverrunStrategy.nothing
    else:
        ended, kept, nothing = 'the deadline came', strategy.kept(request, text), strategy.nothing
    if kept:
        return Outcome(ErrorCode.NONE, '', kept, reason, timing)
    overrun = f' and the overrun of {request.max_overrun_s:.3f} s' if strategy.runs_on else ''
    return Outcome(ErrorCode.TIMEOUT, f'{ended} after {timing.generated_tokens} tokens (time budget '
                   f'{timing.time_budget_s:.3f} s{overrun}); {nothing}', '', reason, timing)


def interrupt(request: Request, code: ErrorCode, message: str, text: str, timing: Timing) -> Outcome:
    """An answer cut by something else than its deadline (WORKER_LOST, PREEMPTED): its strategy says what is kept."""
    return Outcome(code, message, of(request).kept(request, text), FinishReason.ERROR, timing)
