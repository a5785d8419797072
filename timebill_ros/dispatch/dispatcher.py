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

One thread owns all state and takes events from a queue: a goal was submitted or canceled, the worker has sent a
message, a timer is due. So nothing here needs a lock, and every goal ends in one place, `_end`. Goals run one at a
time, in the order that schedule.py gives; waiting counts against their budget. A goal that gives way to a more urgent
one is held aside, and goes on after it. When the worker is late, hung or gone, the dispatcher ends the goal by its
deadline, as its overrun strategy says, with the text received so far.

After each event: end or mark what a timer says (`_check_timers`), review the goals that wait (`_review`), give the
worker the next one (`_start_next`).
"""
from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict

from timebill_ros.codes import ErrorCode
from timebill_ros.deadline import Clock
from timebill_ros.dispatch import endings
from timebill_ros.dispatch.begun import BegunGoals
from timebill_ros.dispatch.bound_estimate import Estimate, Waiting
from timebill_ros.dispatch.counts import Counts
from timebill_ros.dispatch.event_loop import EventLoop, guarded
from timebill_ros.dispatch.job import Job
from timebill_ros.dispatch.pending_estimates import Estimates
from timebill_ros.dispatch.preemption import takes_over
from timebill_ros.dispatch.recent_goals import RecentGoals
from timebill_ros.dispatch.schedule import Blocking, ServiceTimes, blocked_by
from timebill_ros.dispatch.supervisor import Supervisor
from timebill_ros.dispatch.tiers import tier_of
from timebill_ros.dispatch.waiting import WaitingGoals
from timebill_ros.dispatch.worker_facts import WorkerFacts
from timebill_ros.request import Outcome, Request


class Dispatcher:
    """Feeds one worker. Public methods may be called from any thread; they hand an event to the dispatcher's own.

    `start_worker`: see Supervisor; `start_caller`: see tiers.tier_of. `on_change(job)` is called at each change of a
    goal's state, `on_health()` when the worker is lost or back, both from the dispatcher's thread; they must not block.
    """

    def __init__(self, start_worker: Callable, settings: dict, on_change: Callable[[Job], None],
                 on_health: Callable[[], None] = lambda: None, *, start_caller: Callable | None = None,
                 clock: Clock = time.monotonic):
        self.settings = settings
        self.facts, self.recent = WorkerFacts(), RecentGoals()
        self._on_change, self._clock = on_change, clock
        self._events = EventLoop('dispatcher', self._until_next_timer,
                                 (self._check_timers, self._review, self._start_next))
        self._supervisor = Supervisor(
            start_worker, settings, lambda *event: self._events.post(self._receive, *event), clock, on_health)
        self._times = ServiceTimes()
        self._begun = BegunGoals(self._supervisor.send, clock)
        self._waiting = WaitingGoals(settings, self._times, self._begun.aside)
        self._estimates = Estimates(clock, self._wait_of, self._times.prepared)
        self._counts = Counts()
        self.tier = tier_of(settings, self._events.post, self._conclude, self._tell, clock, start_caller)
        self._events.start()

    # -- called from any thread ----------------------------------------------------------------------------------

    def configure(self) -> Future[str]:
        """Start the worker and load the model; the future gives a description, or raises with a sentence."""
        future: Future[str] = Future()
        self._events.post(self.tier.configure, lambda: self._supervisor.begin(future), future)
        return future

    def submit(self, job: Job) -> None:
        self._events.post(self._submit, job)

    def cancel(self, job: Job, reason: str = '') -> None:
        """End a goal with CANCELED; `reason`: why the node does so, empty where its client asked for it."""
        self._events.post(self._cancel, job, reason)

    def estimate(self, request: Request) -> Future[Estimate]:
        """Ask for an estimate of `request`: the worker's, or the node's own at once where a goal runs or waits."""
        future: Future[Estimate] = Future()
        self._events.post(self._ask, self._estimates.ask, request, future)
        return future

    def prepare(self, request: Request) -> Future[tuple[int, int]]:
        """Have a prompt read ahead -> (its tokens, how many of them are kept then); BUSY where goals run or wait."""
        future: Future[tuple[int, int]] = Future()
        self._events.post(self._ask, self._estimates.prepare, request, future)
        return future

    def update(self, settings: dict) -> None:
        """Pass on parameters that may change while goals run."""
        self._events.post(self._update, settings)

    def renew_deadlines(self, instant: Callable[[float], float | None], epoch: int) -> None:
        """Move absolute deadlines to where ROS time now puts them.

        `instant(ROS time)` returns a monotonic instant, or None where ROS time cannot say. Jobs of another `epoch` of
        the ROS clock keep the deadlines that they have.
        """
        self._events.post(self._renew_deadlines, instant, epoch)

    def end_all(self, code: ErrorCode, message: str) -> threading.Event:
        """End every goal held, the running one with its text so far; the event is set once that is done."""
        done = threading.Event()
        self._events.post(self._end_all, code, message, done)
        return done

    def close(self) -> None:
        """End what is left, stop the worker and the thread."""
        if self._events.is_running:
            self.end_all(ErrorCode.INACTIVE, 'the server shut down')
            self._events.post(self._stop)
            self._events.join(10.0)

    @property
    def is_ready(self) -> bool:
        return self._supervisor.is_ready

    def held(self, more: tuple[Job, ...] = ()) -> list[Job]:
        """Return the goals that run or wait in the order in which they start or go on, as if `more` waited too."""
        return [*filter(None, [self._begun.running]), *self._waiting.queue(more)]

    @property
    def worker_pid(self) -> int | None:
        return self._supervisor.pid

    @property
    def counts(self) -> dict[str, int]:
        return {**asdict(self._counts), 'worker_restarts': self._supervisor.restarts}

    @property
    def onboard_s(self) -> float:
        return self._times.answer_s

    # -- the loop ------------------------------------------------------------------------------------------------

    def _tell(self, job: Job) -> None:
        """Report a change. Whoever listens may fail; the dispatcher's own state does not depend on it."""
        guarded(self._on_change, job)

    def _until_next_timer(self) -> float:
        next_s = min(part.next_timer_s() for part in (self._supervisor, self._estimates, self._waiting, self._begun,
                                                      self.tier))
        return min(60.0, max(0.0, next_s - self._clock()))

    def _check_timers(self) -> None:
        now = self._clock()
        for job in self._begun:
            if now >= job.guard_s():
                self._abandon(job)
                self._end(job, endings.overdue(job, now))
            elif not job.is_late and now >= job.request.deadline_s:
                job.is_late = True  # its strategy lets it go on
                self._tell(job)
        self._supervisor.check_timers()
        self._estimates.check_timers()
        self.tier.check_timers()

    def _abandon(self, job: Job) -> None:
        if job is self._begun.running:
            self._supervisor.abandon(job.request.request_id)

    def _review(self) -> None:
        """Look at the goals that wait: report where the chance of one has changed, and end those that have none."""
        if not self._waiting.queue():
            return
        found = self._waiting.review(self._blocking(), self._clock(), starts_now=self._starts_now(),
                                     is_ready=self.is_ready, is_blocked=any(self._begun))
        for job, outcome in list(found):
            if outcome is not None:
                self._end(job, outcome)
            else:
                self._tell(job)
        if self.settings['preempt'] == 'deadline' and self.settings['scheduling'] == 'edf':
            urgent = self._waiting.next()  # it could wait when it came; the running goal may take longer than expected
            if urgent is not None and self._takes_over(urgent):
                self._preempt(self._begun.running, urgent.request)

    def _blocking(self) -> Blocking:
        """Return when the running goal makes room."""
        if self._begun.running:
            return blocked_by(self._begun.running, self._clock(), self._times)
        return Blocking.at(self._supervisor.free_from_s(), is_sure=self.is_ready)

    def _starts_now(self) -> bool:
        """Whether a goal may be given to the worker."""
        return self._supervisor.is_free and not self._begun.running

    def _start_next(self) -> None:
        job = next(iter(self._waiting.queue()), None)
        if not self._starts_now() or job is None:
            return
        self._waiting.remove(job)
        self._begun.run(job)
        self._tell(job)

    # -- goals ---------------------------------------------------------------------------------------------------

    def _submit(self, job: Job) -> None:
        self._counts.accepted += 1
        self.tier.begin(job)
        request, running, stops_it = job.request, self._begun.running, self._takes_over(job)
        if not self._supervisor.is_coming:
            self._end(job, endings.refused(job, ErrorCode.INACTIVE, 'no worker is configured'))
        elif (late := self._begun.late_for(request, self.settings['preempt'])) and not stops_it:
            self._end(job, endings.skipped(job, late, self._clock()))
        elif stops_it or self._has_room(request):
            if stops_it:
                self._preempt(running, request)
            self._waiting.add(job)
        else:
            self._end(job, endings.busy(job, len(self._waiting)))

    def _has_room(self, request: Request) -> bool:
        """Whether one more goal may wait. One of higher priority takes the place of the least urgent, which ends."""
        if (self._starts_now() and not self._waiting) or not self._waiting.is_full:
            return True
        last = self._waiting.displaced_by(request)
        if last is None:
            return False
        self._end(last, endings.busy(last, len(self._waiting), request))
        return True

    def _takes_over(self, job: Job) -> bool:
        return self._begun.running is not None and takes_over(
            job, self._begun.running, self._waiting, self._times, self._clock(), self.settings['preempt'])

    def _preempt(self, running: Job, by: Request) -> None:
        now = self._clock()
        lacks = self._waiting.lacks(running, now, wait_s=self._times.usual_s(by))
        running.preempted_by = endings.took_its_place(by, now) + lacks
        self._begun.stop(running, 'cancel' if lacks else 'pause', self._supervisor.grace_s)

    def _cancel(self, job: Job, reason: str) -> None:
        if job.outcome is not None or job.canceled:
            return
        job.canceled, job.cancel_reason = True, reason
        self.tier.forget(job)
        if job is self._begun.running:
            self._begun.stop(job, 'cancel', self._supervisor.grace_s)
        else:
            self._end(job, endings.stopped(job))

    def _renew_deadlines(self, instant: Callable[[float], float | None], epoch: int) -> None:
        for job in [*self.held(), *self.tier.held]:
            if job.renew_deadline(instant, epoch) and any(job is begun for begun in self._begun):
                self._begun.move_deadline(job)

    def _end_all(self, code: ErrorCode, message: str, done: threading.Event) -> None:
        for job in self._waiting:
            self._end(job, endings.refused(job, code, message))
        for job in [*self._begun, *self.tier.held]:
            self._abandon(job)
            self._end(job, endings.given_up(job, code, message))
        done.set()

    def _end(self, job: Job, outcome: Outcome, finished_s: float | None = None) -> None:
        """Take the end of a goal on board. The goal itself goes on where the server may still answer it better."""
        self._leave(job)
        guarded(self._times.observe, job.request, outcome)
        decided = self.tier.decide(job, outcome)
        if decided is None:
            self._tell(job)
        else:
            self._conclude(job, decided, finished_s)

    def _leave(self, job: Job) -> None:
        if not self._begun.remove(job):
            self._waiting.remove(job)

    def _conclude(self, job: Job, outcome: Outcome, finished_s: float | None = None) -> None:
        """End a goal: the one place that does. It ends even where the account of it fails."""
        now = self._clock()
        self._abandon(job)  # it runs where the server's answer is taken instead
        self._leave(job)
        job.finished_s = finished_s or now
        for account in ((job.complete, outcome.timing, now), (self._counts.observe, outcome),
                        (self.recent.observe, outcome, now)):
            guarded(*account)
        job.close(outcome)
        self._tell(job)

    # -- the worker ----------------------------------------------------------------------------------------------

    def _receive(self, generation: int, event: dict) -> None:
        """Take one message of the worker; `generation`: see Supervisor."""
        if not self._supervisor.hears(generation, event):
            return
        self.facts.learn(event)
        self._estimates.learn(event)
        kind, job = event['event'], self._begun.find(event.get('id'))
        if kind == 'ready':
            self._times.ready(event)
        elif kind == 'lost':
            self._estimates.worker_lost()
            for job in self._begun:
                if self._begun.starts_anew(job):
                    self._waiting.add(job)
                else:
                    self._end(job, endings.lost(job, event['reason']))
        elif kind == 'estimate':
            self._estimates.answer(event)
        elif kind == 'prepared':
            self._estimates.prepared(event)
        elif job is None:
            return  # about no goal, or one that the node has ended
        elif kind == 'done':
            self._end(job, *endings.received(job, event))
        elif kind == 'paused':
            self._begun.gave_way(job)
            self._tell(job)
        elif job.progress(event, self._clock()):
            self._tell(job)

    def _ask(self, ask: Callable, request: Request, future: Future) -> None:
        message = ask(request, future, is_idle=self._starts_now() and not self._waiting.queue())
        if message is not None:
            self._supervisor.send(message)

    def _wait_of(self, request: Request, worst_s: Callable[[Request], float]) -> Waiting:
        """Return how long a goal that is released now would wait; `worst_s`: what a goal takes in the worst case."""
        job, now = Job(request), self._clock()
        blocking = Blocking.at(now + self._times.pause_s(self._begun.running)) if self._takes_over(job) else \
            self._blocking()
        return self._waiting.wait_of(job, blocking, now, worst_s)

    def _update(self, settings: dict) -> None:
        self.settings.update(settings)
        self._supervisor.send({'op': 'set', 'settings': settings})  # a worker that is still loading takes it afterwards

    def _stop(self) -> None:
        self._events.stop()
        self._supervisor.stop()
        self.tier.stop()
        self._estimates.fail(ErrorCode.INACTIVE, 'the server shut down')
