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

"""The node's end of the worker: starts the process, talks to it, knows when it is gone. No rclpy, no torch."""
from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from timebill_ros.dispatch.channel import Channel
from timebill_ros.resources import PACKAGE

log = logging.getLogger(__name__)

CLOSE_S = 1.0  # a process whose pipe was closed has so long to end before it is killed
END_S = 2.0  # for which a killed one is waited for when the node stops: one that is stuck in a driver does not end


def worker_environment(python: str, path: str) -> dict[str, str]:
    """Return the environment variables of a worker on the interpreter `python`; `path`: the one folder of PYTHONPATH.

    For another interpreter than the node's, the variables that the ROS 2 wheels set are removed too.
    """
    # With `-m`, Python looks for modules in the present folder first, unless PYTHONSAFEPATH (Python 3.11) is set.
    # One thread for numpy, whose wheels hold OpenBLAS: it learns beside decoding, at the lowest priority, which the
    # threads of a pool would not have. torch has its own count.
    env = {'OPENBLAS_NUM_THREADS': '1', **os.environ, 'PYTHONPATH': path, 'PYTHONSAFEPATH': '1'}
    if os.path.realpath(python) != os.path.realpath(sys.executable) or \
            os.path.dirname(os.path.abspath(python)) != os.path.dirname(os.path.abspath(sys.executable)):
        env.pop('LD_LIBRARY_PATH', None)
        env.pop('_ROS_WHEELS_BOOTSTRAP_COMPLETE', None)
    return env


def this_package_alone(folder: Path) -> str:
    """Make a folder below `folder` that holds a link to this package and nothing else; return it.

    The folder that holds the package itself may be the site-packages of the node's Python. Its numpy, or any other
    library, is not for a worker on an interpreter of another environment or version.
    """
    alone = folder / 'path'
    alone.mkdir()
    (alone / PACKAGE.name).symlink_to(PACKAGE)
    return str(alone)


def _log(message: dict, name: str) -> None:
    """Log what the process has logged that is called `name`."""
    level = message.get('level')
    log.log(level if isinstance(level, int) else logging.INFO, '%s: %s', name, message.get('text'))


class WorkerProcess:
    """One inference process, in a session of its own so that a terminal's Ctrl-C does not reach it.

    `on_event` gets every message but log lines, which are logged here, and at the end {'event': 'lost', 'reason': ...},
    from a thread of this object. The constructor raises OSError if the interpreter cannot be started, and RuntimeError
    if a thread cannot. The process gets a folder for temporary files (compiled steps are unpacked there), which is
    removed however the process ends. It logs at the level that this package's loggers have when it starts. `module`:
    the program, as `python -m` names it. `name`: of the process, for logs.
    """

    def __init__(self, python: str, on_event: Callable[[dict], None], *, module: str = 'timebill_ros.worker.main',
                 name: str = 'worker'):
        python, self._name = python or sys.executable, name
        self._scratch = tempfile.TemporaryDirectory(prefix=f'timebill_{name}_', ignore_cleanup_errors=True)
        environment = worker_environment(python, this_package_alone(Path(self._scratch.name)))
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [python, '-m', module, '--fd', str(theirs.fileno()), '--scratch',
                     self._scratch.name, '--log-level', str(logging.getLogger('timebill_ros').getEffectiveLevel())],
                    pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), env=environment,
                    start_new_session=True)
        except OSError:
            ours.close()
            self._scratch.cleanup()
            raise
        self._channel = Channel(ours)
        self._on_event = on_event
        self._outgoing: queue.SimpleQueue[dict | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name=f'{name}-reader', daemon=True)
        try:
            threading.Thread(target=self._write, name=f'{name}-writer', daemon=True).start()
            self._reader.start()
        except RuntimeError:  # there is no room for one more thread
            self._outgoing.put(None)
            self._channel.close()
            self._kill_after(0.0, END_S)
            self._scratch.cleanup()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: dict) -> None:
        """Queue a message; never blocks, whatever the worker does. If it has died, its 'lost' event says so."""
        self._outgoing.put(message)

    def _write(self) -> None:
        while (message := self._outgoing.get()) is not None and self._channel.send(message):
            pass

    def _read(self) -> None:
        for message in self._channel.receive():
            if message.get('event') == 'log':
                _log(message, self._name)
            else:
                self._on_event(message)
        self._channel.close()
        self._outgoing.put(None)
        # The pipe is closed: the process is ending or has ended. Reap it, so that no zombie is left.
        self._kill_after(5.0)
        self._scratch.cleanup()
        code = self._process.returncode
        reason = f'signal {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'
        self._on_event({'event': 'lost', 'reason': reason})

    def _kill_after(self, seconds: float, end_s: float | None = None) -> None:
        """Wait until the process has ended, which is killed after `seconds`, and then for `end_s` at most."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(end_s)

    def kill(self) -> None:
        """End the process and its children at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process by closing its pipe, by force after CLOSE_S; return when it is gone, or does not end."""
        self._channel.close()
        self._kill_after(CLOSE_S, END_S)
        if threading.current_thread() is not self._reader:
            self._reader.join(END_S)
