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

"""Whether this process gets on with something, seen from outside of the code that does it.

Loading calls compilers and libraries that tell nothing of their progress. What can be seen: bytes that are read and
written, the processor time of child processes (compilers), and where the main thread is in Python. A main thread that
waits in a polling loop is at a few places again and again, so only a place where it has not been before counts. The
processor time of the process itself does not: waiting for a GPU takes all of it.
"""
from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

MIB = 1 << 20
TICKS = os.sysconf('SC_CLK_TCK')  # units of processor time in a second
CHILD_S = 0.5  # processor time of children that counts as getting on


class Activity:
    """Looks at this process from time to time. `thread`: identifier of the thread whose place in Python counts."""

    def __init__(self, thread: int | None = None):
        self._thread = threading.main_thread().ident if thread is None else thread
        self._places: set[int] = set()
        self._bytes = self._child_s = 0.0
        self.moved()

    def moved(self) -> bool:
        """Return whether the process has got on since the last call."""
        place, moved_bytes, child_s = _place(self._thread), _bytes(), _child_s()
        moved = place not in self._places or moved_bytes - self._bytes >= MIB or child_s - self._child_s >= CHILD_S
        if moved:
            self._bytes, self._child_s = moved_bytes, child_s
        self._places.add(place)
        return moved


def _place(thread: int) -> int:
    """Return a number for the place where a thread is: all its calls, each with its instruction."""
    frame, place = sys._current_frames().get(thread), 0
    while frame is not None:
        place = hash((place, id(frame.f_code), frame.f_lasti))
        frame = frame.f_back
    return place


def _bytes() -> int:
    """Return the bytes that the process and the children it has waited for have read and written; 0 if unknown."""
    with contextlib.suppress(OSError, ValueError):
        lines = Path('/proc/self/io').read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if not line.startswith(('sysc', 'cancelled')))
    return 0


def _child_s() -> float:
    """Return the processor time of all children, in seconds, with those that have ended."""
    times = os.times()
    return times.children_user + times.children_system + sum(map(_process_s, _children('self')))


def _children(pid: str) -> list[str]:
    """Return the processes that `pid` has started and that run, and theirs."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        for tasks in Path(f'/proc/{pid}/task').glob('*/children'):
            with contextlib.suppress(OSError):
                found += tasks.read_text().split()
    return found + [grandchild for child in found for grandchild in _children(child)]


def _process_s(pid: str) -> float:
    """Return the processor time of a process and of the children that it has waited for; 0 for one that has ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()  # from the third field on
        return sum(map(int, fields[11:15])) / TICKS
    return 0.0
