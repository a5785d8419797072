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

"""A deadline on the monotonic clock. Tests pass a clock of their own, so they need not wait."""
from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]  # gives seconds that never go back


class Deadline:
    """An instant `at_s` on `clock`. It may be moved while a request runs: simulated time can change its pace."""

    def __init__(self, at_s: float, clock: Clock = time.monotonic):
        self.at_s = at_s
        self.clock = clock

    def remaining(self) -> float:
        """Return the seconds left; negative once the deadline has passed."""
        return self.at_s - self.clock()

    def expired(self, margin_s: float = 0.0) -> bool:
        """Tell whether at most `margin_s` seconds are left."""
        return self.remaining() <= margin_s
