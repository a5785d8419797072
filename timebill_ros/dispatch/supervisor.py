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

"""Keeps one worker alive: starts it, and replaces it when it is lost, hangs or fails, backing off where that recurs.

The supervisor has no thread and no lock. The dispatcher calls it from its own thread: with the worker's events, and at
the times that `next_timer_s` asks for.
"""
from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable
from concurrent.futures import Future

from timebill_ros.codes import ErrorCode
from timebill_ros.deadline import Clock
from timebill_ros.dispatch.signs_of_life import SignsOfLife
from timebill_ros.dispatch.start_watch import StartWatch

log = logging.getLogger(__name__)

# A worker counts as hung when it still runs a goal this long after the node ended it:
# HANG_GRACE_S + HANG_GRACE_PAUSES * (the longest time for which it computes without looking at a cancel).
HANG_GRACE_S = 2.0
HANG_GRACE_PAUSES = 5
BACKOFF_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # wait before each restart since the worker was last ready
# A worker is replaced after this many goals with error UNKNOWN without one that succeeded between them, or after one
# error that the worker itself calls fatal. Where that recurs, BACKOFF_S counts the restarts since a goal succeeded.
MAX_ERRORS = 3
KILL_WAIT_S = 5.0  # a killed process that the kernel has not ended by then is not waited for


class ShuttingDownError(RuntimeError):
    """What a configure or activate ends with because the node is shutting down."""

    def __init__(self):
        super().__init__('the node is shutting down')


class Supervisor:
    """Starts, watches and replaces the worker of one dispatcher.

    `start_worker(on_event)` returns a WorkerProcess or something like it, and raises OSError or RuntimeError if it
    cannot.
    `post(generation, event)` takes the worker's events to the dispatcher's thread, which hands them to `hears`.
    `on_health()` is called when `is_ready` has changed.
    """

    def __init__(self, start_worker: Callable, settings: dict, post: Callable[[int, dict], None], clock: Clock,
                 on_health: Callable[[], None]):
        self._start_worker, self._post, self._clock, self._on_health = start_worker, post, clock, on_health
        self.settings = settings  # shared with the dispatcher, which updates it
        self.is_ready = False
        self.restarts = 0
        self.grace_s = HANG_GRACE_S
        self._worker = None
        self._generation = 0  # number of the worker; tells a dead one's late messages from its successor's
        # (a goal that the node has ended and the worker still runs, since when)
        self._abandoned: tuple[str, float] | None = None
        self._restart_s: float | None = None
        self._spawned_s = 0.0
        self._start = StartWatch(clock)
        self._quickest_s = 0.0  # quickest start, less the work that is done once; 0 until there was one
        self._failures = 0  # restarts since a worker was ready
        self._errors = self._relapses = 0  # since a goal succeeded: goals with an error; restarts because of errors
        self._verdict = ''  # why the worker is to be ended as soon as its last message has been dealt with
        self._condemned: tuple[str, float] | None = None  # (why the worker was killed, when)
        self._failed = None  # the last worker that was given up
        self._has_spoken = False  # the worker has sent something
        self._life = SignsOfLife(clock)
        self._configured: Future[str] | None = None

    # -- what the dispatcher asks --------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        worker = self._worker
        return worker.pid if worker is not None else None

    @property
    def is_free(self) -> bool:
        """Whether a goal may be sent to the worker."""
        return self.is_ready and self._abandoned is None

    @property
    def is_coming(self) -> bool:
        """Whether there is a worker, or one is starting or going to be started."""
        return self.is_ready or self._restart_s is not None or self._worker is not None

    def free_from_s(self) -> float:
        """Return the earliest instant at which a goal may be sent if none runs: later than now during a restart."""
        now = self._clock()
        if self.is_ready:
            return now
        spawned = self._restart_s if self._restart_s is not None else self._spawned_s
        return max(now, spawned + self._quickest_s)

    def next_timer_s(self) -> float:
        if self._verdict:
            return self._clock()
        times = [self._life.next_timer_s(), self._start_limit_s()]
        if self._abandoned:
            times.append(self._abandoned[1] + self.grace_s)
        if self._restart_s is not None:
            times.append(self._restart_s)
        if self._condemned:
            times.append(self._condemned[1] + KILL_WAIT_S)
        return min(times)

    def _start_limit_s(self) -> float:
        """Return the instant by which a worker that is starting must get on; infinity where none is starting."""
        if self._worker is None or self.is_ready or self._condemned:
            return math.inf
        return self._start.advanced_s + self.settings['worker_start_timeout_s']

    # -- what the dispatcher tells -------------------------------------------------------------------------------

    def begin(self, configured: Future) -> None:
        """Start a worker; the future gives its description, or a RuntimeError with a sentence."""
        self._configured = configured
        self._spawn()

    def send(self, message: dict) -> None:
        """Send a message to the worker, if there is one. If it has died, its 'lost' event is on its way."""
        if self._worker is not None:
            self._life.sent(message)
            self._worker.send(message)

    def abandon(self, request_id: str) -> None:
        """Have the worker stop a goal that the node has ended; it has `grace_s` to say that it did."""
        self.send({'op': 'cancel', 'id': request_id})
        self._abandoned = (request_id, self._clock())

    def check_timers(self) -> None:
        now = self._clock()
        if self._verdict:
            self._condemn(self._verdict)
        elif self._abandoned and now >= self._abandoned[1] + self.grace_s:
            log.error('the worker has not answered for %.1f s after the end of its goal; restarting it', self.grace_s)
            self._condemn(f'it had not answered for {self.grace_s:.1f} s after the end of its goal')
        elif now >= self._start_limit_s():
            self._fail(self._start.gives_up(self.settings['worker_start_timeout_s']))
        elif self._life.wants_ping():
            self.send({'op': 'ping'})
        elif (silent_s := self._life.silent_s()) > 0:
            self._condemn(f'it hung: no sign of life for {silent_s:.1f} s')
        elif self._condemned and now >= self._condemned[1] + KILL_WAIT_S:
            self._condemned = (self._condemned[0], now)
            self._post(self._generation, {'event': 'lost', 'reason': 'it does not end, although it was killed'})
        if self._restart_s is not None and now >= self._restart_s:
            self._restart_s = None
            self._spawn()

    def hears(self, generation: int, event: dict) -> bool:
        """Take one event. True where the dispatcher has to look at it too: the current worker sent it, about goals."""
        if generation != self._generation:
            return False
        kind = event['event']
        self._life.heard(event)
        if kind != 'lost':
            self._has_spoken = True
        if kind == 'ready':
            if self._condemned:
                return False
            self._failures = self._errors = 0
            took = max(0.0, self._clock() - self._spawned_s - event['one_time_s'])
            self._quickest_s = min(took, self._quickest_s or took)
            self.grace_s = HANG_GRACE_S + HANG_GRACE_PAUSES * event['longest_pause_s']
            self._life.watch(event['longest_pause_s'])
            self._set_ready(True)
            if (future := self._take_configured()) is not None:
                future.set_result(event['description'])
            return True
        elif kind == 'failed':
            self._fail(event['message'])
        elif kind == 'progress':
            self._start.heard(event)
            return True
        elif kind == 'lost':
            if self._condemned:
                event['reason'] = self._condemned[0]
            message = f'the inference process ended ({event["reason"]})'
            self._fail(message if self._has_spoken else f'{message} before it began: {self._cannot_begin()}')
            return True
        elif kind == 'done':
            self._judge(event)
            if self._abandoned is None or event['id'] != self._abandoned[0]:
                return True
            self._abandoned = None  # the worker is free again; the goal has had its result
        else:
            return kind != 'alive'
        return False

    def _judge(self, event: dict) -> None:
        """Decide by how a goal ended whether the worker can go on. It is ended later: the goal has to end first."""
        outcome = event.get('outcome')
        code = outcome.get('error_code') if isinstance(outcome, dict) else ErrorCode.UNKNOWN
        if code == ErrorCode.NONE:
            self._errors = self._relapses = 0
        self._errors += code in (ErrorCode.UNKNOWN, ErrorCode.OUT_OF_MEMORY)  # memory may be lost or in pieces
        if event.get('fatal'):
            self._verdict = f'it could not go on after an error: {event["fatal"]}'
        elif self._errors >= MAX_ERRORS:
            self._verdict = f'{self._errors} goals ended with UNKNOWN or OUT_OF_MEMORY, and none succeeded between them'

    def _condemn(self, reason: str) -> None:
        """Kill the worker. Its 'lost' event does the rest; the next goal waits for the next worker."""
        self._condemned, self._abandoned = (reason, self._clock()), None
        if self._verdict:
            self._verdict, self._errors = '', 0
            self._failures, self._relapses = self._relapses, self._relapses + 1
        self._life.forget()
        self._set_ready(False)
        self._worker.kill()

    def stop(self) -> None:
        """End the worker for good; return when it is gone."""
        self._set_ready(False)
        self._generation += 1
        self._restart_s = self._abandoned = self._condemned = None
        self._verdict = ''
        self._life.forget()
        if (future := self._take_configured()) is not None:
            future.set_exception(ShuttingDownError())
        for worker in (self._worker, self._failed):
            if worker is not None:
                worker.close()  # also one that was killed: this process may end before its files are removed
        self._worker = self._failed = None

    # -- starting and failing ------------------------------------------------------------------------------------

    def _set_ready(self, ready: bool) -> None:
        if ready is not self.is_ready:
            self.is_ready = ready
            try:
                self._on_health()
            except Exception:  # a listener's bug must not keep the worker from being replaced
                log.exception('reporting the state of the worker failed')

    def _take_configured(self) -> Future[str] | None:
        """Return the future of a configure that still waits, and forget it: it is resolved once."""
        future, self._configured = self._configured, None
        return future

    def _spawn(self) -> None:
        self._generation += 1
        generation = self._generation
        self._spawned_s = self._clock()
        self._has_spoken = False
        self._start.begin()
        try:
            self._worker = self._start_worker(lambda event: self._post(generation, event))
        except (OSError, RuntimeError, MemoryError) as error:  # or there is no room for a thread
            self._fail(f'worker_python {self.settings["worker_python"]!r} cannot be started: {error}')
            return
        self._worker.send({'op': 'configure', 'settings': self.settings, 'restarts': self.restarts})

    def _cannot_begin(self) -> str:
        """Return what to do about a process that ended before it had sent anything, as one that is no Python does."""
        named = self.settings['worker_python']
        which = f'worker_python {named!r}' if named else f'worker_python, which is not set ({sys.executable})'
        return (f'it may be that {which} is no Python from 3.10 on. Name one where torch, transformers, safetensors, '
                'numpy and pyyaml are installed. What it wrote itself stands above')

    def _fail(self, message: str) -> None:
        """Drop a worker that ended or did not come up: tell a configure that waits, or else schedule a restart."""
        worker, self._worker = self._worker, None
        self._abandoned = self._condemned = None
        self._verdict = ''
        self._life.forget()
        self._set_ready(False)
        self._generation += 1  # whatever this worker still says is ignored
        if worker is not None:
            worker.kill()
            self._failed = worker
        if (future := self._take_configured()) is not None:
            future.set_exception(RuntimeError(message))
            return
        wait = BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
        self._failures += 1
        self.restarts += 1
        log.error('%s; starting a new one in %.0f s', message, wait)
        self._restart_s = self._clock() + wait
