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

"""Tells a node that was killed or stands still from one that is only slow: by how long nothing has come from it."""
from __future__ import annotations

import time
from collections.abc import Callable

SILENT_S = 5.0  # ten messages of the topic stats, which a node publishes twice a second from a thread that does no work
ROUND_S = 0.5  # the most that one round of the client counts for


class Silence:
    """Adds up how long nothing has come from the node, once its topic `stats` has been heard.

    DDS tells of a program that was killed only when its lease is over, and of one that was stopped never. Only the time
    counts in which the client itself receives: after a pause of its own, what came meanwhile is still to be taken.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._last_s = clock, clock()
        self._is_expecting, self.seconds = False, 0.0

    def on_stats(self, message=None) -> None:
        """Hear a message of the topic, and expect the next one from now on."""
        self._is_expecting = True
        self.end()

    def end(self) -> None:
        """Hear anything else of the node: an acceptance, a feedback, a status, a result."""
        self.seconds = 0.0

    def pass_round(self) -> None:
        """Count the time since the last round; the client calls this whenever it has looked for messages."""
        now = self._clock()
        if self._is_expecting:
            self.seconds += min(now - self._last_s, ROUND_S)
        self._last_s = now

    @property
    def is_long(self) -> bool:
        """Whether the node has been silent for longer than one that is only slow."""
        return self.seconds >= SILENT_S
