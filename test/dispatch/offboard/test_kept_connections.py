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

"""A connection that was kept for the next goal may be closed by then: that says nothing of the server."""
import asyncio
import contextlib
import time

import pytest

pytest.importorskip('httpx')
from timebill_ros.dispatch.offboard.call import ServerCall, client_for  # noqa: E402
from timebill_ros.request import Request  # noqa: E402

HEAD = b'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n'
ANSWER = b'data: {"choices": [{"text": "yes", "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
WHOLE = HEAD + b'content-length: %d\r\n\r\n%s' % (len(ANSWER), ANSWER)
WAIT_S = 30.0


async def ends(goals, *answers, at_once=1):
    """Ask for so many goals -> (the last word on each, connections). `answers`: to the questions of each connection.

    Where a connection has no further answer it is closed as the question comes, as by a server that gives it up then.
    """
    connections, told = [], []

    async def serve(reader, writer):
        connections.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            for answer in answers:
                head = await reader.readuntil(b'\r\n\r\n')
                length = int(head.lower().partition(b'content-length:')[2].split()[0])
                await reader.readexactly(length)
                writer.write(answer)
                await writer.drain()
            if WHOLE in answers[-1:]:
                await reader.read(1)
        writer.close()

    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    client = client_for(f'http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1', '', at_once)

    async def ask(number):
        await ServerCall(client, 'large', Request(f'goal {number}', 0.0, 1.0, prompt='hi'), told.append).run(
            time.monotonic() + WAIT_S)

    for first in range(0, goals, at_once):
        await asyncio.gather(*map(ask, range(first, first + at_once)))
    await client.aclose()
    server.close()
    return [message for message in told if message['event'] != 'text'], len(connections)


def test_a_connection_that_is_closed_as_it_is_used_again_costs_no_answer():
    told, connections = asyncio.run(ends(3, WHOLE))
    assert [message['event'] for message in told] == ['done'] * 3 and connections == 3


def test_so_do_several_of_them():
    told, connections = asyncio.run(ends(4, WHOLE, at_once=2))
    assert [message['event'] for message in told] == ['done'] * 4 and connections == 4


def test_a_new_connection_that_is_closed_is_the_servers_failure():
    told, connections = asyncio.run(ends(1))
    assert [(message['event'], message['fault']) for message in told] == [('error', True)] and connections == 1


def test_an_answer_that_breaks_off_on_a_kept_connection_is_not_asked_for_again():
    told, connections = asyncio.run(ends(2, WHOLE, HEAD + b'content-length: 999\r\n\r\n' + ANSWER[:20]))
    assert [message['event'] for message in told] == ['done', 'error'] and connections == 1 and told[1]['fault']


def test_a_server_of_http_1_0_answers_until_it_closes():
    told, connections = asyncio.run(ends(2, HEAD.replace(b'1.1', b'1.0') + b'\r\n' + ANSWER))
    assert [message['event'] for message in told] == ['done'] * 2 and connections == 2
