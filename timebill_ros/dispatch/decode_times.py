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

"""What answers took to decode lately, by what their goals ask for: a choice is short, thinking takes long."""
from __future__ import annotations

from collections import deque
from statistics import median

from timebill_ros.request import Request

FEWEST = 3  # answers of a kind from which on it is known apart from the others


def _kind(request: Request) -> tuple:
    """Return what the length of an answer depends on, as far as a goal tells it."""
    return request.thinking, bool(request.choices), bool(request.response_schema or request.regex), bool(request.tools)


class _Latest:
    """Times of the latest answers, with statistics that are made once per answer, because every event asks for them."""

    def __init__(self, window: int):
        self._seconds: deque[float] = deque(maxlen=window)
        self.usual_s = self.quickest_s = 0.0

    def __len__(self) -> int:
        return len(self._seconds)

    def add(self, seconds: float) -> None:
        self._seconds.append(seconds)
        self.usual_s, self.quickest_s = median(self._seconds), min(self._seconds)


class DecodeTimes:
    """Seconds of decoding of answers that ended by themselves: the last `window` of all, and of each kind of goal."""

    def __init__(self, window: int):
        self._window, self._all = window, _Latest(window)
        self._of: dict[tuple, _Latest] = {}

    def __len__(self) -> int:
        """Return of how many answers something is known."""
        return len(self._all)

    def add(self, request: Request, seconds: float) -> None:
        """Take note of an answer."""
        self._all.add(seconds)
        self._of.setdefault(_kind(request), _Latest(self._window)).add(seconds)

    def usual_s(self, request: Request) -> float:
        """Return the median of goals of the same kind, of all goals while few of it were seen; 0 before any."""
        own = self._of.get(_kind(request))
        return (own if own is not None and len(own) >= FEWEST else self._all).usual_s

    @property
    def quickest_s(self) -> float:
        """The least of all goals, since thinking, for one, takes only the time that there is; 0 before any."""
        return self._all.quickest_s
