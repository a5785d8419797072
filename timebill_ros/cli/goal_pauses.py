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

"""When a goal gave way to others: for how long nothing was done for it, on the time axis of a trace."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from timebill_ros.codes import Phase


@dataclass(frozen=True)
class Pauses:
    """The times for which a goal had given way: (start, end), seconds, one after the other."""

    spans: tuple[tuple[float, float], ...] = ()

    @staticmethod
    def told_by(phases: Sequence[tuple[float, int]], until: float) -> Pauses:
        """Return what statuses tell: the phase is QUEUED again while others run. `phases`: (when, phase) of each.

        A pause without an end was going on `until` the goal was over.
        """
        found: list[tuple[float, float]] = []
        has_begun, since = False, None
        for at, phase in phases:
            if phase == Phase.QUEUED:
                since = at if has_begun and since is None else since
                continue
            if since is not None:
                found.append((since, at))
            has_begun, since = True, None
        if since is not None:
            found.append((since, until))
        return Pauses(tuple((min(start, until), min(end, until)) for start, end in found if start < min(end, until)))

    @property
    def total_s(self) -> float:
        """How long all of them took together."""
        return sum(end - start for start, end in self.spans)

    def without(self, at: float) -> float:
        """Return an instant as it would be without the pauses before it; NaN stays NaN."""
        return at - sum(max(0.0, min(at, end) - start) for start, end in self.spans)

    def around(self, start: float, end: float) -> Iterator[tuple[float, float]]:
        """Yield (start, end) of the pieces of what took from `start` to `end`, two instants without the pauses."""
        paused_s = 0.0
        for began, ended in self.spans:
            place = began - paused_s
            if place >= end:
                break
            if place > start:
                yield start + paused_s, began
                start = place
            paused_s += ended - began
        yield start + paused_s, end + paused_s
