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

"""An answer as server-sent events, while it is written."""
from __future__ import annotations

import asyncio

from timebill_ros.asking.failures import ServerUnavailable
from timebill_ros.asking.pending_goal import Answer
from timebill_ros.codes import Part, Verdict
from timebill_ros.door import fields, refusal
from timebill_ros.door.answer_objects import Writer, as_text, check, end_facts
from timebill_ros.door.body import ClientGone
from timebill_ros.door.goal_events import Planned, Written
from timebill_ros.door.refusal import Refusal

SEND_S = 10.0  # how long a client may take to receive a piece of a stream
DONE = b'data: [DONE]\n\n'


def rest_of(whole: str, shown: str) -> str | None:
    """Return what of `whole` is still to be shown; None where `shown` is no beginning of it.

    White space at the ends of what was streamed may be missing in the whole, which may go on behind it: that is so
    beside calls of tools.
    """
    if whole.startswith(shown):
        return whole[len(shown):]
    said, left = shown.strip(), whole.lstrip()
    if not left.startswith(said):
        return None
    rest = left[len(said):]
    return rest.lstrip() if shown[-1:].isspace() else rest


class EventStream:
    """One answer as server-sent events.

    Nothing is sent before the plan or the first text is there: a goal that fails before gets the HTTP status that fits.
    One that fails later gets an event that holds the error, and the stream ends.
    """

    def __init__(self, question: fields.Question, writer: Writer, headers: dict[str, str], send):
        self._question, self._writer, self._headers, self._send = question, writer, headers, send
        self._has_begun, self._plan = False, None
        self._shown = {Part.TEXT: '', Part.REASONING: ''}

    async def run(self, events) -> None:
        try:
            try:
                await self._tell(events)
            except (Refusal, ServerUnavailable) as error:
                if not self._has_begun:
                    raise
                told = error if isinstance(error, Refusal) else refusal.of_unavailable(error)
                await self._event(told.body())
                await self._bytes(b'', more=False)
        except asyncio.TimeoutError:  # the client does not receive
            raise ClientGone from None

    async def _tell(self, events) -> None:
        async for event in events:
            if isinstance(event, Planned):
                self._plan = event.status
                if self._has_begun:
                    await self._event(self._writer.plan(event.status))
                elif event.status.verdict != Verdict.INFEASIBLE:  # which the node may end without any text
                    await self._begin()
            elif isinstance(event, Written):
                await self._show(event.part, event.text)
            else:
                await self._end(event.answer)

    async def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            headers = {'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache',
                       'x-accel-buffering': 'no', **self._headers}
            await self._send({'type': 'http.response.start', 'status': 200,
                              'headers': [(name.encode(), value.encode()) for name, value in headers.items()]})
            await self._event(self._writer.first(self._plan))

    async def _show(self, part: int, text: str) -> None:
        """Send a piece of text, unless it may be taken back."""
        if part not in self._shown or part == Part.TEXT and self._question.comes_at_once:
            return
        self._shown[part] += text
        await self._begin()
        if part == Part.TEXT:
            await self._event(self._writer.text(text))
        elif self._question.is_chat:
            await self._event(self._writer.reasoning(text))

    async def _end(self, answer: Answer) -> None:
        check(self._question, answer)
        result = answer.result
        rest = rest_of(result.text, self._shown[Part.TEXT])
        if rest is None:
            raise Refusal(500, 'pieces of the answer were lost on their way, so what was streamed is not the answer: '
                          'error.timebill.text is', kind=refusal.SERVER, code='stream_broken',
                          facts={**end_facts(self._question, answer), 'text': result.text})
        await self._begin()
        thought = rest_of(result.reasoning, self._shown[Part.REASONING])
        if thought and self._question.is_chat:
            await self._event(self._writer.reasoning(thought))
        if rest:
            await self._event(self._writer.text(rest))
        if result.tool_calls and self._question.is_chat:
            await self._event(self._writer.calls(result))
        await self._event(self._writer.last(answer))
        if self._question.include_usage:
            await self._event(self._writer.spent(answer))
        await self._bytes(DONE, more=False)

    async def _event(self, value: dict) -> None:
        await self._bytes(f'data: {as_text(value)}\n\n'.encode())

    async def _bytes(self, data: bytes, *, more: bool = True) -> None:
        await asyncio.wait_for(self._send({'type': 'http.response.body', 'body': data, 'more_body': more}), SEND_S)
