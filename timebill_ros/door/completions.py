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

"""One request for an answer, from its body to the last byte of what is sent back."""
from __future__ import annotations

import asyncio
import contextlib
import time

from starlette.requests import Request
from starlette.responses import JSONResponse

from timebill_ros.action import Generate
from timebill_ros.asking.failures import ServerUnavailable
from timebill_ros.asking.goals import duration
from timebill_ros.asking.pending_goal import Answer
from timebill_ros.door import fields, refusal
from timebill_ros.door.answer_objects import Writer, check
from timebill_ros.door.body import ClientGone, read_json, until_closed
from timebill_ros.door.event_stream import EventStream
from timebill_ros.door.goal_events import Ended
from timebill_ros.door.node_link import NodeLink
from timebill_ros.door.refusal import Refusal

LEAST_S = 1e-6  # a budget that rounds to 0 would mean none
RETURN_S = 0.01  # kept for the answer's way through HTTP, which the node does not know of; about 3 ms on two busy cores


class Completions:
    """The ASGI application behind /v1/chat/completions, or behind /v1/completions where not `is_chat`.

    A request becomes a goal whose deadline counts from the arrival of the request's headers. Where the client closes
    the connection, the goal is canceled at once.
    """

    def __init__(self, link: NodeLink, *, is_chat: bool, model: str, default_deadline_s: float, most_bytes: int):
        self._link, self._is_chat, self._model = link, is_chat, model
        self._default_deadline_s, self._most_bytes = default_deadline_s, most_bytes

    async def __call__(self, scope, receive, send) -> None:
        arrived_s = time.monotonic()
        request = Request(scope, receive)
        try:
            question = self._read(await read_json(request, self._most_bytes), request.headers)
            await until_closed(self._answer(question, arrived_s, scope, receive, send), receive)
        except Refusal as error:
            await JSONResponse(error.body(), error.status, error.headers)(scope, receive, send)
        except ClientGone:
            pass

    def _read(self, body, headers) -> fields.Question:
        """Return a request's JSON as a question. Refusal for what cannot be served."""
        try:
            return fields.read(body, headers, is_chat=self._is_chat, default_deadline_s=self._default_deadline_s,
                               model=self._model)
        except RecursionError:  # json.loads takes about as deep a nesting as repr and json.dumps, not the same
            raise Refusal(400, 'the body is nested too deeply', code='invalid_json') from None

    async def _answer(self, question: fields.Question, arrived_s: float, scope, receive, send) -> None:
        """Send the goal and what comes of it. Refusal where it fails before anything is sent."""
        until_s = arrived_s + question.deadline_s
        left_s = _left_s(question, until_s)
        try:
            await asyncio.wait_for(self._link.wait_until_ready(), left_s)
        except asyncio.TimeoutError:
            raise Refusal(503, f'{self._link.client.server} was not found active by the deadline of '
                          f'{_ms(question)}: GET /health says what is missing', kind=refusal.SERVER,
                          code='node_unavailable') from None
        left_s = _left_s(question, until_s)
        question.budget_s = max(left_s - RETURN_S, left_s / 2)
        question.goal.time_budget = duration(question.budget_s)
        try:
            sent = self._link.send(question.goal, question.budget_s, may_run_late=question.may_run_late)
        except ValueError as error:
            raise fields.of_value(error) from None
        writer = Writer(question, sent.pending.request_id, self._model)
        headers = {'x-request-id': sent.pending.request_id,
                   'x-timebill-deadline-ms': f'{question.deadline_s * 1000:.0f}'}
        try:
            async with contextlib.aclosing(sent.events()) as events:
                if question.stream:
                    await EventStream(question, writer, headers, send).run(events)
                else:
                    answer = await _end_of(events)
                    check(question, answer)
                    await JSONResponse(writer.whole(answer), headers=headers)(scope, receive, send)
        except ServerUnavailable as error:
            raise await self._unavailable(error, until_s) from None
        finally:
            self._link.forget(sent)

    async def _unavailable(self, error: ServerUnavailable, until_s: float) -> Refusal:
        """Return how it is told by the deadline, with what can be done about a node that is not active."""
        if error.code != Generate.Result.GOAL_REJECTED:
            return refusal.of_unavailable(error)
        try:
            await asyncio.wait_for(self._link.look(), until_s - time.monotonic())
        except Refusal as told:
            return told
        except asyncio.TimeoutError:
            return refusal.of_unavailable(error)
        return refusal.of_unavailable(error, may_ask_again=True)


def _left_s(question: fields.Question, until_s: float) -> float:
    """Return how many seconds are left until the deadline. Refusal where none are."""
    left_s = until_s - time.monotonic()
    if left_s < LEAST_S:
        raise Refusal(504, f'the deadline of {_ms(question)} was over before the goal was sent',
                      kind=refusal.SERVER, code='deadline_missed')
    return left_s


def _ms(question: fields.Question) -> str:
    return f'{question.deadline_s * 1000:g} ms'


async def _end_of(events) -> Answer:
    async for event in events:
        if isinstance(event, Ended):
            return event.answer
    raise AssertionError('a goal has an end')
