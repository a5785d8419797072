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

"""How much of a budget carrying the result takes, learned from recent deliveries and forgotten again."""
from __future__ import annotations

import threading
import time
from collections import deque

from timebill_ros.codes import ErrorCode
from timebill_ros.deadline import Clock
from timebill_ros.request import Outcome, Request

MOST_S = 0.25  # longest margin that is learned; the parameter may ask for more
WINDOW = 64  # deliveries that are remembered
MEMORY_S = 25.0  # for this long
REFUSAL = 0.7  # what is left of the weight of every delivery after a goal was refused for the margin's sake
SHARE = 0.25  # a learned margin counts as the reason of a refusal from this share of the goal's budget


class DeliveryMargin:
    """The time that is kept free before a deadline; at least `floor_s`, which its methods are given.

    A delivery is the time from the worker's end of a goal to its result being set. The margin is the longest time that
    the recent deliveries of total weight above 1 took. A new delivery weighs 1. So one delivery during a pause of the
    process changes nothing, and a delivery path that became slower is followed at its second delivery.

    Deliveries are forgotten: after MEMORY_S, after WINDOW later ones, and by weight each time a goal is refused because
    of them. Refused goals deliver nothing that could correct the margin, so without this a margin that is too long for
    short goals would refuse them for good. Every method may be called from any thread.
    """

    def __init__(self, clock: Clock = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: deque[list[float]] = deque(maxlen=WINDOW)  # of each delivery: instant, seconds, weight

    def observe(self, seconds: float) -> None:
        """Learn from one delivery."""
        with self._lock:
            self._seen.append([self._clock(), seconds, 1.0])

    def value_s(self, floor_s: float) -> float:
        """Return the margin of a goal that is released now, in seconds."""
        with self._lock:
            self._forget()
            slowest_first = sorted(((seconds, weight) for _, seconds, weight in self._seen), reverse=True)
        total = 0.0
        for seconds, weight in slowest_first:
            total += weight
            if total > 1.0:
                return min(max(floor_s, seconds), max(MOST_S, floor_s))
        return floor_s

    def ended(self, request: Request, outcome: Outcome, floor_s: float) -> None:
        """Take note of how a goal ended: the margin is less sure after it was the reason of a refusal."""
        learned_s = request.delivery_margin_s - floor_s
        if outcome.error_code is ErrorCode.INFEASIBLE and request.time_budget_s > floor_s \
                and learned_s > 0 and learned_s >= SHARE * request.time_budget_s:
            with self._lock:
                for delivery in self._seen:
                    delivery[2] *= REFUSAL

    def _forget(self) -> None:
        while self._seen and self._clock() - self._seen[0][0] > MEMORY_S:
            self._seen.popleft()
