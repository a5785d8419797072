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

"""Which goal runs, and that every goal ends: the node's half of the flow, without ROS.

One thread owns all state and takes events from a queue: a goal submitted or canceled, a message of the worker, a
time that has come. So nothing here is locked, and every goal ends in exactly one place, `_end`. Goals run one at a
time, in the order that schedule.py gives; waiting counts against their budget. A goal whose worker is late, hung or
gone is ended here by its deadline, as its overrun strategy says, with the text received so far.
"""
from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from timebill_ros import overrun
from timebill_ros.deadline import Clock
from timebill_ros.dispatch import schedule
from timebill_ros.dispatch.job import Job
from timebill_ros.dispatch.pending_estimates import Estimates
from timebill_ros.dispatch.supervisor import Supervisor
from timebill_ros.request import (
    ErrorCode,
    FinishReason,
    GoalError,
    Outcome,
    Phase,
    Plan,
    Request,
    Timing,
    Verdict,
    to_dict,
)

log = logging.getLogger(__name__)

MOVED_S = 1e-3  # a deadline that moves by less is left where it is


class Dispatcher:
    """Feeds one worker. `on_change(job)` is called at each change of a goal's state, `on_health()` when the worker is
    lost or back, both from the dispatcher's thread; they must not block. `start_worker`: see Supervisor.
    """

    def __init__(self, start_worker: Callable, settings: dict, on_change: Callable[[Job], None],
                 on_health: Callable[[], None] = lambda: None, *, clock: Clock = time.monotonic):
        self.settings = settings
        self.tracked = {'timing_factor': 1.0}  # what the worker has learned of its device, for diagnostics
        self._on_change = on_change
        self._clock = clock
        self._events: queue.SimpleQueue[tuple] = queue.SimpleQueue()
        self._supervisor = Supervisor(
            start_worker, settings, lambda *event: self._events.put((self._receive, *event)), clock, on_health)
        self._waiting: list[Job] = []  # in the order they came in
        self._running: Job | None = None
        self._service = schedule.ServiceTimes()
        self._estimates = Estimates(clock)
        self._counts = {'accepted': 0, 'promised': 0, 'missed': 0, 'late': 0, 'skipped': 0, 'preempted': 0}
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name='dispatcher', daemon=True)
        self._thread.start()

    # -- called from any thread ----------------------------------------------------------------------------------

    def configure(self) -> Future[str]:
        """Start the worker and load the model; the future gives a description, or raises with a sentence."""
        future: Future[str] = Future()
        self._events.put((self._supervisor.begin, future))
        return future

    def submit(self, job: Job) -> None:
        self._events.put((self._submit, job))

    def cancel(self, job: Job) -> None:
        self._events.put((self._cancel, job))

    def estimate(self, request: Request) -> Future[dict]:
        """The worker's estimate for `request`; GoalError BUSY where a goal runs or waits."""
        future: Future[dict] = Future()
        self._events.put((self._estimate, request, future))
        return future

    def update(self, settings: dict) -> None:
        """Pass on parameters that may change while goals run."""
        self._events.put((self._update, settings))

    def renew_deadlines(self, instant: Callable[[float], float | None], epoch: int) -> None:
        """ROS time goes at another pace: `instant(ROS time)` gives monotonic instants, or None, from now on."""
        self._events.put((self._renew_deadlines, instant, epoch))

    def end_all(self, code: ErrorCode, message: str) -> threading.Event:
        """End every goal held, the running one with its text so far; the event is set once that is done."""
        done = threading.Event()
        self._events.put((self._end_all, code, message, done))
        return done

    def close(self) -> None:
        """End what is left, stop the worker and the thread."""
        if self._thread.is_alive():
            self.end_all(ErrorCode.INACTIVE, 'the server shut down')
            self._events.put((self._stop,))
            self._thread.join(10.0)

    @property
    def is_ready(self) -> bool:
        return self._supervisor.is_ready

    @property
    def n_waiting(self) -> int:
        return len(self._waiting)

    @property
    def worker_pid(self) -> int | None:
        return self._supervisor.pid

    @property
    def counts(self) -> dict[str, int]:
        return {**self._counts, 'worker_restarts': self._supervisor.restarts}

    # -- the loop ------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._stopping:
            try:
                event = self._events.get(timeout=self._until_next_timer())
            except queue.Empty:
                event = None
            try:
                if event is not None:
                    event[0](*event[1:])
                self._check_timers()
                self._review()
                self._start_next()
            except Exception:  # a bug must not take every goal down with it
                log.exception('dispatcher event failed')

    def _until_next_timer(self) -> float:
        times = [self._supervisor.next_timer_s(), self._estimates.next_timer_s()]
        times += [schedule.last_start_s(job.request, self._service) for job in self._waiting]
        if self._running:
            times += [self._running.guard_s()] + ([] if self._running.is_late else [self._running.request.deadline_s])
        return min(60.0, max(0.0, min(times) - self._clock()))

    def _check_timers(self) -> None:
        now, job = self._clock(), self._running
        if job and now >= job.guard_s():
            self._supervisor.abandon(job.request.request_id)
            self._end(job, self._stopped(job) if now >= job.stop_by_s else
                      overrun.settle(job.request, FinishReason.DEADLINE, job.text, job.timing))
        elif job and not job.is_late and now >= job.request.deadline_s:
            job.is_late = True  # its strategy lets it go on
            self._on_change(job)
        self._supervisor.check_timers()
        self._estimates.check_timers()

    def _review(self) -> None:
        """Look at the goals that wait: tell where the chance of one has changed, and end those that have none."""
        if not self._waiting:
            return
        drop = self.settings['drop_infeasible']
        found = list(schedule.chances(schedule.order(self._waiting, self.settings['scheduling']), self._blocking(),
                                      self._service, lambda request: overrun.drops(request, drop)))
        first = found[0][0].request
        if self._starts_now() and self._clock() < first.deadline_s - first.delivery_margin_s:
            del found[0]  # the worker will look at it at once, and knows its tokens
        for job, chance in found:
            request = job.request
            if chance.hopeless or (chance.verdict is Verdict.INFEASIBLE and overrun.drops(request, drop)):
                job.timing.verdict = Verdict.INFEASIBLE
                code = ErrorCode.INFEASIBLE if self.is_ready else ErrorCode.WORKER_LOST
                self._refuse(job, code, self._why_hopeless(request, chance))
            elif chance.verdict is not job.timing.verdict:
                job.timing.verdict = chance.verdict
                self._on_change(job)

    def _why_hopeless(self, request: Request, chance: schedule.Chance) -> str:
        now = self._clock()
        blocked = 'the inference process is restarting' if not self.is_ready else \
            'another goal runs' if self._running else 'others are before it'
        return (f'it cannot start before {max(0.0, chance.starts_s - now):.3f} s from now ({blocked}); '
                f'{max(0.0, request.deadline_s - now):.3f} s of its time budget of {request.time_budget_s:.3f} s are '
                f'left, less {request.delivery_margin_s:.3f} s for delivery and at least '
                f'{self._service.least_s(request):.3f} s for reading the prompt')

    def _blocking(self) -> schedule.Blocking:
        free, job, now = self._supervisor.free_from_s(), self._running, self._clock()
        if job is None:
            return schedule.Blocking(free, free, free)
        expected_s, worst_s = job.remaining_s(now)
        if job.plan is None:
            expected_s, worst_s = self._service.usual_s(job.request) - (now - job.started_s), math.inf
        limit = max(now, job.guard_s())
        return schedule.Blocking(now, min(now + max(0.0, expected_s), limit), min(now + worst_s, limit))

    def _starts_now(self) -> bool:
        """Whether a goal may be given to the worker."""
        return self._supervisor.is_free and not self._running

    def _start_next(self) -> None:
        if not self._starts_now() or not self._waiting:
            return
        job = schedule.order(self._waiting, self.settings['scheduling'])[0]
        self._waiting.remove(job)
        self._running = job
        job.phase, job.started_s = Phase.PREFILL, self._clock()
        job.timing.queue_s = job.started_s - job.request.release_s
        job.timing.verdict = Verdict.UNKNOWN  # until the plan
        self._on_change(job)
        self._supervisor.send({'op': 'run', 'request': to_dict(job.request)})

    # -- goals ---------------------------------------------------------------------------------------------------

    def _submit(self, job: Job) -> None:
        self._counts['accepted'] += 1
        request, running, now = job.request, self._running, self._clock()
        preempts = running is not None and not running.preempted_by and \
            schedule.preempts(request, running.request, self.settings['preempt'])
        if not self._supervisor.is_coming:
            self._refuse(job, ErrorCode.INACTIVE, 'no worker is configured')
        elif running and running.is_late and not preempts:
            self._counts['skipped'] += 1
            self._refuse(job, ErrorCode.SKIPPED, f'goal {running.request.request_id} is late by '
                         f'{now - running.request.deadline_s:.3f} s; under SKIP_NEXT those released meanwhile are '
                         'skipped', FinishReason.SKIPPED)
        elif preempts or self._has_room(request):
            if preempts:
                self._preempt(running, request)
            self._waiting.append(job)
        else:
            self._refuse(job, ErrorCode.BUSY, f'{len(self._waiting)} goals are waiting already (queue_size)')

    def _refuse(self, job: Job, code: ErrorCode, message: str, reason: FinishReason = FinishReason.ERROR) -> None:
        self._end(job, Outcome(code, message, '', reason, job.timing))

    def _has_room(self, request: Request) -> bool:
        """Whether one more goal may wait; one of higher priority takes the place of the least urgent one."""
        if (self._starts_now() and not self._waiting) or len(self._waiting) < self.settings['queue_size']:
            return True
        last = max(self._waiting, key=lambda job: schedule.urgency(job.request), default=None)
        if last is None or last.request.priority >= request.priority:
            return False
        self._refuse(last, ErrorCode.BUSY, f'{len(self._waiting)} goals are waiting already (queue_size), and one of '
                     f'priority {request.priority} came')
        return True

    def _preempt(self, running: Job, by: Request) -> None:
        running.preempted_by = f'goal {by.request_id} of priority {by.priority}, due in ' \
                               f'{by.deadline_s - self._clock():.3f} s, took its place'
        self._stop_running(running)

    def _cancel(self, job: Job) -> None:
        if job.outcome is not None:
            return
        job.canceled = True
        if job is self._running:
            self._stop_running(job)
        else:
            self._end(job, self._stopped(job))

    def _stop_running(self, job: Job) -> None:
        # The worker stops within a chunk or a step and reports; its account is better than ours.
        self._supervisor.send({'op': 'cancel', 'id': job.request.request_id})
        job.stop_by_s = min(job.stop_by_s, self._clock() + self._supervisor.grace_s)

    @staticmethod
    def _stopped(job: Job, outcome: Outcome | None = None) -> Outcome:
        """A goal that was canceled or preempted, with the worker's account where there is one."""
        text, timing = (outcome.text, outcome.timing) if outcome else (job.text, job.timing)
        if job.preempted_by and not job.canceled:
            return overrun.interrupt(job.request, ErrorCode.PREEMPTED, job.preempted_by, text, timing)
        return overrun.settle(job.request, FinishReason.CANCELED, text, timing)

    def _renew_deadlines(self, instant: Callable[[float], float | None], epoch: int) -> None:
        for job in [*self._waiting, *([self._running] if self._running else [])]:
            at_s = None
            if job.ros_deadline_s is not None and job.clock_epoch == epoch:
                at_s = instant(job.ros_deadline_s)
            if at_s is None:
                continue  # the last mapping holds
            request, at_s = job.request, min(at_s, job.budget_deadline_s)
            if abs(at_s - request.deadline_s) > MOVED_S:
                request.deadline_s = at_s
                if job is self._running:
                    self._supervisor.send({'op': 'deadline', 'id': request.request_id, 'deadline_s': at_s})

    def _end_all(self, code: ErrorCode, message: str, done: threading.Event) -> None:
        for job in list(self._waiting):
            self._refuse(job, code, message)
        if self._running:
            job = self._running
            self._supervisor.abandon(job.request.request_id)
            self._end(job, Outcome(code, message, job.text, FinishReason.ERROR, job.timing))
        done.set()

    def _end(self, job: Job, outcome: Outcome, finished_s: float | None = None) -> None:
        """The one place where a goal ends."""
        now, request, timing = self._clock(), job.request, outcome.timing
        if job is self._running:
            self._running = None
        elif job in self._waiting:
            self._waiting.remove(job)
        if job.promise is not Verdict.UNKNOWN:
            timing.verdict = job.promise
        job.finished_s = finished_s or now
        if timing.queue_s != timing.queue_s:  # NaN: it never started
            timing.queue_s = now - request.release_s
        timing.time_budget_s = request.time_budget_s  # of an absolute deadline in simulated time: as it became
        timing.response_time_s = now - request.release_s
        timing.tardiness_s = max(0.0, now - request.deadline_s)
        self._service.observe(request, outcome)
        self._counts['late'] += timing.tardiness_s > 0
        self._counts['preempted'] += outcome.error_code is ErrorCode.PREEMPTED
        if timing.verdict.is_promise and outcome.error_code not in (ErrorCode.CANCELED, ErrorCode.INACTIVE):
            self._counts['promised'] += 1
            self._counts['missed'] += not outcome.finish_reason.is_natural or timing.tardiness_s > 0
        job.timing, job.outcome = timing, outcome
        job.phase = Phase.SKIPPED if outcome.error_code is ErrorCode.SKIPPED else Phase.DONE
        job.ended.set()
        self._on_change(job)

    # -- the worker ----------------------------------------------------------------------------------------------

    def _receive(self, generation: int, event: dict) -> None:
        if not self._supervisor.hears(generation, event):
            return
        self.tracked = event.get('tracked', self.tracked)
        kind = event['event']
        if kind == 'ready':
            self._service.prefill = [(n, seconds) for n, seconds in event['prefill']]
        elif kind == 'lost':
            self._lost(event['reason'])
        elif kind == 'estimate':
            self._estimates.answer(event)
        elif self._running and event['id'] == self._running.request.request_id:
            self._progress(self._running, kind, event)

    def _progress(self, job: Job, kind: str, event: dict) -> None:
        if kind == 'text':
            job.text += event['delta']
            job.n_tokens = job.timing.generated_tokens = event['n']
        elif kind == 'plan':
            job.plan, job.planned_s = Plan.from_dict(event['plan']), self._clock()
            job.timing = Timing.from_dict(event['timing'])
            if job.promise is Verdict.UNKNOWN:
                job.promise = job.timing.verdict
            self._on_change(job)
        elif kind == 'phase' and event['phase'] != job.phase:
            job.phase = Phase(event['phase'])
            self._on_change(job)
        elif kind == 'done':
            outcome = Outcome.from_dict(event['outcome'])
            if outcome.finish_reason is FinishReason.CANCELED:
                outcome = self._stopped(job, outcome)
            self._end(job, outcome, event['finished_s'])

    def _lost(self, reason: str) -> None:
        self._estimates.fail(ErrorCode.WORKER_LOST, f'the inference process ended ({reason})')
        if self._running:
            job = self._running
            self._end(job, overrun.interrupt(
                job.request, ErrorCode.WORKER_LOST, f'the inference process ended ({reason}) after {job.n_tokens} '
                'tokens', job.text, job.timing))

    def _estimate(self, request: Request, future: Future) -> None:
        if not self._starts_now() or self._waiting:
            what = 'the worker is not ready' if not self.is_ready else 'a goal is running or waiting'
            future.set_exception(GoalError(ErrorCode.BUSY, f'{what}; an estimate would delay it'))
        else:
            self._supervisor.send(self._estimates.ask(request, future))

    def _update(self, settings: dict) -> None:
        self.settings.update(settings)
        self._supervisor.send({'op': 'set', 'settings': settings})  # one that is still loading takes it afterwards

    def _stop(self) -> None:
        self._stopping = True
        self._supervisor.stop()
        self._estimates.fail(ErrorCode.INACTIVE, 'the server shut down')
