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

"""A goal as events for asyncio: in order, with its text whole, and canceled where nobody listens any more."""
import asyncio
import contextlib
from types import SimpleNamespace

import pytest
from answering_node import AnsweringNode
from node_client import WAIT_S

from timebill_ros.action import Generate
from timebill_ros.asking.goals import make_goal
from timebill_ros.asking.pending_goal import Answer
from timebill_ros.client import Client, ServerUnavailable
from timebill_ros.codes import Phase, Verdict
from timebill_ros.door import goal_events
from timebill_ros.door.goal_events import Ended, GoalEvents, Planned, Written
from timebill_ros.msg import RequestStatus


@pytest.fixture(scope='module')
def node():
    with AnsweringNode() as node:
        yield node


@pytest.fixture(scope='module')
def client(node):
    with Client(node.server, watch_status=True) as client:
        client.wait_until_active(WAIT_S)
        yield client


def test_plan_text_and_end(client):
    async def run():
        return [event async for event in GoalEvents(client, make_goal('say two three'), WAIT_S).events()]

    events = asyncio.run(run())
    *before, end = events
    assert isinstance(end, Ended) and end.answer.text == 'two three end'
    assert [event.status.verdict for event in before if isinstance(event, Planned)] == [Verdict.FITS]
    texts = [event for event in before if isinstance(event, Written)]
    assert texts and all(text.part == 0 for text in texts)
    assert end.answer.text.startswith(''.join(text.text for text in texts).rstrip())


def test_what_is_told_of_a_goal_that_waits_is_no_plan():
    class Pending:
        is_over = True

        async def statuses(self):
            yield RequestStatus(phase=int(Phase.QUEUED), verdict=int(Verdict.AT_RISK))
            yield RequestStatus(phase=int(Phase.PREFILL), verdict=int(Verdict.UNKNOWN))
            yield RequestStatus(phase=int(Phase.PREFILL), verdict=int(Verdict.FITS), slack_s=1.5)

        def __await__(self):
            return asyncio.sleep(0.05, Answer(Generate.Result(), 4, 0.0, 0.0)).__await__()

    async def run():
        client = SimpleNamespace(send=lambda *arguments, **options: Pending())
        return [event async for event in GoalEvents(client, None, WAIT_S).events()]

    planned, ended = asyncio.run(run())
    assert (planned.status.verdict, planned.status.slack_s) == (Verdict.FITS, 1.5) and isinstance(ended, Ended)


class Stuck:
    """A goal that gives no status; `fault`: what waiting for its end raises, None: it has no end."""

    is_over, fault = False, None

    def cancel(self):
        pass

    async def statuses(self):
        await asyncio.sleep(3600)
        yield

    def __await__(self):
        if self.fault:
            raise self.fault
        return asyncio.sleep(3600).__await__()


def test_a_fault_ends_the_waiting_too():
    async def run():
        pending = Stuck()
        pending.fault = RuntimeError('the context is gone')
        async for _ in GoalEvents(SimpleNamespace(send=lambda *_, **__: pending), None, WAIT_S).events():
            pass

    with pytest.raises(RuntimeError, match='the context is gone'):
        asyncio.run(run())


def test_a_goal_that_does_not_end_with_its_door_is_left_behind(monkeypatch):
    monkeypatch.setattr(goal_events, 'CANCEL_S', 0.02)

    async def run():
        goal = GoalEvents(SimpleNamespace(send=lambda *_, **__: Stuck()), None, WAIT_S)
        goal.close()
        async for _ in goal.events():
            pass

    with pytest.raises(ServerUnavailable, match='timebill serve was ended'):
        asyncio.run(run())


def test_who_listens_no_more_cancels_the_goal(node, client):
    async def run():
        async with contextlib.aclosing(GoalEvents(client, make_goal('hopeless'), WAIT_S).events()) as events:
            async for event in events:
                assert isinstance(event, Planned)
                return

    node.canceled.clear()
    asyncio.run(run())
    assert node.canceled.wait(WAIT_S)


def test_an_answer_that_does_not_come_is_an_error(client):
    async def run():
        async for _ in GoalEvents(client, make_goal('hang'), 0.3).events():
            pass

    with pytest.raises(ServerUnavailable, match='gave no result in 0.3 s'):
        asyncio.run(run())
