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

"""The door to a node, for tests: as a program of its own, and in the test's own process."""
from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading

from node_client import WAIT_S, wait_until
from scripted_model import ROOT

from timebill_ros.client import Client
from timebill_ros.door.app import Door
from timebill_ros.door.program import listen, make_server


@contextlib.contextmanager
def door_in_a_thread(server: str, most_connections: int = 32, **settings):
    """Open a door to the node `server`; yields its address, and the client that it sends goals with."""
    with Client(server, watch_status=True) as client, listen('127.0.0.1', 0) as opened:
        uvicorn = make_server(client, Door(**settings), most_connections)
        thread = threading.Thread(target=uvicorn.run, kwargs={'sockets': [opened]})
        thread.start()
        try:
            wait_until(lambda: uvicorn.started)
            yield f'http://127.0.0.1:{opened.getsockname()[1]}', client
        finally:
            uvicorn.should_exit = True
            thread.join(WAIT_S)
            assert not thread.is_alive()


class DoorProgram:
    """`timebill serve` as a process. A context manager; fails the test where the program wrote a traceback."""

    def __init__(self, server: str, *options: str):
        self.process = subprocess.Popen(
            [sys.executable, '-u', '-m', 'timebill_ros.cli', 'serve', '--server', server, '--port', '0', *options],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> DoorProgram:
        self.line = self.process.stdout.readline()
        assert self.line, self.process.communicate(timeout=WAIT_S)
        self.url = self.line.split()[0]
        return self

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Send the signal; return the exit status and what was written to standard error."""
        self.process.send_signal(number)
        _, told = self.process.communicate(timeout=WAIT_S)
        assert 'Traceback' not in told, told
        return self.process.returncode, told

    def __exit__(self, kind, *_) -> None:
        if self.process.poll() is None:
            self.end()
