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

"""One thread that owns state: it takes events from a queue, and after each it does what follows from it."""
from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

RETRY_S = 0.1  # wait where it cannot be said when the next timer is due


def guarded(step: Callable, *arguments) -> None:
    """Run one step of a loop. A bug in it must take no goal down, nor keep the following steps from running."""
    try:
        step(*arguments)
    except Exception:
        log.exception('dispatcher event failed')


class EventLoop:
    """Calls what is posted, in its own thread, one after the other.

    `until_next_s()`: for how many seconds at most to wait for an event. `follow_ups`: called in this order after each
    event, and after each wait that ended without one. `start` after all that these need is there.
    """

    def __init__(self, name: str, until_next_s: Callable[[], float], follow_ups: Sequence[Callable[[], None]]):
        self._until_next_s, self._follow_ups = until_next_s, follow_ups
        self._events: queue.SimpleQueue[tuple] = queue.SimpleQueue()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def post(self, step: Callable, *arguments) -> None:
        """Have the thread call `step`; any thread may post, and none waits for it."""
        self._events.put((step, *arguments))

    def _run(self) -> None:
        while not self._stopping:
            try:
                event = self._events.get(timeout=self._wait_s())
            except queue.Empty:
                event = None
            if event is not None:
                guarded(*event)
            for follow_up in self._follow_ups:
                guarded(follow_up)

    def _wait_s(self) -> float:
        """Return for how many seconds to wait, also where a bug keeps that from being found out."""
        try:
            return self._until_next_s()
        except Exception:
            log.exception('the next timer of the dispatcher is not known')
            return RETRY_S

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """End after the present event; called from the thread itself."""
        self._stopping = True

    def join(self, timeout_s: float) -> None:
        """Wait until the thread has ended, for `timeout_s` at most."""
        self._thread.join(timeout_s)
