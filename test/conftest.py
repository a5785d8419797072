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

"""Keeps a test run apart from the ROS graph, the caches and the logs of the machine, and leaves no process behind.

Environment and signals are set when this file is imported, before any test imports rclpy. Processes that tests start
inherit them.
"""
import atexit
import contextlib
import logging
import os
import shutil
import signal
import tempfile
import warnings
from pathlib import Path

import pytest

_home = tempfile.mkdtemp(prefix='timebill_test_')
atexit.register(shutil.rmtree, _home, ignore_errors=True)

os.environ['HOME'] = _home
os.environ['XDG_CACHE_HOME'] = os.path.join(_home, '.cache')
os.environ['ROS_LOG_DIR'] = os.path.join(_home, 'ros_log')
os.environ['HF_HUB_OFFLINE'] = '1'

# One domain per run, so that two runs on a machine do not hear each other. At most 101, because the ports of higher
# domains overlap with those that the kernel hands out.
os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 101)
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
if os.environ.get('ROS_DISTRO') == 'humble':  # it knows only this older name, which newer distributions warn about
    os.environ['ROS_LOCALHOST_ONLY'] = '1'

# A run under nohup, or in the background of a script, ignores signals, and every process that it starts would ignore
# them too: a program would not end that a test ends with Ctrl-C. A signal that has a handler is back to its default in
# a new process. So here a handler ignores the signal.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda number, frame: None)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
# A run that is told to end, for instance by `timeout`, ends as at Ctrl-C: fixtures end what they started.
signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope='session', autouse=True)
def _nothing_is_left():
    """Kill what the tests of this process have started and not ended, with its process group where it has its own."""
    yield
    for pid in _children():
        command = Path(f'/proc/{pid}/cmdline').read_bytes().replace(b'\0', b' ').decode(errors='replace').strip()
        if 'resource_tracker' in command:  # a part of Python that ends with this process
            continue
        if Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z':
            continue
        warnings.warn(f'a test has left a process behind, which is killed: {command or pid}', stacklevel=1)
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)


def _children() -> list[int]:
    found = []
    for task in Path('/proc/self/task').iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, (task / 'children').read_text().split())
    return found


@pytest.fixture(autouse=True)
def _graph_as_before():
    """Put the ROS graph's variables back after each test.

    A command that a test runs in this process keeps itself to a domain of its own; a client of a later test would
    never find a node that was there before.
    """
    names = ('ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'ROS_LOCALHOST_ONLY')
    before = {name: os.environ.get(name) for name in names}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope='module', autouse=True)
def _logging_as_before():
    """Put this package's logging back after each file: a node that is made in this process bridges it to ROS."""
    package = logging.getLogger('timebill_ros')
    before = list(package.handlers), package.level, package.propagate
    yield
    package.handlers[:], package.propagate = before[0], before[2]
    package.setLevel(before[1])


@pytest.fixture(scope='session')
def trained():
    """The directory of a tiny site-log target and the losses of its training, see tiny_training.py."""
    import tiny_training  # here, so that tests without this fixture do not import torch
    return tiny_training.trained()


@pytest.fixture(scope='session')
def tokenizer():
    """The embedded model's tokenizer: one token per word of the site-log language."""
    from timebill_ros.training.word_tokenizer import build_tokenizer
    return build_tokenizer(512)


@pytest.fixture
def answering_here(monkeypatch):
    """Answer prompts in this process; return the items of every call. test_parallel.py starts others."""
    from timebill_ros.training import answering  # it imports torch
    calls = []

    def spread(work, items, n_processes, *arguments):
        calls.append(list(items))
        return work(items, *arguments)

    monkeypatch.setattr(answering, 'spread', spread)
    monkeypatch.setattr(answering.logging, 'disable', lambda: None)
    return calls
