"""Which goal runs, and that every goal ends: the node's half of the flow, without ROS.

One thread owns all state and takes events from a queue: a goal submitted or canceled, a message of the worker, a
time that has come. So nothing here is locked, and every goal ends in exactly one place, `_end`. Goals run one at a
time, first come first served; waiting counts against their budget. A goal whose worker is late, hung or gone is ended
here by its deadline with the text received so far.
"""
from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from timebill_ros.deadline import Clock
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
    settle,
    to_dict,
)

log = logging.getLogger(__name__)

# How long a worker may go on after the node ended its goal, before it is taken for hung: so long, and so many times
# longer than it is expected to compute without looking at a cancel.
HANG_GRACE_S = 2.0
HANG_GRACE_PAUSES = 5
ESTIMATE_TIMEOUT_S = 5.0
BACKOFF_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass
class Job:
    """One accepted goal. Written by the dispatcher only; `ended` is set after `outcome`."""

    request: Request
    phase: Phase = Phase.QUEUED
    timing: Timing = field(default_factory=Timing)
    plan: Plan | None = None  # the latest; while an answer is decoded it may be made again
    promise: Verdict = Verdict.UNKNOWN  # verdict of the first plan, which is what counts
    planned_s: float = 0.0  # when the plan was made
    text: str = ''  # as streamed so far
    n_tokens: int = 0
    outcome: Outcome | None = None
    finished_s: float = 0.0  # when the worker, or else the node, ended it
    cancel_by_s: float = math.inf  # when a cancel that the worker does not answer ends it
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


class Dispatcher:
    """Feeds one worker. `on_change(job)` is called at each change of phase, from the dispatcher's thread; it must
    not block. `start_worker(on_event)` returns a WorkerProcess or something like it; OSError if it cannot."""

    def __init__(self, start_worker: Callable, settings: dict, on_change: Callable[[Job], None], *,
                 clock: Clock = time.monotonic):
        self._start_worker = start_worker
        self.settings = settings
        self._on_change = on_change
        self._clock = clock
        self._events: queue.SimpleQueue[tuple] = queue.SimpleQueue()
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._abandoned: tuple[str, float] | None = None  # a goal ended here that the worker still runs; since when
        self._worker = None
        self._generation = 0  # tells a dead worker's late messages from those of its successor
        self._ready = False
        self._grace_s = HANG_GRACE_S
        self._restart_s: float | None = None
        self._failures = 0
        self._estimates: dict[int, tuple[Future, float]] = {}
        self._configured: Future[str] | None = None
        self.tracked = {'timing_factor': 1.0}  # what the worker has learned of its device, for diagnostics
        self.counts = {'accepted': 0, 'promised': 0, 'missed': 0, 'late': 0, 'worker_restarts': 0}
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name='dispatcher', daemon=True)
        self._thread.start()

    # -- called from any thread ----------------------------------------------------------------------------------

    def configure(self) -> Future[str]:
        """Start the worker and load the model; the future gives a description, or raises with a sentence."""
        future: Future[str] = Future()
        self._events.put((self._begin, future))
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
        return self._ready

    @property
    def n_waiting(self) -> int:
        return len(self._waiting)

    @property
    def worker_pid(self) -> int | None:
        worker = self._worker
        return worker.pid if worker is not None else None

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
                self._start_next()
            except Exception:  # a bug must not take every goal down with it
                log.exception('dispatcher event failed')

    def _until_next_timer(self) -> float:
        times = [self._guard_s(job) for job in [*self._waiting, *([self._running] if self._running else [])]]
        times += [until for _, until in self._estimates.values()]
        if self._abandoned:
            times.append(self._abandoned[1] + self._grace_s)
        if self._restart_s is not None:
            times.append(self._restart_s)
        return min(60.0, max(0.0, min(times, default=float('inf')) - self._clock()))

    def _guard_s(self, job: Job) -> float:
        """When the node ends the goal itself: half of the delivery margin is left to the worker, half to ROS."""
        return min(job.request.deadline_s - job.request.delivery_margin_s / 2, job.cancel_by_s)

    def _check_timers(self) -> None:
        now = self._clock()
        if self._running and now >= self._guard_s(self._running):
            job = self._running
            self._worker.send({'op': 'cancel', 'id': job.request.request_id})
            self._abandoned = (job.request.request_id, now)
            if now >= job.cancel_by_s:
                self._end(job, settle(job.request, FinishReason.CANCELED, job.text, job.timing))
            else:
                self._end_late(job)
        for job in [job for job in self._waiting if now >= self._guard_s(job)]:
            self._waiting.remove(job)
            self._end_late(job)
        if self._abandoned and now >= self._abandoned[1] + self._grace_s:
            log.error('the worker has not answered for %.1f s after the end of its goal; restarting it', self._grace_s)
            self._abandoned, self._ready = None, False  # not ready: the next goal waits for the next worker
            self._worker.kill()  # its 'lost' event does the rest
        for tag, (future, until) in list(self._estimates.items()):
            if now >= until:
                del self._estimates[tag]
                future.set_exception(GoalError(ErrorCode.BUSY, 'the worker did not answer in time'))
        if self._restart_s is not None and now >= self._restart_s:
            self._restart_s = None
            self._spawn()

    def _start_next(self) -> None:
        if not self._ready or self._running or self._abandoned or not self._waiting:
            return
        job = self._waiting.popleft()
        self._running = job
        job.phase = Phase.PREFILL
        job.timing.queue_s = self._clock() - job.request.release_s
        self._on_change(job)
        self._worker.send({'op': 'run', 'request': to_dict(job.request)})  # where that fails, 'lost' is on its way

    # -- goals ---------------------------------------------------------------------------------------------------

    def _submit(self, job: Job) -> None:
        self.counts['accepted'] += 1
        starts_now = self._ready and not (self._running or self._abandoned or self._waiting)
        if not starts_now and len(self._waiting) >= self.settings['queue_size']:
            self._end(job, Outcome(ErrorCode.BUSY, f'{len(self._waiting)} goals are waiting already (queue_size)', '',
                                   FinishReason.ERROR, job.timing))
        elif not self._ready and self._restart_s is None and self._worker is None:
            self._end(job, Outcome(ErrorCode.INACTIVE, 'no worker is configured', '', FinishReason.ERROR, job.timing))
        elif self._clock() >= self._guard_s(job):
            job.timing.verdict = Verdict.INFEASIBLE
            self._end(job, Outcome(ErrorCode.INFEASIBLE, f'the time budget of {job.request.time_budget_s:.3f} s leaves '
                                   f'nothing after the delivery margin of {job.request.delivery_margin_s:.3f} s', '',
                                   FinishReason.ERROR, job.timing))
        else:
            self._waiting.append(job)

    def _cancel(self, job: Job) -> None:
        if job.outcome is not None:
            return
        if job is self._running:
            # The worker stops within a chunk or a step and reports; its account is better than ours.
            self._worker.send({'op': 'cancel', 'id': job.request.request_id})
            job.cancel_by_s = min(job.cancel_by_s, self._clock() + self._grace_s)
            return
        self._waiting.remove(job)
        self._end(job, settle(job.request, FinishReason.CANCELED, '', job.timing))

    def _end_late(self, job: Job) -> None:
        """The deadline has come and the worker has not: the strategy decides with the text received so far."""
        if not self._ready:
            self._end(job, Outcome(ErrorCode.WORKER_LOST, 'the deadline came while the inference process was '
                                   'restarting', '', FinishReason.DEADLINE, job.timing))
        else:
            self._end(job, settle(job.request, FinishReason.DEADLINE, job.text, job.timing))

    def _end_all(self, code: ErrorCode, message: str, done: threading.Event) -> None:
        for job in list(self._waiting):
            self._end(job, Outcome(code, message, '', FinishReason.ERROR, job.timing))
        self._waiting.clear()
        if self._running:
            job = self._running
            self._worker.send({'op': 'cancel', 'id': job.request.request_id})
            self._abandoned = (job.request.request_id, self._clock())
            self._end(job, Outcome(code, message, job.text, FinishReason.ERROR, job.timing))
        done.set()

    def _end(self, job: Job, outcome: Outcome, finished_s: float | None = None) -> None:
        """The one place where a goal ends."""
        now = self._clock()
        if job is self._running:
            self._running = None
        timing = outcome.timing
        if job.promise is not Verdict.UNKNOWN:
            timing.verdict = job.promise
        job.finished_s = finished_s or now
        if timing.queue_s != timing.queue_s:  # NaN: it never started
            timing.queue_s = now - job.request.release_s
        timing.response_time_s = now - job.request.release_s
        timing.tardiness_s = max(0.0, now - job.request.deadline_s)
        self.counts['late'] += timing.tardiness_s > 0
        if timing.verdict.is_promise and outcome.error_code not in (ErrorCode.CANCELED, ErrorCode.INACTIVE):
            self.counts['promised'] += 1
            self.counts['missed'] += not outcome.finish_reason.is_natural or timing.tardiness_s > 0
        job.timing, job.outcome, job.phase = timing, outcome, Phase.DONE
        job.ended.set()
        self._on_change(job)

    # -- the worker ----------------------------------------------------------------------------------------------

    def _begin(self, future: Future) -> None:
        self._configured = future
        self._spawn()

    def _spawn(self) -> None:
        self._generation += 1
        generation = self._generation
        try:
            self._worker = self._start_worker(lambda event: self._events.put((self._receive, generation, event)))
        except OSError as error:
            self._fail(f'worker_python {self.settings["worker_python"]!r} cannot be started: {error}')
            return
        self._worker.send({'op': 'configure', 'settings': self.settings})

    def _fail(self, message: str) -> None:
        """The worker is not coming up: tell configure, or try again later when it had been up before."""
        worker, self._worker, self._ready = self._worker, None, False
        self._generation += 1  # whatever else it says is not heard
        if worker is not None:
            worker.kill()
        if self._configured is not None:
            future, self._configured = self._configured, None
            future.set_exception(RuntimeError(message))
            return
        wait = BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
        self._failures += 1
        self.counts['worker_restarts'] += 1
        log.error('%s; starting a new one in %.0f s', message, wait)
        self._restart_s = self._clock() + wait

    def _receive(self, generation: int, event: dict) -> None:
        if generation != self._generation:
            return
        kind = event['event']
        self.tracked = event.get('tracked', self.tracked)
        if kind == 'ready':
            self._ready, self._failures = True, 0
            self._grace_s = HANG_GRACE_S + HANG_GRACE_PAUSES * event['longest_pause_s']
            if self._configured is not None:
                future, self._configured = self._configured, None
                future.set_result(event['description'])
        elif kind == 'failed':
            self._fail(event['message'])
        elif kind == 'lost':
            self._lost(event['reason'])
        elif kind == 'estimate':
            self._answer(event)
        elif kind == 'profiling':
            log.info('measuring a profile of this device: %.0f %%', 100 * event['share'])
        elif kind == 'done' and self._abandoned and event['id'] == self._abandoned[0]:
            self._abandoned = None  # it is free again; the goal has had its result
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
            self._end(job, Outcome.from_dict(event['outcome']), event['finished_s'])

    def _lost(self, reason: str) -> None:
        self._abandoned = None
        self._fail(f'the inference process ended ({reason})')
        for tag, (future, _) in list(self._estimates.items()):
            del self._estimates[tag]
            future.set_exception(GoalError(ErrorCode.WORKER_LOST, f'the inference process ended ({reason})'))
        if self._running:
            job = self._running
            kept = settle(job.request, FinishReason.DEADLINE, job.text, job.timing).text
            self._end(job, Outcome(ErrorCode.WORKER_LOST, f'the inference process ended ({reason}) after '
                                   f'{job.n_tokens} tokens', kept, FinishReason.ERROR, job.timing))

    def _estimate(self, request: Request, future: Future) -> None:
        if not self._ready or self._running or self._waiting or self._abandoned:
            what = 'the worker is not ready' if not self._ready else 'a goal is running or waiting'
            future.set_exception(GoalError(ErrorCode.BUSY, f'{what}; an estimate would delay it'))
            return
        tag = id(future)
        self._estimates[tag] = (future, self._clock() + ESTIMATE_TIMEOUT_S)
        self._worker.send({'op': 'estimate', 'tag': tag, 'request': to_dict(request)})

    def _answer(self, event: dict) -> None:
        entry = self._estimates.pop(event['tag'], None)
        if entry is None:
            return
        if 'error_code' in event:
            entry[0].set_exception(GoalError(ErrorCode(event['error_code']), event['error_msg']))
        else:
            entry[0].set_result({'plan': Plan.from_dict(event['plan']), 'whole': Plan.from_dict(event['whole']),
                                 'prompt_tokens': event['prompt_tokens'], 'prefill_s': event['prefill_s']})

    def _update(self, settings: dict) -> None:
        self.settings.update(settings)
        if self._worker is not None:  # one that is still loading takes it afterwards
            self._worker.send({'op': 'set', 'settings': settings})

    def _stop(self) -> None:
        self._stopping, self._ready = True, False
        self._generation += 1
        if self._configured is not None:
            self._configured.set_exception(RuntimeError('the node is shutting down'))
        for future, _ in self._estimates.values():
            future.set_exception(GoalError(ErrorCode.INACTIVE, 'the server shut down'))
        if self._worker is not None:
            self._worker.close()
            self._worker = None
