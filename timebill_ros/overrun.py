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

A new strategy is a class here, its number in codes.Strategy and its name in settings.STRATEGIES, and a row in
test/test_overrun.py. The worker settles the answers that it cuts, the node those that the worker owes.
"""
from __future__ import annotations

from collections.abc import Sequence

from timebill_ros.codes import ErrorCode, FinishReason, GoalError, OnCut, Strategy
from timebill_ros.request import CUT, Outcome, Plan, Request, Timing


class OverrunStrategy:
    """Base class of the strategies. Its defaults stop at the deadline and keep the text so far."""

    runs_on = False  # whether decoding goes on after the deadline, for Request.max_overrun_s at most
    cut_is_lost = False  # whether an answer that the deadline cut is worth nothing: see `drops`, and may_cap of plans
    nothing = ''  # for the error sentence: why it keeps nothing of an answer that the deadline cut

    def kept(self, request: Request, text: str) -> str:
        """Return what the client gets of an answer that was cut with `text` so far; empty: nothing."""
        return usable(request, text)


class Truncate(OverrunStrategy):
    """Stop at the deadline; the text so far is the answer."""


class Kill(OverrunStrategy):
    """Stop at the deadline; an answer that is not complete by then is worth nothing: firm (PAPER: Kill)."""

    cut_is_lost = True
    nothing = 'KILL keeps no text'

    def kept(self, request: Request, text: str) -> str:
        return ''


class SkipNext(OverrunStrategy):
    """Complete a late answer, and skip the goals released while it is late: soft (PAPER: Skip-Next).

    An answer that is still not complete max_overrun_s after its deadline is cut, and keeps the text so far.
    """

    runs_on = True


STRATEGIES = {Strategy.KILL: Kill(), Strategy.TRUNCATE: Truncate(), Strategy.SKIP_NEXT: SkipNext()}


def of(request: Request) -> OverrunStrategy:
    """Return the strategy of a request that passed admission."""
    return STRATEGIES[request.strategy]


def drops(request: Request, drop_infeasible: str) -> bool:
    """Tell whether `request` ends as soon as not even its predicted length fits; see the parameter drop_infeasible."""
    return drop_infeasible == 'all' or drop_infeasible == 'kill' and of(request).cut_is_lost


def usable(request: Request, text: str) -> str:
    """Return a cut answer as its goal wants it: back to the last line end if asked for, then the closing text.

    Cut is what the deadline, a cap or the goal's own max_new_tokens has ended: all three end it anywhere in a sentence.
    Empty where nothing is left of the answer, because the closing text alone must not read as one. The closing text is
    appended, not generated. It takes no decode steps, so the plan reserves none for it.
    """
    if request.stop_at_line_end:
        text = text[:text.rfind('\n') + 1]
    return text + request.closing_text if text else ''


def settle(request: Request, reason: FinishReason, text: str, timing: Timing, *, added: int | None = None,
           context_is_full: bool = False, calls: Sequence[dict[str, str]] = (), reasoning: str = '', dropped: int = 0
           ) -> Outcome:
    """Return the outcome of a generation that stopped for `reason` with `text` so far.

    This is the one place where a deadline becomes an error code. A cut answer of which nothing is kept is a failure,
    because an empty text must not read as success. So is a cut answer without the form that the goal asks for: `added`
    says how many characters at the end of `text` complete it, None: it was not completed; `dropped`: how many items of
    it are not in `text`. `context_is_full`: the model's context has no room for another token, so that a CAPPED answer
    was cut by it and not by a plan. `calls` of tools are kept as the text is; each is complete. `reasoning` goes with
    either.
    """
    if reason is FinishReason.CANCELED:
        return Outcome(ErrorCode.CANCELED, 'canceled by the client', text, reason, timing, reasoning=reasoning)
    if reason not in CUT:
        return Outcome(ErrorCode.NONE, '', text, reason, timing, 0, list(calls), reasoning)
    # LENGTH and CAPPED came in time, so every strategy keeps their text.
    kept = of(request).kept(request, text) if reason is FinishReason.DEADLINE else usable(request, text)
    if request.has_form and added is None:
        kept = ''
    if reason is FinishReason.DEADLINE and of(request).cut_is_lost:
        calls, reasoning = (), ''
    if kept or calls:
        return Outcome(ErrorCode.NONE, '', kept, reason, timing, added or len(request.closing_text) if kept else 0,
                       list(calls), reasoning, dropped if kept else 0)
    code, message = _nothing_kept(request, reason, text, timing, context_is_full)
    return Outcome(code, message, '', reason, timing, reasoning=reasoning)


def _missing(request: Request, text: str) -> str:
    """Return why nothing is left of a cut answer with `text` so far."""
    if not text:
        return 'it held no text and no complete call yet' if request.tools else 'it held no text yet'
    if request.has_form:
        hint = '' if request.on_cut is OnCut.CLOSE else ' (on_cut: drop; close would have made up the rest)'
        return f'what was complete of it does not have the form asked for{hint}'
    return 'no line of it had ended (stop_at_line_end)'


def _nothing_kept(request: Request, reason: FinishReason, text: str, timing: Timing,
                  context_is_full: bool) -> tuple[ErrorCode, str]:
    """Return code and sentence for a cut answer of which nothing is left. They name what the client can change."""
    n, strategy = timing.generated_tokens, of(request)
    missing = _missing(request, text)
    if reason is FinishReason.LENGTH:
        return ErrorCode.INVALID_GOAL, f'max_new_tokens {request.max_new_tokens} ended the answer, and {missing}'
    if reason is FinishReason.CAPPED and context_is_full:
        return ErrorCode.PROMPT_TOO_LONG, (f'behind the prompt of {timing.prompt_tokens} tokens the context has room '
                                           f'for {n} more; these ended the answer, and {missing}')
    capped = reason is FinishReason.CAPPED
    ended, nothing = ('the plan capped the answer', missing) if capped else \
        ('the deadline came', strategy.nothing or f'there is nothing to keep: {missing}')
    overrun = f' and the overrun of {request.max_overrun_s:.3f} s' if strategy.runs_on else ''
    return ErrorCode.DEADLINE_MISSED, (f'{ended} after {n} tokens (time budget {timing.time_budget_s:.3f} s{overrun}); '
                                       f'{nothing}')


def interrupt(request: Request, code: ErrorCode, message: str, text: str, timing: Timing) -> Outcome:
    """Return the outcome of an answer cut by something other than its deadline, for instance WORKER_LOST or PREEMPTED.

    The goal's strategy says what text is kept.
    """
    kept = of(request).kept(request, text)
    return Outcome(code, message, kept, FinishReason.ERROR, timing, len(request.closing_text) if kept else 0)


def infeasible(plan: Plan, left_s: float, request: Request, n: int = 0) -> GoalError:
    """Return the error of a goal that is dropped (see `drops`) after `n` tokens, with `left_s` seconds left."""
    return GoalError(ErrorCode.INFEASIBLE, f'{plan.predicted_tokens - n} more tokens are expected, and '
                     f'{max(0, plan.fitting_tokens - n)} fit the {max(left_s, 0.0):.3f} s that are left of the '
                     f'time budget of {request.time_budget_s:.3f} s (drop_infeasible)')
