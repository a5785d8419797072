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

"""The process that calls the server: the only one that opens a connection, and only for a goal that it is given.

It is told of goals and cancels by the node over a socket pair, as the worker is, and tells text, ends and errors. A
library that hangs or takes too much memory here costs the node nothing: it kills this process and starts another.
"""
from __future__ import annotations

import argparse
import asyncio
import os
import resource
import socket
import threading
from collections.abc import Callable

from timebill_ros.dispatch.channel import Channel
from timebill_ros.dispatch.offboard.call import NotAsked, ServerCall, client_for
from timebill_ros.request import Request

MEMORY_BYTES = 1 << 30  # of data, whatever a server sends and a library keeps of it


class Caller:
    """Has one task for each goal that the server is asked for. `send(message)`: to the node."""

    def __init__(self, send: Callable[[dict], object]):
        self._send = send
        self._client, self._model = None, ''
        self._tasks: dict[str, asyncio.Task] = {}

    def handle(self, message: dict) -> None:
        """Take one message of the node."""
        if message['op'] == 'configure':
            self._configure(message)
        elif message['op'] == 'ask':
            request = Request.from_dict(message['request'])
            self._send({'event': 'taken', 'id': request.request_id})
            task = asyncio.get_running_loop().create_task(
                ServerCall(self._client, self._model, request, self._send).run(message['until_s']))
            self._tasks[request.request_id] = task
            task.add_done_callback(lambda task: self._over(request.request_id, task))
        elif message['op'] == 'cancel':
            task = self._tasks.get(message['id'])
            if task is None or not task.cancel():
                self._send({'event': 'ended', 'id': message['id']})

    def _configure(self, message: dict) -> None:
        try:
            if not message['model']:
                raise NotAsked('offboard_url needs offboard_model, the name of the model that the server is asked for')
            self._client = client_for(message['url'], message['key_file'], message['goals'])
        except NotAsked as error:
            self._send({'event': 'failed', 'message': str(error)})
            return
        except Exception as error:  # of a library; without a word the node would wait for one
            self._send({'event': 'failed', 'message': f'offboard_url cannot be asked: {type(error).__name__}: {error}'})
            return
        self._model = message['model']
        self._send({'event': 'ready'})

    def _over(self, request_id: str, task: asyncio.Task) -> None:
        del self._tasks[request_id]
        if task.cancelled():  # before it had begun: it tells all other ends itself
            self._send({'event': 'ended', 'id': request_id})


async def serve(channel: Channel) -> None:
    """Serve the node until it closes its end; then the process ends."""
    loop, caller = asyncio.get_running_loop(), Caller(channel.send)

    def read() -> None:
        try:
            for message in channel.receive():
                loop.call_soon_threadsafe(caller.handle, message)
        finally:
            os._exit(0)  # from here: a library that hangs in the loop, or a look-up of a name, would keep it alive

    threading.Thread(target=read, name='reader', daemon=True).start()
    await asyncio.Event().wait()


def limit_memory(limit: int) -> None:
    """Have the kernel refuse this process more than `limit` bytes of data."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def main(arguments: list[str] | None = None) -> None:
    """Run the process until the node closes its end of the socket."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--fd', type=int, required=True, help='the socket to the node')
    parser.add_argument('--scratch', help='a folder for temporary files; none are written')
    parser.add_argument('--log-level', type=int, default=0, help='not used: what happens is told to the node')
    options = parser.parse_args(arguments)
    limit_memory(MEMORY_BYTES)
    asyncio.run(serve(Channel(socket.socket(fileno=options.fd))))


if __name__ == '__main__':
    main()
