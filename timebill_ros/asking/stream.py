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

"""Things that come one after another, for threads that wait and for asyncio."""
from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar('Item')


class Bell:
    """Wakes those who wait whenever something has changed."""

    def __init__(self):
        self._changed = threading.Condition()
        self._listeners: list[Callable[[], None]] = []
        self.count = 0  # how often it has rung

    def ring(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()

    def wait(self, pause: Pause) -> None:
        """Wait in this thread until the bell has rung since `pause` was made, at most for its time."""
        with self._changed:
            self._changed.wait_for(lambda: self.count != pause.count, pause.seconds)

    async def wait_async(self, pause: Pause) -> None:
        """Wait likewise in a coroutine."""
        loop, rung = asyncio.get_running_loop(), asyncio.Event()

        def listener() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(rung.set)

        with self._changed:
            if self.count != pause.count:
                return
            self._listeners.append(listener)
        waiting = asyncio.ensure_future(rung.wait())
        try:
            await asyncio.wait({waiting}, timeout=pause.seconds)  # wait_for loses a cancel that comes with the ring
        finally:
            waiting.cancel()
            with self._changed:
                self._listeners.remove(listener)


@dataclass(frozen=True)
class Pause:
    """A wait of at most `seconds`, which ends as soon as the bell has rung more than `count` times."""

    count: int
    seconds: float


class Stream(Generic[Item]):
    """What comes one after another: `for item in stream`, or `async for item in stream`; each loop gets all of it.

    `steps()` yields items, and a Pause where none is there yet. `abandon()` is called where a coroutine that waits is
    canceled.
    """

    def __init__(self, bell: Bell, steps: Callable[[], Iterator[Item | Pause]], abandon: Callable[[], None]):
        self._bell, self._steps, self._abandon = bell, steps, abandon

    def __iter__(self) -> Iterator[Item]:
        for step in self._steps():
            if isinstance(step, Pause):
                self._bell.wait(step)
            else:
                yield step

    async def __aiter__(self) -> AsyncIterator[Item]:
        for step in self._steps():
            if not isinstance(step, Pause):
                yield step
                continue
            try:
                await self._bell.wait_async(step)
            except asyncio.CancelledError:
                self._abandon()
                raise
