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

"""The door and its node: a door that ends sends nothing more; a node that refuses is told of by the deadline."""
import asyncio
import logging
import socket
import time
from types import SimpleNamespace

import httpx
import pytest

from timebill_ros.action import Generate
from timebill_ros.asking.failures import ServerUnavailable
from timebill_ros.asking.goals import make_goal
from timebill_ros.door.app import Door, make_app
from timebill_ros.door.completions import Completions
from timebill_ros.door.goal_events import CANCEL_S
from timebill_ros.door.node_link import NodeLink
from timebill_ros.door.program import END_S, KEEP_S, UNHEARD_S, listen, make_server
from timebill_ros.door.refusal import Refusal


def link_to(ready: bool = True, active_after_s: float = 0.0) -> NodeLink:
    """Return a link to no node: one that is `ready`, and active after so many seconds."""
    return NodeLink(SimpleNamespace(
        server='/x', actions=SimpleNamespace(server_is_ready=lambda: ready), send=lambda *_, **__: pytest.fail('sent'),
        wait_until_active=lambda _: time.sleep(active_after_s)))


def test_a_goal_whose_door_ended_while_the_node_was_looked_for_is_not_sent():
    async def run():
        link = link_to(ready=False)
        await link.wait_until_ready()
        link.end()
        link.send(make_goal('hi', 1.0), 1.0, may_run_late=False)

    with pytest.raises(Refusal, match='the door is being closed') as error:
        asyncio.run(run())
    assert error.value.status == 503


@pytest.mark.parametrize(('left_s', 'again'), [(30.0, 'true'), (0.02, 'false'), (-1.0, 'false')])
def test_a_rejected_goal_is_told_by_its_deadline(left_s, again):
    door = Completions(link_to(active_after_s=0.3), is_chat=True, model='m', default_deadline_s=1.0, most_bytes=1)
    rejected = ServerUnavailable('the goal was rejected', Generate.Result.GOAL_REJECTED)

    async def run():
        told = await door._unavailable(rejected, time.monotonic() + left_s)
        assert told.headers['x-should-retry'] == again and told.status == 503

    asyncio.run(run())


def test_a_path_that_is_not_served_says_that_asking_again_is_of_no_use():
    async def run():
        transport = httpx.ASGITransport(make_app(link_to(), Door()))
        async with httpx.AsyncClient(transport=transport, base_url='http://localhost') as client:
            return await client.get('/v1/embeddings'), await client.get('/v1/completions')

    missing, wrong = asyncio.run(run())
    assert (missing.status_code, missing.headers['x-should-retry']) == (404, 'false')
    assert (wrong.status_code, wrong.headers['allow'], wrong.headers['x-should-retry']) == (405, 'POST', 'false')


def test_connections_outlive_those_of_clients_and_end_where_nothing_is_acknowledged():
    with (listen('127.0.0.1', 0) as opened, socket.create_connection(opened.getsockname()), opened.accept()[0] as one):
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNHEARD_S * 1000
    config = make_server(link_to().client, Door()).config
    assert config.timeout_keep_alive == KEEP_S > 5 and CANCEL_S < END_S == config.timeout_graceful_shutdown


def test_requests_that_are_no_http_leave_no_line_each():
    make_server(link_to().client, Door())
    logger = logging.getLogger('uvicorn.error')
    assert logger.isEnabledFor(logging.ERROR) and not logger.isEnabledFor(logging.WARNING)
