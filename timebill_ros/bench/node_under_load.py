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

"""A node for benchmarks over DDS: started as a program, watched from outside, and hurt on purpose."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from timebill_ros.client import Client
from timebill_ros.msg import RequestStatus

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 10.0
RECOVERY_TIMEOUT_S = 90.0


def children(pid: int) -> list[int]:
    """Living child processes, zombies left out."""
    found = []
    for task in Path(f'/proc/{pid}/task').glob('*/children'):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue
    return [child for child in found if state(child) not in ('Z', 'X', '')]


def state(pid: int) -> str:
    """The letter of ps; '' where there is no such process."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError:
        return ''


def n_zombies(parent: int) -> int:
    n = 0
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            letter, ppid = path.read_text().rpartition(')')[2].split()[:2]
        except OSError:
            continue
        n += letter == 'Z' and int(ppid) == parent
    return n


def resources(pid: int) -> tuple[float, int, int] | None:
    """(resident MB, open files, threads); None where the process is gone."""
    try:
        status = dict(line.split(':', 1) for line in Path(f'/proc/{pid}/status').read_text().splitlines())
        return int(status['VmRSS'].split()[0]) / 1024, len(os.listdir(f'/proc/{pid}/fd')), int(status['Threads'])
    except (OSError, KeyError):
        return None


class Node:
    """The node as a program, configured and active, with a client beside it. A context: nothing is left running."""

    def __init__(self, parameters: dict, log: Path | None = None):
        self._folder = tempfile.TemporaryDirectory(prefix='timebill_load_')
        params = Path(self._folder.name) / 'params.yaml'
        params.write_text(yaml.safe_dump({'/**': {'ros__parameters': {'autostart': True, **parameters}}}))
        self._log = (log or Path(self._folder.name) / 'log').open('w')
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'timebill_ros.node.server_node', '--ros-args', '--params-file', str(params)],
            stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True)
        self.client = Client(name='load_observer')
        self.health: list[tuple[float, bool]] = []  # when the status topic told that `degraded` had changed, to what
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
        return next(iter(children(self.pid)), None)


@dataclass
class Fault:
    """A worker that was killed or stopped, and when the node served again."""

    kind: str
    at_s: float
    told_s: float = float('nan')  # when the status topic told of it
    back_s: float = float('nan')


@dataclass
class Faults:
    """Kills and stops the worker at the times given, each once the node serves again after the one before."""

    node: Node
    plan: list[tuple[float, str]]  # (monotonic instant, 'kill' or 'hang'), ascending
    done: list[Fault] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        for at_s, kind in self.plan:
            if self.stop.wait(max(0.0, at_s - time.monotonic())):
                return
            pid = self.node.worker_pid()
            if pid is None:
                continue
            fault = Fault(kind, time.monotonic())
            self.done.append(fault)
            os.kill(pid, signal.SIGKILL if kind == 'kill' else signal.SIGSTOP)
            until = fault.at_s + RECOVERY_TIMEOUT_S
            while time.monotonic() < until and not self.stop.is_set():
                told = [when for when, degraded in self.node.health if when > fault.at_s and degraded]
                back = [when for when, degraded in self.node.health if told and when > told[0] and not degraded]
                if back:
                    fault.told_s, fault.back_s = told[0], back[0]
                    break
                time.sleep(0.05)


@dataclass
class Sampler:
    """Memory, open files and threads of the node, its worker and whatever else is named, once a second."""

    node: Node
    others: dict[str, int] = field(default_factory=dict)  # name -> process id
    rows: list[dict] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stop.wait(1.0):
            worker = self.node.worker_pid()
            row = {'at_s': time.monotonic(), 'worker': worker, 'zombies': n_zombies(self.node.pid)}
            for name, pid in (('node', self.node.pid), ('worker', worker), *self.others.items()):
                found = resources(pid) if pid is not None else None
                if found is not None:
                    row.update({f'{name}_mb': found[0], f'{name}_files': found[1], f'{name}_threads': found[2]})
            self.rows.append(row)


class ClientProcesses:
    """Client processes that wait for their common start. A context: none outlives it."""

    def __init__(self, jobs: list[dict]):
        self._processes = [subprocess.Popen(
            [sys.executable, '-m', 'timebill_ros.bench.load_client'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True) for _ in jobs]
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
        for process in self._processes:
            process.stdin.write('start\n')
            process.stdin.flush()

    def results(self, timeout_s: float) -> list[dict]:
        """What the clients saw. RuntimeError for one that failed."""
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
