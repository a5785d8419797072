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

"""Tells the node every few seconds what a start is doing, and whether it gets on.

A thread of its own looks, so the node hears of a compiler that says nothing for a minute. It says `advanced` only where
the start has got on since the last report: a start that hangs is told as one.
"""
from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from timebill_ros.deadline import Clock
from timebill_ros.inference.start_progress import StartProgress
from timebill_ros.worker.activity import Activity

log = logging.getLogger(__name__)

REPORT_S = 5.0  # between two reports
SOONER_S = 2.0  # where another part has begun
LOOK_S = 1.0  # between two looks


class StartReport:
    """A context manager: inside, `send` gets an event for the node every few seconds.

    `limit_s`: the node ends a start that does not get on for so long, so there are three reports in it at least.
    """

    def __init__(self, send: Callable[[dict], object], progress: StartProgress, limit_s: float, *,
                 activity: Activity | None = None, clock: Clock = time.monotonic):
        self._send, self._progress, self._clock = send, progress, clock
        self._activity = activity or Activity()
        self.period_s = min(REPORT_S, limit_s / 3)
        self._sent_s, self._part = clock(), progress.part
        self._n_advances = progress.n_advances
        self._moved = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_often, name='start report', daemon=True)

    def __enter__(self) -> StartReport:
        self._thread.start()
        return self

    def __exit__(self, *exc) -> None:
        self._ended.set()
        self._thread.join()

    def _look_often(self) -> None:
        while not self._ended.wait(min(LOOK_S, self.period_s / 2)):
            try:
                self.look()
            except Exception:  # a bug; the start goes on
                log.exception('the progress of the start cannot be told')

    def look(self) -> None:
        """Look once, and send a report if one is due."""
        self._moved |= self._activity.moved()
        progress, now = self._progress, self._clock()
        wait_s = self.period_s if progress.part is self._part else min(self.period_s, SOONER_S)
        if now - self._sent_s < wait_s:
            return
        advanced = self._moved or progress.n_advances > self._n_advances
        self._sent_s, self._part, self._n_advances, self._moved = now, progress.part, progress.n_advances, False
        self._send({'event': 'progress', **progress.report(), 'advanced': advanced})
