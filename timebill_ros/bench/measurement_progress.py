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

"""How far a long measurement is: a bar on a terminal, and about a line a minute where the output goes to a file."""
from __future__ import annotations

import sys
import time
from typing import TextIO

from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from timebill_ros.deadline import Clock

LINE_S = 60.0  # from one line to the next, at least


class MeasurementProgress:
    """Counts finished pieces. A context manager: `begin` once inside of it, then `advance` after every piece.

    Lines come with the end of a piece, because no other thread may run beside what is measured.
    """

    def __init__(self, what: str, *, output: TextIO | None = None, clock: Clock = time.monotonic):
        self._what, self._output, self._clock = what, output or sys.stdout, clock
        self._bar = Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=Console(file=self._output)
                             ) if self._output.isatty() else None

    def begin(self, total: int, done: int) -> None:
        """Start to count, with `done` of `total` pieces finished before."""
        self._total, self._done, self._before = total, done, done
        self._started, self._told = self._clock(), -LINE_S
        if self._bar:
            self._task = self._bar.add_task(self._what, total=total, completed=done)

    def advance(self) -> None:
        """Count a piece."""
        self._done += 1
        if self._bar:
            self._bar.advance(self._task)
            return
        took_s = self._clock() - self._started
        if took_s - self._told >= LINE_S or self._done == self._total:
            self._told = took_s
            left_s = took_s / (self._done - self._before) * (self._total - self._done)
            print(f'{self._what}: {self._done} of {self._total} ({self._done / self._total:.1%}) after '
                  f'{_hours(took_s)}; {_hours(left_s)} left at this pace', file=self._output, flush=True)

    def __enter__(self) -> MeasurementProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self._bar:
            self._bar.stop()


def _hours(seconds: float) -> str:
    """Return a time as people write it: 3725.0 -> '1:02:05'."""
    minutes, seconds = divmod(round(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02}:{seconds:02}'
