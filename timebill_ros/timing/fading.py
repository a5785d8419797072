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

"""Observations that are forgotten: after later ones, with time, and where what they say refuses goals.

A goal that is refused runs nothing, so it shows nothing that could correct what refused it. Whatever refuses goals must
therefore become less sure by itself. No numpy, no torch.
"""
from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from timebill_ros.deadline import Clock

GAPS = 3.0  # times the wait for an observation: for so long is it kept
FADE = 0.5  # what is left of the weight of every observation after a goal was refused because of them
JITTER_S = 60.0  # how far the wall clock may have been set back since observations were saved


class Fading:
    """The last `window` observations, oldest first, each with a weight that begins at 1.

    An observation is kept for `memory_s`, or for `gaps` times as long as the one before it was ago, if that is longer.
    So a burst of odd observations is forgotten after `memory_s`, while a node that is asked once an hour still knows
    what the last hours showed.

    A value is anything that JSON holds. `clock` counts while the process lives; `wall`, seconds since 1970, dates what
    is kept across restarts.
    """

    def __init__(self, window: int, memory_s: float, *, gaps: float = GAPS, clock: Clock = time.monotonic,
                 wall: Clock = time.time):
        self.memory_s, self.gaps = memory_s, gaps
        self._clock, self._wall = clock, wall
        self._seen: deque[list] = deque(maxlen=window)  # of each: instant on `clock`, seconds to keep it, weight, value
        self._last_s: float | None = None  # instant of the last observation, also where this is forgotten

    def observe(self, value: Any) -> None:
        """Add an observation of now."""
        now = self._clock()
        gap_s = now - self._last_s if self._last_s is not None else 0.0
        self._seen.append([now, max(self.memory_s, self.gaps * gap_s), 1.0, value])
        self._last_s = now

    def forget(self) -> bool:
        """Drop what is too old; tell whether anything was."""
        now, before = self._clock(), len(self._seen)
        if any(now - seen[0] > seen[1] for seen in self._seen):
            self._seen = deque((seen for seen in self._seen if now - seen[0] <= seen[1]), maxlen=self._seen.maxlen)
        return len(self._seen) < before

    def fade(self) -> None:
        """Be less sure of everything, because it was the reason of a refusal."""
        for seen in self._seen:
            seen[2] *= FADE

    @property
    def is_doubted(self) -> bool:
        """Whether anything has faded."""
        return any(weight < 1 for _, _, weight, _ in self._seen)

    def settle(self, confirmed: bool) -> None:
        """Give what has faded its weight back, because a new observation has confirmed it, or else drop it."""
        if confirmed:
            for seen in self._seen:
                seen[2] = 1.0
        else:
            self._seen = deque((seen for seen in self._seen if seen[2] == 1), maxlen=self._seen.maxlen)

    def recall(self) -> list[tuple[Any, float]]:
        """Return (value, weight) of all that is not forgotten, oldest first."""
        self.forget()
        return [(value, weight) for _, _, weight, value in self._seen]

    def state(self) -> list[list]:
        """Return what is worth keeping across a restart, as JSON-ready data: [date, seconds to keep, weight, value]."""
        self.forget()
        now, date = self._clock(), self._wall()
        return [[date - (now - instant), keep_s, weight, value] for instant, keep_s, weight, value in self._seen]

    def restore(self, state: list[list], valid: Callable[[Any], bool]) -> None:
        """Go on from what `state` returned; time has passed for it. ValueError or TypeError for anything else.

        Values that are not `valid` are refused. Observations of a wall clock that has been set back since are left out:
        how old they are cannot be said.
        """
        now, date = self._clock(), self._wall()
        found = []
        for seen_date, keep_s, weight, value in state:
            if not (keep_s >= 0 and 0 < weight <= 1 and valid(value)):
                raise ValueError(f'[{seen_date!r}, {keep_s!r}, {weight!r}, {value!r}] is no observation')
            age_s = float(date - seen_date)
            if age_s >= -JITTER_S:  # false for NaN
                found.append([now - max(0.0, age_s), float(keep_s), float(weight), value])
        self._seen = deque(found, maxlen=self._seen.maxlen)
        self._last_s = found[-1][0] if found else None
