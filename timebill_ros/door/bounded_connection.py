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

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_S = 10.0  # how long the headers of a request may take to come
FULL = (b'HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n'
        b'x-should-retry: true\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s')
BODY = b'{"error":{"message":"too many connections are open","type":"server_error","param":null,' \
       b'"code":"too_many_connections"}}'


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
                transport.write(FULL % (len(BODY), BODY))
                transport.close()
                return
            super().connection_made(transport)
            self._expect_headers()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._has_request:
                self._expect_nothing()
            elif self._timer is None:
                self._expect_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            self._expect_nothing()
            super().connection_lost(exc)

        @property
        def _has_request(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

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
