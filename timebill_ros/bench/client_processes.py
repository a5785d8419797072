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

"""Clients of a load bench, each in a process of its own: see load_client.py for what such a process does.

They are nicer than the node (NICER): four of them on two cores ask for more than the clients of a robot would, and what
is measured is the node.
"""
from __future__ import annotations

import json
import subprocess
import sys
import time

NICER = 10


class ClientProcesses:
    """A context manager with one client process per job: they wait for their common start, and none outlives it."""

    def __init__(self, jobs: list[dict]):
        self._processes = [subprocess.Popen(
            ['nice', '-n', str(NICER), sys.executable, '-m', 'timebill_ros.bench.load_client'], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in jobs]
        for process, job in zip(self._processes, jobs, strict=True):
            process.stdin.write(json.dumps(job) + '\n')
            process.stdin.flush()

    def __enter__(self) -> ClientProcesses:
        for process in self._processes:
            while (line := process.stderr.readline()) and line != 'ready\n':
                sys.stderr.write(line)
            if not line:
                raise RuntimeError('a client process ended before its start')
        return self

    def start(self) -> None:
        """Have every client begin its schedule."""
        for process in self._processes:
            process.stdin.write('start\n')
            process.stdin.flush()

    def results(self, timeout_s: float) -> list[dict]:
        """Return what each client saw. RuntimeError for one that failed."""
        until = time.monotonic() + timeout_s
        outputs = []
        for process in self._processes:
            output, errors = process.communicate(timeout=max(1.0, until - time.monotonic()))
            if process.returncode:
                raise RuntimeError(f'a client process failed: {errors[-2000:]}')
            outputs.append(json.loads(output))
        return outputs

    def __exit__(self, *error) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
