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

"""Takes what the node says about a request that runs or has given way: a cancel, a pause, or a deadline that moved."""
from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from timebill_ros.inference.control import Control


class Steering:
    """Carries cancels, pauses and moved deadlines from the thread that reads messages to requests in another.

    One request runs. Others may have given way to it, and go on later. What is read before its request has started
    waits here for it.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._begun: dict[str, Control] = {}  # by request id: the controls of the one that runs and those that gave way
        self._canceled: set[str] = set()  # ids whose cancel came first
        self._pausing: set[str] = set()  # ids whose pause came first
        self._moved = ('', 0.0)  # the latest deadline that came first: request id, monotonic instant
        self.goals_read = 0  # goals that the one thread has read
        self.goals_begun = 0  # goals that the other one has begun

    @property
    def goals_waiting(self) -> int:
        """Goals that were read and have not begun."""
        return self.goals_read - self.goals_begun

    @property
    def is_idle(self) -> bool:
        """Whether no request runs or has given way."""
        return not self._begun

    def cancel(self, request_id: str) -> bool:
        """Stop this request, now or as soon as it starts; return whether it has given way and must be woken."""
        with self._lock:
            control = self._begun.get(request_id)
            if control is None:
                self._canceled.add(request_id)
                return False
            control.canceled = True
            return control.paused

    def pause(self, request_id: str) -> None:
        """Have this request give way, now or as soon as it starts."""
        with self._lock:
            if request_id in self._begun:
                self._begun[request_id].pausing = True
            else:
                self._pausing.add(request_id)

    def resume(self, request_id: str) -> None:
        """Have a request that gave way go on, once those have ended that began after it."""
        with self._lock:
            if request_id in self._begun:
                self._begun[request_id].paused = False

    def move_deadline(self, request_id: str, deadline_s: float) -> None:
        """Set this request's deadline to the monotonic instant `deadline_s`: simulated time has changed its pace."""
        with self._lock:
            if request_id in self._begun:
                self._begun[request_id].deadline.at_s = deadline_s
            else:
                self._moved = (request_id, deadline_s)

    @contextlib.contextmanager
    def running(self, request_id: str, control: Control) -> Iterator[None]:
        """Steer `control` inside, first by what came before its request. What came for others is forgotten."""
        with self._lock:
            self._begun[request_id] = control
            control.canceled, control.pausing = request_id in self._canceled, request_id in self._pausing
            self._canceled.clear()
            self._pausing.clear()
            if self._moved[0] == request_id:
                control.deadline.at_s = self._moved[1]
        try:
            yield
        finally:
            with self._lock:
                del self._begun[request_id]
