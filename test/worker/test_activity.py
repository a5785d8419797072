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

"""Whether a process gets on: what it reads and writes, what its children compute, and where its thread is."""
import queue
import subprocess
import sys
import threading
import time

import pytest

from timebill_ros.worker import activity
from timebill_ros.worker.activity import MIB, Activity


class Process:
    """What an Activity looks at: bytes and children as the test says, and a thread that does what the test says."""

    def __init__(self):
        self.bytes, self.child_s = 0, 0.0
        self.work = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.activity = None

    def _run(self):
        while (work := self.work.get()) is not None:
            work()

    def watch(self):
        self.activity = Activity(self._thread.ident)
        self.wait_until_quiet()

    def wait_until_quiet(self):
        """Wait until it has not moved for twenty looks in a row."""
        until, quiet = time.monotonic() + 60.0, 0
        while quiet < 20:
            quiet = 0 if self.activity.moved() else quiet + 1
            assert time.monotonic() < until
            time.sleep(0.002)


@pytest.fixture
def process(monkeypatch):
    process = Process()
    monkeypatch.setattr(activity, '_bytes', lambda: process.bytes)
    monkeypatch.setattr(activity, '_child_s', lambda: process.child_s)
    process.watch()
    yield process
    process.work.put(None)


def test_bytes_and_the_time_of_children_are_moves(process):
    moved = process.activity.moved
    process.bytes = MIB - 1
    assert not moved()
    process.bytes = MIB
    assert moved() and not moved()
    process.child_s = 0.4
    assert not moved()
    process.child_s = 0.6
    assert moved() and not moved()


def test_a_thread_where_it_has_not_been_before_moves_and_one_that_polls_does_not(process):
    ended = threading.Event()

    def poll():
        while not ended.wait(0.001):
            pass

    process.work.put(poll)
    until = time.monotonic() + 60.0
    while not process.activity.moved():
        assert time.monotonic() < until
        time.sleep(0.002)
    process.wait_until_quiet()  # it goes on polling, at few places
    assert not ended.is_set()
    ended.set()


def test_a_child_that_computes_is_seen_while_it_runs_and_afterwards():
    before = activity._child_s()
    child = subprocess.Popen([sys.executable, '-c', 'while True: pass'])
    try:
        until = time.monotonic() + 60.0
        while activity._child_s() - before < 0.2:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert str(child.pid) in activity._children('self')
    finally:
        child.kill()
        child.wait()
    assert activity._child_s() - before >= 0.2


def test_what_is_written_counts(tmp_path):
    before = activity._bytes()
    (tmp_path / 'file').write_bytes(b'x' * (2 * MIB))
    assert activity._bytes() - before >= (2 * MIB if before else 0)


def test_a_process_that_is_gone_took_no_time_and_has_no_children():
    assert activity._process_s('999999999') == 0.0 and activity._children('999999999') == []
