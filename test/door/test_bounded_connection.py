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

"""Connections: not more than allowed, none that sends nothing, none whose headers never end."""
import contextlib
import json
import socket
import threading
import time

import pytest
import uvicorn

from timebill_ros.door.bounded_connection import bounded

GET = b'GET / HTTP/1.1\r\nhost: localhost\r\n\r\n'


@contextlib.contextmanager
def server(most: int, headers_s: float, answer_s: float = 0.0, closed: list | None = None):
    """Serve an application that answers after `answer_s`; yields what makes a connection.

    `closed` gets an entry for each connection that is closed before it is answered; then nothing is answered.
    """
    async def application(scope, receive, send):
        import asyncio
        if closed is not None:
            while (await receive())['type'] != 'http.disconnect':
                pass
            closed.append(1)
            return
        await asyncio.sleep(answer_s)
        await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'2')]})
        await send({'type': 'http.response.body', 'body': b'in'})

    opened = socket.create_server(('127.0.0.1', 0))
    running = uvicorn.Server(uvicorn.Config(application, http=bounded(most, headers_s), lifespan='off', ws='none',
                                            loop='asyncio', log_config=None, h11_max_incomplete_event_size=16384))
    thread = threading.Thread(target=running.run, kwargs={'sockets': [opened]})
    thread.start()
    with contextlib.ExitStack() as connections:
        def connect() -> socket.socket:
            return connections.enter_context(socket.create_connection(opened.getsockname(), timeout=30.0))

        try:
            yield connect
        finally:
            running.should_exit = running.force_exit = True
            thread.join(30.0)


def received(connection: socket.socket, until: bytes = b'') -> bytes:
    """Return what comes until it ends with `until`, or until the other side closes."""
    data = b''
    while not (until and data.endswith(until)):
        try:
            piece = connection.recv(4096)
        except ConnectionResetError:
            break
        if not piece:
            break
        data += piece
    return data


def test_one_connection_too_many_is_told_so():
    with server(most=2, headers_s=30.0) as connect:
        first, second = connect(), connect()
        for connection in (first, second):
            connection.sendall(GET)
            assert received(connection, b'in').startswith(b'HTTP/1.1 200')
        head, _, body = received(connect()).partition(b'\r\n\r\n')
        assert b' 503 ' in head and json.loads(body)['error']['code'] == 'too_many_connections'
        assert b'x-should-retry: true' in head
        first.close()
        end = time.monotonic() + 30.0
        while time.monotonic() < end:  # until the server has seen that the first one is closed
            third = connect()
            with contextlib.suppress(ConnectionError):
                third.sendall(GET)
                if received(third, b'in').startswith(b'HTTP/1.1 200'):
                    return
        pytest.fail('the place of a closed connection is not free')


@pytest.mark.parametrize('sent', [b'', b'GET / HTT', b'GET / HTTP/1.1\r\na: b\r\n'])
def test_a_connection_that_sends_no_whole_headers_is_closed(sent):
    with server(most=2, headers_s=0.2) as connect:
        connection = connect()
        connection.sendall(sent)
        assert received(connection) == b''


def test_the_next_request_of_a_connection_has_its_own_time():
    with server(most=2, headers_s=0.2) as connect:
        connection = connect()
        connection.sendall(GET)
        assert received(connection, b'in')
        connection.sendall(b'GET / HTT')  # which ends the time that an idle connection has
        assert received(connection) == b''


def test_an_answer_may_take_longer_than_headers():
    with server(most=2, headers_s=0.1, answer_s=0.5) as connect:
        connection = connect()
        connection.sendall(GET)
        assert received(connection, b'in').startswith(b'HTTP/1.1 200')


@pytest.mark.parametrize(('fields', 'more'), [
    (b'', GET), (b'connection: close\r\n', b'\r\n'),
    (b'connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n', b'')])  # Java's
def test_that_a_connection_is_closed_is_heard_whatever_came_behind_its_request(fields, more):
    closed = []
    with server(most=2, headers_s=30.0, closed=closed) as connect:
        connection = connect()
        connection.sendall(b'GET / HTTP/1.1\r\nhost: localhost\r\n' + fields + b'\r\n')
        time.sleep(0.05)
        connection.sendall(more)
        time.sleep(0.05)
        assert not closed
        connection.close()
        end = time.monotonic() + 10.0
        while not closed and time.monotonic() < end:
            time.sleep(0.01)
    assert closed == [1]


def test_a_request_that_comes_before_the_answer_to_the_one_before_is_answered_behind_it():
    with server(most=2, headers_s=30.0, answer_s=0.05) as connect:
        connection = connect()
        connection.sendall(GET + GET)
        connection.sendall(GET)
        data = b''
        while data.count(b'\r\n\r\nin') < 3:
            data += received(connection, b'in')
        assert data.count(b'HTTP/1.1 200') == 3


def test_what_is_no_http_is_told_in_openais_form():
    with server(most=2, headers_s=30.0) as connect:
        connection = connect()
        connection.sendall(b'\x16\x03\x01\x02\x00\r\n\r\n')  # how TLS begins
        head, _, body = received(connection).partition(b'\r\n\r\n')
        assert head.startswith(b'HTTP/1.1 400') and json.loads(body)['error']['code'] == 'invalid_http'
        assert b'x-should-retry: false' in head


def test_endless_headers_are_refused():
    with server(most=2, headers_s=30.0) as connect:
        connection = connect()
        with contextlib.suppress(ConnectionError):
            connection.sendall(b'GET / HTTP/1.1\r\n')
            for _ in range(40):
                connection.sendall(b'a: ' + b'b' * 1000 + b'\r\n')
                time.sleep(0.005)
        assert not received(connection).startswith(b'HTTP/1.1 200')
