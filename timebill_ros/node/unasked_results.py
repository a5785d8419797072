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

"""Accepted goals whose result nobody asks for, which is all that a node can see of an acceptance that was lost."""
from __future__ import annotations

import threading
import time

from timebill_ros.deadline import Clock

WAIT_S = 5.0  # for a client that has its acceptance; clients of this package ask at once
KEPT_S = 60.0  # how long a request for a result is remembered that came before its goal was taken


class UnaskedResults:
    """Tells once of each goal that was accepted for WAIT_S while nobody asked for its result. From any thread."""

    def __init__(self, clock: Clock = time.monotonic):
        self._clock, self._lock = clock, threading.Lock()
        self._accepted: dict[str, float] = {}  # goals that nobody has asked for: id -> since when
        self._asked: dict[str, float] = {}  # what was asked for before, or again: id -> when

    def accept(self, request_id: str) -> None:
        """Hear that a goal's acceptance was sent. Its client may have asked for the result already."""
        with self._lock:
            if self._asked.pop(request_id, None) is None:
                self._accepted[request_id] = self._clock()

    def ask(self, request_id: str) -> None:
        """Hear that somebody asks for the result of a goal."""
        with self._lock:
            if self._accepted.pop(request_id, None) is None:
                self._asked[request_id] = self._clock()

    def overdue(self) -> list[str]:
        """Return the goals that are to be told of, and forget them."""
        with self._lock:
            now = self._clock()
            self._asked = {name: at for name, at in self._asked.items() if now - at < KEPT_S}
            found = [name for name, at in self._accepted.items() if now - at >= WAIT_S]
            for name in found:
                del self._accepted[name]
            return found
