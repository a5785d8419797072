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

"""What a start of the inference process is doing: told by the code that does it, read by whoever shows it.

A first start compiles and measures for minutes; later ones find the results on disk and take seconds. There is one
start in a process, so there is one `this_start`. The thread that loads writes to it, and another may read `report`.
"""
from __future__ import annotations

import math
import time
from dataclasses import dataclass

from timebill_ros.deadline import Clock


@dataclass(frozen=True)
class Part:
    """One part of a start. `usual_s`: how long it takes on two quiet cores of a server, where nothing is kept yet."""

    what: str
    usual_s: float


LIBRARIES = Part('loading PyTorch and transformers', 6.0)
MODEL = Part('reading the model', 4.0)
STEPS = Part('preparing decode steps', 45.0)
CHUNKS = Part('choosing the chunks of prefill', 2.0)
PREDICTOR = Part('loading the length predictor', 4.0)
READING_ON = Part('choosing how prompts are read on from a known beginning', 2.0)
PROFILE = Part('measuring a profile', 20.0)
PARTS = (LIBRARIES, MODEL, STEPS, CHUNKS, PREDICTOR, READING_ON, PROFILE)
LONGER_S, LONGER_SHARE = 2.0, 0.2  # how much later than told an end may be expected before it is said


class StartProgress:
    """The parts of one start, one after the other. A part that has nothing to do is passed over."""

    def __init__(self, clock: Clock = time.monotonic):
        self._clock = clock
        self.n_advances = 0  # how often something was finished or begun: it grows while the start gets on
        self.makes_anew = False  # something is made whose result is kept for later starts
        self._end_s = math.inf  # when the start was last said to end
        self._is_longer = False  # it was said that this part takes longer than that
        self.begin(LIBRARIES)

    def begin(self, part: Part, detail: str = '') -> None:
        """Note that a part begins, which ends the one before. `detail`: see `tell`."""
        self.part, self._detail, self._share = part, detail, 0.0
        if self._is_longer:
            self._end_s, self._is_longer = math.inf, False
        self._usual_s, self._since_s = part.usual_s, self._clock()
        self.n_advances += 1

    def tell(self, detail: str, *, share: float | None = None) -> None:
        """Note what is done now within the part, and the share of the part that is over, where that is known."""
        if detail != self._detail or (share is not None and share > self._share):
            self.n_advances += 1
        self._detail = detail
        self._share = self._share if share is None else share

    def make(self, detail: str, usual_s: float) -> None:
        """Note that something is made now which later starts find on disk, and how long that usually takes."""
        self.makes_anew, self._usual_s, self._since_s, self._share = True, usual_s, self._clock(), 0.0
        self.tell(detail)

    def report(self) -> dict:
        """Return what is done now, as JSON-ready data.

        part, of:   number of the part, from 1, and how many there are
        what:       what it does
        for_s:      seconds since the part began, or what it makes now
        left_s:     estimated seconds to the end of the start; None where nothing is made anew, which takes seconds
        longer:     the start takes longer than was told: left_s leads to a later end than in earlier reports

        As long as `longer` is false, the end is never later than in the report before. The first report of the part
        after a longer one begins anew.
        """
        now = self._clock()
        for_s, left_s = now - self._since_s, None
        if self.makes_anew:
            left_s = self._left_s(for_s)
            self._is_longer = left_s > max(self._end_s - now, 0.0) * (1 + LONGER_SHARE) + LONGER_S
            if not self._is_longer:
                left_s = min(left_s, max(self._end_s - now, 0.0))
                self._end_s = now + left_s
        return {'part': PARTS.index(self.part) + 1, 'of': len(PARTS),
                'what': f'{self.part.what}: {self._detail}' if self._detail else self.part.what,
                'for_s': for_s, 'left_s': left_s, 'longer': self._is_longer}

    def _left_s(self, for_s: float) -> float:
        later_s = sum(part.usual_s for part in PARTS[PARTS.index(self.part) + 1:])
        if self._share > 0:
            return for_s * (1 - self._share) / self._share + later_s
        # What has taken long may go on: half as long again as so far, at least.
        return max(self._usual_s - for_s, for_s / 2) + later_s


this_start = StartProgress()
