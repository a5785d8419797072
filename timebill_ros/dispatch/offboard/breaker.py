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

"""Keeps goals from a server that fails again and again, and tries from time to time whether it is back."""
from __future__ import annotations

import math

from timebill_ros.deadline import Clock

FAILURES = 3  # in a row, before the server is left alone
WAITS_S = (2.0, 5.0, 10.0, 30.0, 60.0)  # before each try; the last one again and again
LONGER = 2.0  # so many times longer than all that waited in vain, a goal may wait that is sent without such a wait


class Breaker:
    """A circuit breaker. Closed: every goal may be sent. Open: one at a time, after each wait of WAITS_S.

    A try is a goal that allows it, as any other. Nothing else is ever sent to find out whether the server is back.
    A server that was only too slow for urgent goals is tried at once by one that can wait far longer.
    """

    def __init__(self, clock: Clock):
        self._clock = clock
        self._failures = 0  # in a row
        self._tries = 0  # that failed, since the breaker opened
        self._waited_s = 0.0  # the longest wait in vain since an answer; infinite: it failed otherwise
        self._next_try_s = math.inf
        self._is_trying = False

    @property
    def is_open(self) -> bool:
        return self._failures >= FAILURES

    def allows(self, left_s: float = 0.0) -> bool:
        """Whether a goal may be sent now that can wait for `left_s` seconds."""
        return not self.is_open or (not self._is_trying and (
            self._clock() >= self._next_try_s or left_s > LONGER * self._waited_s))

    def sent(self) -> bool:
        """Take note that a goal is sent; return whether it is a try."""
        self._is_trying = self.is_open
        return self._is_trying

    def succeeded(self) -> bool:
        """Take note of an answer; return whether the breaker was open."""
        was_open = self.is_open
        self._failures = self._tries = 0
        self._waited_s, self._is_trying = 0.0, False
        return was_open

    def failed(self, is_try: bool, waited_s: float = math.inf) -> bool:
        """Take note of a failure; return whether the breaker opens with it. `waited_s`: nothing came for so long."""
        was_open = self.is_open
        self._failures += 1
        self._waited_s = max(self._waited_s, waited_s)
        if self.is_open and (is_try or not was_open):
            self._next_try_s = self._clock() + WAITS_S[min(self._tries, len(WAITS_S) - 1)]
            self._tries += 1
            self._is_trying = False
        return self.is_open and not was_open

    def dropped(self, is_try: bool) -> None:
        """Take note that a goal was ended before the server had shown anything: the next one may be the try."""
        if is_try:
            self._is_trying = False
