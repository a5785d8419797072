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

"""Keeps the process alive that calls the server: starts it, ends it where it hangs, and starts another."""
from __future__ import annotations

import logging
import math
from collections.abc import Callable
from concurrent.futures import Future

from timebill_ros.deadline import Clock
from timebill_ros.dispatch.supervisor import ShuttingDownError

log = logging.getLogger(__name__)

START_S = 30.0  # a process that is not ready by then is ended
HANG_S = 2.0  # so is one that has not confirmed a goal or a cancel by then
BACKOFF_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # wait before each restart since a process was last ready


class Line:
    """The node's line to that process. It has no thread and no lock; the dispatcher's thread calls it.

    `start_process(on_event)` returns a WorkerProcess or something like it, and raises OSError or RuntimeError if it
    cannot.
    `post(step, *arguments)` has the dispatcher's thread call `step`; `on_event(event)` gets there what is about goals,
    and {'event': 'lost', 'reason': ...} when the process has ended.
    """

    def __init__(self, start_process: Callable, settings: dict, post: Callable, on_event: Callable[[dict], None],
                 clock: Clock):
        self._start_process, self._settings, self._post = start_process, settings, post
        self._on_event, self._clock = on_event, clock
        self._process = None
        self._generation = 0  # number of the process; tells a dead one's late messages from its successor's
        self._owed: dict[tuple[str, str], float] = {}  # (what it has to say, of which goal): by when
        self._ready_by_s = self._restart_s = math.inf
        self._failures = 0  # restarts since a process was ready
        self._then, self._failed = None, None  # what a configure that waits is to do
        self.is_up = False
        self.restarts = 0

    def configure(self, then: Callable[[], None], failed: Future) -> None:
        """Start the process; call `then` once it is ready, or give `failed` a RuntimeError with a sentence."""
        self._then, self._failed = then, failed
        self._spawn()

    def ask(self, message: dict) -> None:
        """Send a goal, which the process has to confirm soon."""
        self._owed['taken', message['request']['request_id']] = self._clock() + HANG_S
        self._process.send(message)

    def cancel(self, request_id: str) -> None:
        """Have the process drop a goal, and say soon that it has."""
        if self.is_up:
            self._owed['ended', request_id] = self._clock() + HANG_S
            self._process.send({'op': 'cancel', 'id': request_id})

    def next_timer_s(self) -> float:
        return min((*self._owed.values(), self._ready_by_s, self._restart_s))

    def check_timers(self) -> None:
        now = self._clock()
        late = next((owed for owed, by_s in self._owed.items() if now >= by_s), None)
        if late is not None:
            self._end(f'it hung: it has not said within {HANG_S:.0f} s that a goal was {late[0]}')
        elif now >= self._ready_by_s:
            self._end(f'it was not ready after {START_S:.0f} s')
        if now >= self._restart_s:
            self._spawn()

    def stop(self) -> None:
        """End the process for good; return when it is gone."""
        self._generation += 1
        self._forget()
        self._restart_s = math.inf
        if self._failed is not None:
            self._failed.set_exception(ShuttingDownError())
        self._then = self._failed = None
        if self._process is not None:
            self._process.close()
        self._process = None

    def restart(self) -> None:
        """Replace the process now, for instance because no connection of it works any more."""
        if self.is_up:
            self._failures = 0
            self._end('the server failed', quietly=True)

    def _forget(self) -> None:
        self.is_up = False
        self._owed.clear()
        self._ready_by_s = math.inf

    def _spawn(self) -> None:
        self._generation += 1
        generation, settings = self._generation, self._settings
        self._restart_s, self._ready_by_s = math.inf, self._clock() + START_S
        try:
            self._process = self._start_process(lambda event: self._post(self._hear, generation, event))
        except (OSError, RuntimeError, MemoryError) as error:  # or there is no room for a thread
            self._lose(f'worker_python {settings["worker_python"]!r} cannot be started: {error}')
            return
        self._process.send({'op': 'configure', 'url': settings['offboard_url'], 'model': settings['offboard_model'],
                            'key_file': settings['offboard_key_file'], 'goals': settings['offboard_goals']})

    def _end(self, reason: str, *, quietly: bool = False) -> None:
        """Kill the process, and go on as if it had ended by itself."""
        self._process.kill()
        self._lose(reason, quietly=quietly)

    def _lose(self, reason: str, *, quietly: bool = False) -> None:
        """Account for a process that is no more; a configure that waits fails, otherwise another one is started."""
        self._generation += 1  # whatever it still says is ignored
        self._forget()
        if self._failed is not None:
            failed, self._then, self._failed = self._failed, None, None
            failed.set_exception(RuntimeError(reason))
            return
        wait_s = BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
        self._failures += 1
        self.restarts += 1
        self._restart_s = self._clock() + wait_s
        if not quietly:
            log.error('the process that calls the server ended (%s); starting a new one in %.0f s', reason, wait_s)
        self._on_event({'event': 'lost', 'reason': reason})

    def _hear(self, generation: int, event: dict) -> None:
        if generation != self._generation:
            return
        kind = event['event']
        if kind == 'ready':
            self.is_up, self._failures, self._ready_by_s = True, 0, math.inf
            then, self._then, self._failed = self._then, None, None
            if then is not None:
                then()
        elif kind == 'failed':
            self._end(event['message'])
        elif kind == 'lost':
            self._lose(f'{event["reason"]}; is worker_python a Python from 3.10 on?' if self._failed else
                       event['reason'])
        else:
            self._owed.pop((kind, event.get('id')), None)
            if kind in ('done', 'error'):  # it lives; a cancel may have crossed them
                self._owed.pop(('ended', event.get('id')), None)
            self._on_event(event)
