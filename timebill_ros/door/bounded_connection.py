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

"""Connections to the door: not too many, none that sends nothing, none that sends endless headers."""
from __future__ import annotations

import asyncio

from starlette.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol, h11

from timebill_ros.door.gate import HEADER_BYTES
from timebill_ros.door.refusal import SERVER, Refusal

HEADERS_S = 10.0  # how long the headers of a request may take to come
FULL = Refusal(503, 'too many connections are open', kind=SERVER, code='too_many_connections', may_ask_again=True)
NO_HTTP = Refusal(400, 'this is no HTTP request that is served here: it breaks the rules of HTTP/1.1, or its headers '
                  f'have more than {HEADER_BYTES} bytes', code='invalid_http')
PHRASES = {400: 'Bad Request', 503: 'Service Unavailable'}


def bounded(most: int, headers_s: float = HEADERS_S) -> type[H11Protocol]:
    """Return the class of a server's connections, of which at most `most` are open at a time.

    uvicorn has a limit of its own, which counts connections only once a request has come.
    """

    class Connection(H11Protocol):
        """One connection."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport) -> None:
            if len(self.connections) >= most:
                self.transport = transport  # which connection_lost closes
                self._end_with(FULL)
                return
            super().connection_made(transport)
            self._expect_headers()

        def data_received(self, data: bytes) -> None:
            if self.conn.their_state is h11.MUST_CLOSE:
                return  # the client has said that no request follows; some send an empty line more
            super().data_received(data)
            if self._has_request:
                self._expect_nothing()
                self._go_on_hearing()
            elif self._timer is None:
                self._expect_headers()

        def send_400_response(self, msg: str) -> None:
            """Tell of what is no HTTP, unless an answer is on its way already."""
            if self._has_request and self.cycle.response_started:
                self.transport.close()
            else:
                self._end_with(NO_HTTP)

        def connection_lost(self, exc: Exception | None) -> None:
            self._expect_nothing()
            super().connection_lost(exc)

        @property
        def _has_request(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _go_on_hearing(self) -> None:
            """Read while a request is answered: who does not read does not hear that the connection is closed.

            uvicorn stops where another request has come before the answer to this one.
            """
            if not self.cycle.more_body and len(self.conn.trailing_data[0]) <= HEADER_BYTES:
                self.flow.resume_reading()

        def _end_with(self, refusal: Refusal) -> None:
            body = JSONResponse(refusal.body()).body
            headers = {'content-type': 'application/json', **refusal.headers, 'connection': 'close',
                       'content-length': str(len(body))}
            lines = [f'HTTP/1.1 {refusal.status} {PHRASES[refusal.status]}',
                     *(f'{name}: {value}' for name, value in headers.items()), '', '']
            self.transport.write('\r\n'.join(lines).encode() + body)
            self.transport.close()

        def _expect_headers(self) -> None:
            self._timer = self.loop.call_later(headers_s, self._close)

        def _expect_nothing(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _close(self) -> None:
            self._timer = None
            if not self._has_request and not self.transport.is_closing():
                self.transport.close()

    return Connection
