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

"""The outcomes that the node gives a goal itself: it was refused, or its worker is late, stopped or lost.

Pure functions from a job to its outcome, each with the sentence that its client reads. What a cut answer is worth is
left to overrun.py.
"""
from __future__ import annotations

import logging
from dataclasses import replace

from timebill_ros import overrun
from timebill_ros.codes import ErrorCode, FinishReason, Part
from timebill_ros.dispatch.job import Job
from timebill_ros.request import Outcome, Request, Timing

log = logging.getLogger(__name__)


def refused(job: Job, code: ErrorCode, message: str, reason: FinishReason = FinishReason.ERROR) -> Outcome:
    """Return the outcome of a goal that never started."""
    return Outcome(code, message, '', reason, job.timing)


def skipped(job: Job, late: Job, now: float) -> Outcome:
    """Return the outcome of a goal that was released while the goal `late` was running after its deadline."""
    return refused(job, ErrorCode.SKIPPED, f'goal {late.request.request_id} is late by '
                   f'{now - late.request.deadline_s:.3f} s; under SKIP_NEXT those released meanwhile are skipped',
                   FinishReason.SKIPPED)


def busy(job: Job, n_waiting: int, by: Request | None = None) -> Outcome:
    """Return the outcome of a goal for which the queue has no room; `by` took its place there."""
    came = f', and one of priority {by.priority} came' if by is not None else ''
    return refused(job, ErrorCode.BUSY, f'{n_waiting} goals are waiting already (queue_size){came}')


def hopeless(job: Job, now: float, *, starts_s: float, least_s: float, is_ready: bool, is_blocked: bool) -> Outcome:
    """Return the outcome of a waiting goal that cannot make its deadline any more.

    `starts_s`: the instant at which it is expected to start; `least_s`: the seconds that reading its prompt takes at
    least. `is_ready`: there is a worker; `is_blocked`: another goal runs.
    """
    request = job.request
    blocked = 'the inference process is restarting' if not is_ready else \
        'another goal runs' if is_blocked else 'others are before it'
    if starts_s - now >= 0.0005:
        start = f'it cannot start before {starts_s - now:.3f} s from now ({blocked})'
    elif is_ready and not is_blocked:
        start = 'it would be too late even if it started now'
    else:
        start = f'it has not started yet ({blocked}), and would be too late even if it started now'
    return refused(
        job, ErrorCode.INFEASIBLE if is_ready else ErrorCode.WORKER_LOST,
        f'{start}; '
        f'{max(0.0, request.deadline_s - now):.3f} s of its time budget of {request.time_budget_s:.3f} s are left, '
        f'less {request.delivery_margin_s:.3f} s for delivery and at least {least_s:.3f} s for reading the prompt')


def took_its_place(by: Request, now: float) -> str:
    """Return the sentence that a goal ends with because the goal `by` preempts it."""
    return f'goal {by.request_id} of priority {by.priority}, due in {by.deadline_s - now:.3f} s, took its place'


def _thought(job: Job) -> str:
    """Return what was written so far in the goal's thinking section."""
    return job.beside.get(Part.REASONING, '').strip()


def _interrupted(job: Job, code: ErrorCode, message: str, text: str, timing: Timing, reasoning: str) -> Outcome:
    outcome = overrun.interrupt(job.request, code, message, text, timing)
    return outcome if overrun.of(job.request).cut_is_lost else replace(outcome, reasoning=reasoning)


def stopped(job: Job, reported: Outcome | None = None) -> Outcome:
    """Return the outcome of a goal that was canceled or preempted; `reported`: the worker's account, if it came."""
    text, timing, reasoning = (reported.text, reported.timing, reported.reasoning) if reported else \
        (job.text, job.timing, _thought(job))
    if job.preempted_by and not job.canceled:
        return _interrupted(job, ErrorCode.PREEMPTED, job.preempted_by, text, timing, reasoning)
    outcome = overrun.settle(job.request, FinishReason.CANCELED, text, timing, reasoning=reasoning)
    return replace(outcome, error_msg=job.cancel_reason) if job.cancel_reason else outcome


def left_aside(job: Job) -> Outcome:
    """Return the outcome of a goal that gave way to another and cannot go on in time any more."""
    job.preempted_by += ', and too little time is left for going on'
    return stopped(job)


def overdue(job: Job, now: float) -> Outcome:
    """Return the outcome of a goal that the worker has not ended by `job.guard_s()`."""
    if job.is_aside and not job.canceled:
        return left_aside(job)
    if now >= job.stop_by_s:
        return stopped(job)
    return overrun.settle(job.request, FinishReason.DEADLINE, job.text, job.timing, reasoning=_thought(job))


def given_up(job: Job, code: ErrorCode, message: str) -> Outcome:
    """Return the outcome of a running goal that the node gives up, with the text so far."""
    return Outcome(code, message, job.text, FinishReason.ERROR, job.timing, reasoning=_thought(job))


def lost(job: Job, reason: str) -> Outcome:
    """Return the outcome of a goal whose worker ended while the goal ran. One that was canceled stays canceled."""
    if job.canceled:
        return stopped(job)
    message = f'the inference process ended ({reason}) after {job.n_tokens} tokens'
    return _interrupted(job, ErrorCode.WORKER_LOST, message, job.text, job.timing, _thought(job))


def unreadable(job: Job, error: Exception) -> Outcome:
    """Return the outcome of a goal that ended with a message of the worker that holds no outcome."""
    return _interrupted(job, ErrorCode.UNKNOWN, 'the inference process sent a result that cannot be: '
                        f'{type(error).__name__}: {error}', job.text, job.timing, _thought(job))


def received(job: Job, event: dict) -> tuple[Outcome, float | None]:
    """Return the outcome that the worker has sent, and the instant at which it ended; None: the message lacks it."""
    try:
        outcome, finished_s = Outcome.from_dict(event['outcome']), float(event['finished_s'])
    except (KeyError, TypeError, ValueError) as error:
        log.exception('the worker sent no outcome')
        return unreadable(job, error), None
    return stopped(job, outcome) if outcome.finish_reason is FinishReason.CANCELED else outcome, finished_s
