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

"""The verdict of each request's first plan, which holds the promise, from messages of the status topic."""
from __future__ import annotations

from timebill_ros.codes import Phase, Verdict

REMEMBERED = 1000  # requests whose end has not come: a monitor that lost messages must not grow


class FirstVerdicts:
    """Remembers the verdict of the first plan from the moment that it is told until the end of the request."""

    def __init__(self):
        self._first: dict[str, int] = {}  # by request

    def of(self, m) -> int:
        """Return the verdict that holds for the request of one RequestStatus; before there is a plan, the latest."""
        if m.phase in (Phase.PREFILL, Phase.DECODE) and m.verdict != Verdict.UNKNOWN:
            self._first.setdefault(m.request_id, m.verdict)
            while len(self._first) > REMEMBERED:
                del self._first[next(iter(self._first))]
        first = self._first.get(m.request_id, m.verdict)
        if m.phase >= Phase.DONE:
            self._first.pop(m.request_id, None)
        return first
