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

"""A goal that was sent: its answer, its text and status as they come, and its cancel."""
from __future__ import annotations

import math
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from action_msgs.msg import GoalStatus
from unique_identifier_msgs.msg import UUID

from timebill_ros.action import Generate
from timebill_ros.asking.connection import AGAIN_S
from timebill_ros.asking.failures import ServerUnavailable, code_name
from timebill_ros.asking.stream import Bell, Item, Pause, Stream
from timebill_ros.msg import RequestStatus

ACCEPTANCE_S = 10.0  # how long the acceptance of a goal is waited for; a node gives it within milliseconds
GONE_S = 2.0  # how long no server of the action is found before the node counts as gone
_ENDED = (GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_CANCELED, GoalStatus.STATUS_ABORTED)


@dataclass
class Answer:
    """One goal's end as the client saw it. `accepted_s` and `received_s` are seconds since the goal was sent."""

    result: Generate.Result
    status: int  # action_msgs GoalStatus
    accepted_s: float
    received_s: float

    @property
    def text(self) -> str:
        return self.result.text

    @property
    def code(self) -> str:
        """The name of the error code: 'NONE' where the goal succeeded."""
        return code_name(self.result.error_code)


class PendingGoal:
    """A goal that was sent; from any thread, and from asyncio.

    `answer()`, or `await`: the end. `for delta in goal`, or `async for`: the text as it comes. `statuses()`: what the
    node says of it meanwhile. All of them raise ServerUnavailable where the node does not answer in time.

    `timeout_s`: how long the answer may take from now on, in seconds; a goal that has none by then is canceled, so that
    the node does not work for nobody. None: as long as `answer` is told to wait.
    """

    def __init__(self, client, goal: Generate.Goal, on_feedback: Callable | None = None, *,
                 timeout_s: float | None = None):
        if timeout_s is not None and math.isnan(timeout_s):
            raise ValueError('timeout_s is NaN: give seconds, or None for no limit')
        self._id = uuid.uuid4()
        self.request_id = self._id.hex  # as on the status topic
        self._client, self._goal, self._on_feedback = client, goal, on_feedback
        self._sent_s = time.monotonic()
        self._limit_s = math.inf if timeout_s is None else self._sent_s + timeout_s
        self._accepted_s, self._again_s, self._missed_s = 0.0, math.inf, math.inf
        self._handle, self._answer, self._lost, self._unsent = None, None, '', ''
        self._wants_cancel = False
        self._texts: list[str] = []
        self._statuses: list[RequestStatus] = []
        self._bell = Bell()

    # -- on the client's thread --------------------------------------------------------------------------------------

    def send(self) -> None:
        """Send the goal; called once, from the thread that takes the responses.

        rclpy's send_goal_async registers the request only after sending it, and a response that another thread takes
        before that is lost. Whatever keeps this goal from being sent is told to those who wait for it, and leaves the
        client's other goals as they are.
        """
        try:
            future = self._client.actions.send_goal_async(
                self._goal, feedback_callback=self._on_text, goal_uuid=UUID(uuid=list(self._id.bytes)))
        except Exception as error:
            self._unsent = f'{type(error).__name__}: {error}'
            self._bell.ring()
        else:
            future.add_done_callback(self._on_accepted)

    def _on_accepted(self, future) -> None:
        self._client.silence.end()
        self._accepted_s = time.monotonic() - self._sent_s
        self._handle = future.result()
        if self._handle.accepted:
            self._ask_result()
            self._cancel_now()
        self._bell.ring()

    def _ask_result(self) -> None:
        self._handle.get_result_async().add_done_callback(self._on_result)

    def _on_text(self, message) -> None:
        self._client.silence.end()
        if self._on_feedback is not None:
            try:
                self._on_feedback(message)
            except Exception:  # a fault of the program's, which must not end the client for its other goals
                self._client.node.get_logger().error(
                    f'on_feedback raised, and is not called again for this goal: {traceback.format_exc()}')
                self._on_feedback = None
        feedback = message.feedback
        if feedback.text_delta and feedback.part == feedback.PART_TEXT and self._answer is None:
            self._texts.append(feedback.text_delta)
            self._bell.ring()

    def _on_result(self, future) -> None:
        if self._answer is not None:  # it was asked for again, and both answers came
            return
        response, shown = future.result(), ''.join(self._texts)
        if response.result.text.startswith(shown) and response.result.text != shown:
            self._texts.append(response.result.text[len(shown):])
        self._answer = Answer(response.result, response.status, self._accepted_s, time.monotonic() - self._sent_s)
        self._bell.ring()

    def on_status(self, message: RequestStatus) -> None:
        """Hear a status of this goal."""
        self._statuses.append(message)
        self._bell.ring()

    def on_lost(self, reason: str) -> None:
        """Hear that the client receives nothing any more."""
        self._lost = reason
        self._bell.ring()

    def on_silence(self) -> None:
        """Hear that nothing has come from the node for long."""
        self._bell.ring()

    # -- for those who wait --------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether the answer is there."""
        return self._answer is not None

    @property
    def status(self) -> RequestStatus | None:
        """The newest status, None where none has come: a client made by `Client` hears statuses only where asked to."""
        return self._statuses[-1] if self._statuses else None

    def answer(self, timeout_s: float | None = None) -> Answer:
        """Wait for the result, at most `timeout_s` from now and at most as long as the goal may take.

        ServerUnavailable if the goal is rejected or no result comes in time. A result that is lost is asked for again.
        An acceptance that is lost is not: ROS cannot tell whether the goal runs, and it might run twice. If it comes
        after all, too late, the goal is canceled.
        """
        for _ in self._stream([], timeout_s):
            pass
        return self._answer

    def poll(self) -> Answer | None:
        """Return the answer, None while there is none; for programs that look again and again. Errors as `answer`."""
        self._look(self._limit_s)
        return self._answer

    def __await__(self):
        return self._answer_async().__await__()

    async def _answer_async(self) -> Answer:
        async for _ in self._stream([]):
            pass
        return self._answer

    def __iter__(self) -> Iterator[str]:
        """Yield the text as it comes.

        Joined, the pieces are the answer's text, but where feedback was lost, or where the node took text back
        (strategy KILL, `stop_at_line_end`): what counts is `answer().text`.
        """
        return iter(self._stream(self._texts))

    def __aiter__(self):
        return self._stream(self._texts).__aiter__()

    def statuses(self) -> Stream[RequestStatus]:
        """Return the statuses of the goal, for `for` or `async for`: those that have come, then each as it comes.

        ValueError where the client does not hear them.
        """
        if not self._client.watches_status:
            raise ValueError('this client does not hear statuses: make it with Client(..., watch_status=True)')
        return self._stream(self._statuses)

    def cancel(self) -> None:
        """Have the node end the goal, and return at once. The answer then has the code CANCELED and the text so far."""
        self._wants_cancel = True
        self._client.on_executor(self._cancel_now)

    def _cancel_now(self) -> None:
        if self._wants_cancel and self._answer is None and self._handle is not None and self._handle.accepted:
            self._handle.cancel_goal_async()

    def _stream(self, items: list[Item], timeout_s: float | None = None) -> Stream[Item]:
        until_s = self._limit_s if timeout_s is None else min(self._limit_s, time.monotonic() + timeout_s)
        if until_s == math.inf:
            raise ValueError('the goal was sent without a timeout_s: send it with one, or give answer() one')
        return Stream(self._bell, lambda: self._steps(items, until_s), self.cancel)

    def _steps(self, items: list[Item], until_s: float) -> Iterator[Item | Pause]:
        """Yield each of `items` as it comes until the goal ends, and a Pause where one has to wait."""
        done = 0
        while True:
            count = self._bell.count  # before looking, so that no change is slept through
            wait_s = self._look(until_s)
            for item in items[done:]:
                done += 1
                yield item
            if wait_s is None:
                return
            yield Pause(count, wait_s)

    def _look(self, until_s: float) -> float | None:
        """Return how many seconds may be waited before the next look, None at the end. ServerUnavailable at `until_s`.

        Asks for the result again where it seems lost.
        """
        if self._answer is not None:
            return None
        if self._unsent:
            raise ServerUnavailable(f'the goal could not be sent to {self._client.server}: {self._unsent}',
                                    Generate.Result.SEND_GOAL_FAILURE)
        if self._lost:
            raise ServerUnavailable(f'no answer of {self._client.server} is received any more: {self._lost}')
        now, server = time.monotonic(), self._client.server
        if self._handle is None:
            accepted_until_s = min(self._limit_s, self._sent_s + ACCEPTANCE_S)
            limit_s = min(until_s, accepted_until_s)
            if now >= accepted_until_s:
                self.cancel()
            if now >= limit_s:
                raise ServerUnavailable(f'{server} did not accept a goal in {limit_s - self._sent_s:.1f} s: it hangs, '
                                        'or its answer was lost')
            if now >= self._sent_s + GONE_S and self._client.silence.is_long:  # a node that has just come back has time
                self.cancel()
                raise self._silent()
            return min(limit_s - now, GONE_S)
        if not self._handle.accepted:
            raise ServerUnavailable(f'the goal was rejected: {server} is not active', Generate.Result.GOAL_REJECTED)
        if now >= until_s:
            if now >= self._limit_s:
                self.cancel()
            raise ServerUnavailable(f'{server} gave no result in {until_s - self._sent_s:.1f} s')
        if self._handle.status in _ENDED:  # so the result is on its way, or was lost
            if now >= self._again_s:
                self._client.on_executor(self._ask_result)
            if now >= self._again_s or self._again_s == math.inf:
                self._again_s = now + AGAIN_S
        # DDS tells at once of a program that ends, and of one that was killed when its lease is over (Fast DDS: 20 s).
        self._missed_s = math.inf if self._client.actions.server_is_ready() else min(self._missed_s, now)
        if now - self._missed_s >= GONE_S:
            raise ServerUnavailable(f'{server} is gone: its action server has not been found for {GONE_S:.1f} s')
        if self._client.silence.is_long:
            raise self._silent()
        return min(until_s - now, AGAIN_S)

    def _silent(self) -> ServerUnavailable:
        return ServerUnavailable(f'{self._client.server} was killed or stands still: nothing has come from it for '
                                 f'{self._client.silence.seconds:.1f} s, not even its topic stats. If it does run, '
                                 'start this program again: messages in shared memory may no longer reach it '
                                 '(docs/operating.md, "Clients that hear nothing")')
