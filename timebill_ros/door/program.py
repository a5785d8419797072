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

"""The door as a program: its socket, the server, and how it ends."""
from __future__ import annotations

import socket

import uvicorn

from timebill_ros.client import TimebillClient
from timebill_ros.door.app import Door, make_app
from timebill_ros.door.bounded_connection import bounded
from timebill_ros.door.gate import HEADER_BYTES
from timebill_ros.door.goal_events import CANCEL_S
from timebill_ros.door.node_link import NodeLink

MOST_CONNECTIONS = 32
END_S = CANCEL_S + 1.0  # how long connections may take to end
KEEP_S = 10.0  # how long a connection may be idle: longer than clients keep it (5 s), which would send into its end
UNHEARD_S = 20  # how long a client may acknowledge nothing, such as a robot that has driven out of the network's range


class _Server(uvicorn.Server):
    """Cancels the goals before it waits for the requests that are open."""

    def __init__(self, config: uvicorn.Config, link: NodeLink):
        super().__init__(config)
        self._link = link

    async def shutdown(self, sockets=None) -> None:
        self._link.end()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; `port` 0: any free one. OSError, in one sentence, where that cannot be."""
    try:
        opened = socket.create_server((host, port), family=socket.AF_INET6 if ':' in host else socket.AF_INET)
        # Connections inherit it. asyncio sets it on sockets that it made alone; without it, an answer's last bytes
        # wait up to 40 ms for the client's acknowledgement of its first ones.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD_S * 1000)  # inherited too
        return opened
    except (OSError, UnicodeError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise OSError(f'--host {host} --port {port} cannot be listened on: {reason}') from None


def make_server(client: TimebillClient, door: Door, most_connections: int = MOST_CONNECTIONS) -> uvicorn.Server:
    """Return the server of a door.

    Its `run(sockets=[...])` serves until SIGINT or SIGTERM comes, which then does what it did before, or until
    `should_exit` is set. rclpy spins in the client's own thread; the server's event loop runs in the one that calls.
    """
    link = NodeLink(client)
    return _Server(uvicorn.Config(
        make_app(link, door), http=bounded(most_connections), loop='asyncio', ws='none', lifespan='off',
        interface='asgi3', log_config=None, access_log=False, proxy_headers=False, server_header=False,
        log_level='error',  # a warning for each request that is no HTTP would let any client fill the log
        timeout_keep_alive=int(KEEP_S), timeout_graceful_shutdown=int(END_S),
        h11_max_incomplete_event_size=HEADER_BYTES), link)


def url_of(door: Door, opened: socket.socket) -> str:
    """Return the base URL for OpenAI's clients."""
    host = f'[{door.host}]' if ':' in door.host else door.host
    return f'http://{host}:{opened.getsockname()[1]}/v1'
