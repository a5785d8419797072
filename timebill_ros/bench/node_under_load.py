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

"""A node for benches over DDS: started as a program, and watched from outside."""
from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from timebill_ros.bench.process_state import children
from timebill_ros.client import Client
from timebill_ros.msg import RequestStatus

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 10.0


class Node:
    """The node as a program, configured and active, with a client beside it.

    A context manager: inside it the node is active, after it nothing is left running.
    """

    def __init__(self, parameters: dict, log: Path | None = None):
        self._folder = tempfile.TemporaryDirectory(prefix='timebill_load_')
        params = Path(self._folder.name) / 'params.yaml'
        values = {'autostart': True, 'model': 'embedded', **parameters}
        params.write_text(yaml.safe_dump({'/**': {'ros__parameters': values}}))
        self._log = (log or Path(self._folder.name) / 'log').open('w')
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'timebill_ros.node.main', '--ros-args', '--params-file', str(params)],
            stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True)
        self.client = Client(name='load_observer')
        self.health: list[tuple[float, bool]] = []  # (monotonic instant, `degraded`), as the status topic said
        self.client.node.create_subscription(RequestStatus, '/timebill/status', self._on_status, 500)

    def _on_status(self, message: RequestStatus) -> None:
        if not message.request_id:
            self.health.append((time.monotonic(), message.degraded))

    def __enter__(self) -> Node:
        try:
            self.client.wait_until_active(START_TIMEOUT_S, alive=lambda: self.process.poll() is None)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error) -> None:
        self.client.__exit__()
        for number in (signal.SIGINT, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(number)
                try:
                    self.process.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    continue
        self._log.close()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        return self.process.pid

    def worker_pid(self) -> int | None:
        """Return the process id of the node's worker, None while it has none."""
        return next(iter(children(self.pid)), None)
