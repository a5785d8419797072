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

"""What the goals that ended lately say: promises kept and missed in a window, and how fast answers were decoded."""
from __future__ import annotations

from collections import deque

from timebill_ros.dispatch.miss_rate import MissRate, is_missed, is_promised
from timebill_ros.request import Outcome

WINDOW_S = 600.0  # how far the window goes back
WINDOW_GOALS = 100  # most promised goals in it; older ones leave first


class RecentGoals:
    """Promised goals of the last WINDOW_S seconds. Written from the dispatcher's thread, read from any."""

    def __init__(self):
        self._promised: deque[tuple[float, bool]] = deque(maxlen=WINDOW_GOALS)  # (when it ended, whether it was missed)
        self.tokens_per_s: float | None = None  # of the last answer that was decoded; None before the first

    def observe(self, outcome: Outcome, now: float) -> None:
        """Take note of a goal that has ended at the monotonic instant `now`."""
        timing = outcome.timing
        if is_promised(outcome):
            self._promised.append((now, is_missed(outcome)))
        if timing.generated_tokens > 1 and timing.decode_s > 0:  # false for NaN
            self.tokens_per_s = timing.generated_tokens / timing.decode_s

    def miss_rate(self, now: float, allowed: float) -> MissRate:
        """Return promises and misses in the window that ends at `now`, beside the share of misses that is allowed."""
        # list() of a deque of tuples is one step for other threads.
        missed = [miss for ended_s, miss in list(self._promised) if now - ended_s <= WINDOW_S]
        return MissRate(len(missed), sum(missed), allowed)
