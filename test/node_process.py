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

"""A real node in a process of its own, for the tests of the ROS shell.

It serves the model of scripted_model.py, or with worker='scripted' no model at all.

conftest.py keeps the ROS domain apart; each node also has a namespace of its own.
"""
from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from node_client import SUCCEEDED, WAIT_S, Client, make_goal, wait_until
from scripted_model import ROOT, parameters

from timebill_ros.msg import RequestStatus

_number = itertools.count(1)


def worker_program(script: str, folder: Path) -> str:
    """Make a program for the parameter worker_python that runs test/`script` instead of the worker; return its path."""
    path = folder / script.removesuffix('.py')
    path.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" "{ROOT / "test" / script}" "$@"\n')
    path.chmod(0o755)
    return str(path)


SCRIPT = '''
format: 1
start: {{seconds: {start_s}}}
times: {{prompt_s: 0.0, prompt_token_s: 0.0, token_s: 0.01}}
answers:
  - {{when: '^one$', text: two three}}
  - {{text: on and, ends: false}}
'''


def scripted(folder: Path, start_s: float = 0.0, **changed) -> NodeProcess:
    """Start a node without a model, for tests of what no model has a part in: it is there in a second.

    Its answers are 'two three' to 'one', as of the model of scripted_model.py, and otherwise endless. Its worker takes
    `start_s` to start.
    """
    path = folder / 'script.yaml'
    path.write_text(SCRIPT.format(start_s=start_s))
    return NodeProcess(worker='scripted', script=str(path), **changed)


def process_exists(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] not in 'ZX'
    except (FileNotFoundError, ProcessLookupError):
        return False


class NodeProcess(Client):
    """The node as a plain program, and a client beside it.

    A context manager that leaves no process, and fails the test if the node's log holds a traceback.
    """

    def __init__(self, *, arguments: list[str] = (), environment: dict | None = None, **changed):
        self._namespace = namespace = f'/node_{next(_number)}'
        self._folder = Path(tempfile.mkdtemp(prefix='node_', dir=os.environ['HOME']))
        self._log_file = self._folder / 'log'
        params = self._folder / 'params.yaml'
        given = changed if changed.get('worker') == 'scripted' else parameters(**changed)
        params.write_text(yaml.safe_dump({'/**': {'ros__parameters': given}}))
        with self._log_file.open('w') as log:
            self.process = subprocess.Popen(
                [sys.executable, '-m', 'timebill_ros.node.main', '--ros-args', '--params-file', str(params),
                 '-r', f'__ns:={namespace}', '-r', f'/diagnostics:={namespace}/diagnostics', *arguments],
                cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **(environment or {})})
        self._workers: set[int] = set()
        super().__init__(namespace)

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            self.stop(signal.SIGTERM)
        finally:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()
            self.close()
            left = [pid for pid in self._workers if not _ends(pid)]
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        if kind is None:
            assert 'Traceback' not in self.log, self.log
            assert not left, f'worker processes {left} were left behind'

    @property
    def server(self) -> str:
        """The node's full name."""
        return f'{self._namespace}/timebill'

    def another_client(self) -> Client:
        return Client(self._namespace)

    @property
    def log(self) -> str:
        return self._log_file.read_text()

    def worker_pid(self) -> int | None:
        """The node's one child."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f'/proc/{self.process.pid}/task').iterdir():
                for child in map(int, (task / 'children').read_text().split()):
                    if process_exists(child):
                        self._workers.add(child)
                        return child
        return None

    def stop(self, number: int, timeout_s: float = 30.0) -> int:
        """Send the signal to the node only; return its exit code."""
        self.worker_pid()
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)

    SHUTDOWN_ACTIVE = Transition.TRANSITION_ACTIVE_SHUTDOWN

    # -- lifecycle -------------------------------------------------------------------------------------------------

    def transition(self, number: int) -> bool:
        """Whether the transition succeeded."""
        success = self.call(ChangeState, transition=Transition(id=number)).success
        self.worker_pid()
        return success

    def configure(self) -> bool:
        return self.transition(Transition.TRANSITION_CONFIGURE)

    def deactivate(self) -> bool:
        return self.transition(Transition.TRANSITION_DEACTIVATE)

    def cleanup(self) -> bool:
        """Also waits until the client knows that the action server is gone.

        Otherwise the client could send a goal to the old server although the next one has come.
        """
        success = self.transition(Transition.TRANSITION_CLEANUP)
        if success:
            wait_until(lambda: not self.actions.server_is_ready())
        return success

    def activate(self) -> bool:
        """Also waits until the client hears the node: its first status has come."""
        if not self.transition(Transition.TRANSITION_ACTIVATE):
            return False
        assert self.actions.wait_for_server(WAIT_S)
        while True:
            status, result = self.ask(make_goal('one'))
            assert status == SUCCEEDED, result
            with contextlib.suppress(AssertionError):
                wait_until(lambda: self.statuses and self.statuses[-1].phase == RequestStatus.PHASE_DONE, 0.5)
                return True

    def start(self) -> NodeProcess:
        """Configure and activate."""
        assert self.configure(), self.log
        assert self.activate(), self.log
        return self


def _ends(pid: int, timeout_s: float = 5.0) -> bool:
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not process_exists(pid), timeout_s)
        return True
    return False
