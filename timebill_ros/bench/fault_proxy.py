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

"""A proxy before a server of OpenAI's HTTP API. It has the faults of networks and servers, as it is told for each call.

It passes on what the server says, line by line, and does to it what the fault says. Only calls that stream are known
here. A client that hangs up ends the call of the server too.
"""
from __future__ import annotations

import http.client
import json
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from timebill_ros.bench.recorded_streams import RecordedStreams

SLOW_FIRST_S, SLOW_S = 0.5, 0.05  # what a slow call waits for its first piece, and for each further one
STALL_S = 30.0  # a call that stalls is cut then, where the client has not hung up before
LATER_S = 600.0  # for a server that says nothing at all
HALF = 'data: {"choices": [{"delta": {"content": "é'.encode()[:-1]
HOP_BY_HOP = ('host', 'connection', 'content-length', 'transfer-encoding')


class FaultProxy:
    """Passes calls on to the server at `url`, until `close`. A context manager.

    `fault_of(question)` returns a name of FAULTS for a call's JSON body; it is called from the call's own thread.
    `faults` counts the calls that each has met. With `recorded` the server itself is not asked: it tells its streams.
    """

    def __init__(self, url: str, fault_of: Callable[[dict], str], recorded: RecordedStreams | None = None):
        self.upstream, self.fault_of, self.recorded = urlsplit(url), fault_of, recorded
        if self.upstream.scheme != 'http' or not self.upstream.hostname:
            raise ValueError(f'{url!r} must be an address as http://127.0.0.1:8000/v1')
        self.faults: Counter[str] = Counter()
        self._lock, self._closing = threading.Lock(), threading.Event()

        class Handler(_Handler):
            proxy = self

        self._server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *arguments: None  # connections break on purpose
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name='fault_proxy', daemon=True).start()

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self._server.server_port}{self.upstream.path}'

    def met(self, fault: str) -> None:
        """Count a call."""
        with self._lock:
            self.faults[fault] += 1

    def wait(self, seconds: float) -> bool:
        """Wait; return whether the proxy was closed meanwhile."""
        return self._closing.wait(seconds)

    def close(self) -> None:
        """End the proxy and its calls."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client. Methods raise OSError where either side is gone."""

    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True
    proxy: FaultProxy

    def log_message(self, *arguments) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers['content-length']))
        fault = self.proxy.fault_of(json.loads(body))
        self.proxy.met(fault)
        try:
            FAULTS[fault](self, body)
        except (OSError, http.client.HTTPException):
            self.close_connection = True

    def lines(self, body: bytes) -> Iterator[bytes]:
        """Ask the server; answer with its head, and yield the lines of its stream. Its errors are passed on whole."""
        if self.proxy.recorded is not None:
            yield from self.recorded_lines(self.proxy.recorded, json.loads(body))
            return
        upstream = self.proxy.upstream
        connection = http.client.HTTPConnection(upstream.hostname, upstream.port, timeout=LATER_S)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            connection.request('POST', self.path, body, headers)
            response = connection.getresponse()
            self.begin(response.status, response.headers.get('content-type', ''))
            while line := response.readline():
                yield line
        finally:
            connection.close()

    def recorded_lines(self, recorded: RecordedStreams, question: dict) -> Iterator[bytes]:
        """Answer as the server did when it was recorded; with HTTP 404 where it was not asked this."""
        if question not in recorded:
            recorded.unknown += 1
            self.begin(404, 'application/json')
            yield b'{"error": {"message": "this question is not recorded"}}'
            return
        self.begin()
        yield from recorded.lines(question, self.proxy.wait)

    def begin(self, status: int = 200, kind: str = 'text/event-stream') -> None:
        """Send the head of an answer."""
        self.send_response(status)
        self.send_header('content-type', kind)
        self.send_header('transfer-encoding', 'chunked')
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        """Send a part of the answer's body; an empty one is its end."""
        self.wfile.write(b'%x\r\n%s\r\n' % (len(data), data))

    def beginning(self, body: bytes, pieces: int) -> None:
        """Pass an answer on until it has had so many pieces of text, or would end."""
        for line in self.lines(body):
            if ends(line):
                return
            self.chunk(line)
            pieces -= has_text(line)
            if pieces <= 0:
                return

    def hold(self, seconds: float) -> None:
        """Say nothing more, until the client hangs up or so many seconds have passed."""
        for _ in range(int(seconds / 0.05)):
            if self.proxy.wait(0.05) or (select.select([self.connection], [], [], 0)[0]
                                         and not self.connection.recv(1, socket.MSG_PEEK)):
                return

    def cut(self) -> None:
        """End the connection."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def has_text(line: bytes) -> bool:
    """Return whether a line of a stream holds text of an answer."""
    choice = _choice(line)
    return bool(choice.get('text') or (choice.get('delta') or {}).get('content'))


def ends(line: bytes) -> bool:
    """Return whether a line of a stream tells the end of an answer."""
    return bool(_choice(line).get('finish_reason')) or line.strip() == b'data: [DONE]'


def _choice(line: bytes) -> dict:
    try:
        return dict(json.loads(line[len(b'data:'):])['choices'][0]) if line.startswith(b'data:') else {}
    except (ValueError, LookupError, TypeError):
        return {}


def passes(handler: _Handler, body: bytes) -> None:
    """Pass all on, as it comes."""
    for line in handler.lines(body):
        handler.chunk(line)
    handler.chunk(b'')


def is_slow(handler: _Handler, body: bytes) -> None:
    """Pass all on, and take longer than the server did."""
    wait_s = SLOW_FIRST_S
    for line in handler.lines(body):
        if has_text(line):
            handler.hold(wait_s)
            wait_s = SLOW_S
        handler.chunk(line)
    handler.chunk(b'')


def is_gone(handler: _Handler, body: bytes) -> None:
    """Hang up without a word."""
    handler.cut()


def is_silent(handler: _Handler, body: bytes) -> None:
    """Take the call, and say nothing."""
    handler.hold(STALL_S)
    handler.cut()


def stalls(handler: _Handler, body: bytes) -> None:
    """Say nothing more after the first token."""
    handler.beginning(body, 1)
    handler.hold(STALL_S)
    handler.cut()


def cuts(handler: _Handler, body: bytes) -> None:
    """Hang up in the middle of an answer, at the latest before its end is told."""
    handler.beginning(body, 3)
    handler.cut()


def talks_nonsense(handler: _Handler, body: bytes) -> None:
    """Send a stream that holds no answer."""
    handler.begin()
    for _ in range(3):
        handler.chunk(b'data: {"colour": [1, 2, 3]}\n\n')
    handler.chunk(b'')


def sends_half_a_character(handler: _Handler, body: bytes) -> None:
    """Hang up between two bytes of one character."""
    handler.beginning(body, 2)
    handler.chunk(HALF)
    handler.cut()


def is_busy(handler: _Handler, body: bytes) -> None:
    """Answer that there is no capacity."""
    handler.begin(503, 'application/json')
    handler.chunk(b'{"error": {"message": "no capacity"}}')
    handler.chunk(b'')


NONE, SLOW = 'none', 'slow'  # all others are faults
FAULTS: dict[str, Callable[[_Handler, bytes], None]] = {
    NONE: passes, SLOW: is_slow, 'gone': is_gone, 'silent': is_silent, 'stalls': stalls, 'cuts': cuts,
    'nonsense': talks_nonsense, 'half a character': sends_half_a_character, 'busy': is_busy}
