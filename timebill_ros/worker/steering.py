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

"""Takes what the node says about a running request: a cancel, or a deadline that moved."""
from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from timebill_ros.inference.control import Control


class Steering:
    """Carries cancels and moved deadlines from the thread that reads messages to the request that runs in another.

    Both may be read before their request has started. Then they wait for it here.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._running: tuple[str, Control] | None = None  # request id and its control
        self._canceled: set[str] = set()  # ids whose cancel came first
        self._moved = ('', 0.0)  # the latest deadline that came first: request id, monotonic instant
        self.goals_read = 0  # goals that the one thread has read
        self.goals_begun = 0  # goals that the other one has begun

    @property
    def goals_waiting(self) -> int:
        """Goals that were read and have not begun."""
        return self.goals_read - self.goals_begun

    def cancel(self, request_id: str) -> None:
        """Stop this request, now or as soon as it starts."""
        with self._lock:
            if self._running is not None and self._running[0] == request_id:
                self._running[1].canceled = True
            else:
                self._canceled.add(request_id)

    def move_deadline(self, request_id: str, deadline_s: float) -> None:
        """Set this request's deadline to the monotonic instant `deadline_s`: simulated time has changed its pace."""
        with self._lock:
            if self._running is not None and self._running[0] == request_id:
                self._running[1].deadline.at_s = deadline_s
            else:
                self._moved = (request_id, deadline_s)

    @contextlib.contextmanager
    def running(self, request_id: str, control: Control) -> Iterator[None]:
        """Steer `control` inside, first by what came before its request. Cancels of other requests are forgotten."""
        with self._lock:
            self._running = (request_id, control)
            control.canceled = request_id in self._canceled
            self._canceled.clear()
            if self._moved[0] == request_id:
                control.deadline.at_s = self._moved[1]
        try:
            yield
        finally:
            with self._lock:
                self._running = None
