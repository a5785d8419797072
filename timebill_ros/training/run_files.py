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

"""What a training run leaves while it goes on: checkpoints, a file of its progress, and an end in order at Ctrl-C."""
from __future__ import annotations

import contextlib
import fcntl
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

LOG_FILE, LOCK_FILE = 'log.jsonl', '.lock'
EVERY_S = 10.0  # between lines
CHECKPOINT_EVERY_S = 30.0  # at least; longer where writing one takes more than the share below
WRITING_SHARE = 20  # one second of writing in so many of training


class ProgressFile:
    """Lines of JSON for whoever follows a run that has no terminal: at most one in EVERY_S, and the last of a phase."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.monotonic):
        self._path, self._clock = directory / LOG_FILE, clock
        self._last_s = -EVERY_S

    def tell(self, phase: str, done: int, of: int, **facts: float) -> None:
        """Note that `done` of `of` pieces of a phase are done."""
        now = self._clock()
        if done < of and now - self._last_s < EVERY_S:
            return
        self._last_s = now
        with open(self._path, 'a', encoding='utf-8') as file:
            file.write(json.dumps({'phase': phase, 'done': done, 'of': of, **facts}) + '\n')


class Checkpoints:
    """Says when a checkpoint is due, by what writing one costs. `write`: writes one."""

    def __init__(self, write: Callable[[], None], every_s: float = CHECKPOINT_EVERY_S,
                 clock: Callable[[], float] = time.monotonic):
        self._write, self._every_s, self._clock = write, every_s, clock
        self._last_s, self._took_s = clock(), 0.0

    def write_if_due(self) -> None:
        """Write one where the last is old enough."""
        if self._clock() - self._last_s >= max(self._every_s, WRITING_SHARE * self._took_s):
            self.write()

    def write(self) -> None:
        """Write one now."""
        began = self._clock()
        self._write()
        self._last_s = self._clock()
        self._took_s = self._last_s - began


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Keep other runs out of a directory. ValueError where one is at work there."""
    with open(directory / LOCK_FILE, 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f'another training is at work in {directory}: wait for it, or choose another --out'
                             ) from error
        yield


@contextlib.contextmanager
def end_after_step() -> Iterator[Callable[[], bool]]:
    """Yield what tells whether Ctrl-C or SIGTERM has come, which ends the run after its step; a second one at once.

    At the end of the block the signal has the effect that it has outside of it.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield lambda: False
        return
    before = {}

    def note(number, frame):
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        signal.raise_signal(asked[0])
