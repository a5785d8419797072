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

"""A goal that was sent, as events for asyncio: its plan, its text as it comes, its end."""
from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from timebill_ros.asking.failures import ServerUnavailable
from timebill_ros.asking.pending_goal import Answer
from timebill_ros.codes import ErrorCode, Phase, Verdict
from timebill_ros.msg import RequestStatus

CLOSED = 'timebill serve was ended (Ctrl-C or SIGTERM) before the answer was complete'
CANCEL_S = 4.0  # how long a goal that is canceled because the server ends may take to end


@dataclass(frozen=True)
class Planned:
    """The node has a plan: the first status with a verdict of a goal that does not wait.

    Of one that waits, a verdict says no more than whether it will start early enough.
    """

    status: RequestStatus


@dataclass(frozen=True)
class Written:
    """A piece of what the model writes. `part`: one of codes.Part."""

    text: str
    part: int


@dataclass(frozen=True)
class Ended:
    """The end, after which nothing comes."""

    answer: Answer


class GoalEvents:
    """Sends `goal` and tells what becomes of it. Made in a coroutine; nothing here waits for rclpy.

    `timeout_s`: how long the answer may take from now on, in seconds.
    """

    def __init__(self, client, goal, timeout_s: float):
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue = asyncio.Queue()
        self._is_closing = False
        self.pending = client.send(goal, self._hear, timeout_s=timeout_s)

    def _hear(self, message) -> None:
        """Take feedback, on the client's thread."""
        feedback = message.feedback
        if feedback.text_delta:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(self._events.put_nowait, Written(feedback.text_delta, feedback.part))

    def close(self) -> None:
        """Cancel the goal because the server ends, which is then told in place of "canceled by the client"."""
        self._is_closing = True
        self.pending.cancel()
        self._loop.call_later(CANCEL_S, self._events.put_nowait, ServerUnavailable(CLOSED))

    async def events(self) -> AsyncIterator[Planned | Written | Ended]:
        """Yield what happens. ServerUnavailable where the node does not answer. Left early, it cancels the goal."""
        tasks = [asyncio.create_task(self._plan()), asyncio.create_task(self._end())]
        try:
            while True:
                event = await self._events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if isinstance(event, Ended):
                    return
        finally:
            for task in tasks:
                task.cancel()
            if not self.pending.is_over:
                self.pending.cancel()

    async def _plan(self) -> None:
        with contextlib.suppress(ServerUnavailable):  # which _end tells
            async for status in self.pending.statuses():
                if status.verdict != Verdict.UNKNOWN and status.phase != Phase.QUEUED:
                    self._events.put_nowait(Planned(status))
                    return

    async def _end(self) -> None:
        try:
            answer = await self.pending
        except Exception as error:  # ServerUnavailable, or a fault: whoever waits for events must hear of it
            self._events.put_nowait(error)
            return
        if self._is_closing and answer.result.error_code == ErrorCode.CANCELED:
            answer.result.error_msg = CLOSED
        self._events.put_nowait(Ended(answer))
