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

"""Real-time priority of the node: of all threads, or a sentence."""
import os
import threading

import pytest

from timebill_ros.node import real_time


class Scheduler:
    """Stands for the system's scheduler."""

    def __init__(self, *, permitted=True, ended=()):
        self.asked, self._permitted, self._ended = {}, permitted, ended

    def __call__(self, thread, policy, parameters):
        if not self._permitted:
            raise PermissionError(1, 'Operation not permitted')
        if thread in self._ended:
            raise ProcessLookupError(3, 'No such process')
        self.asked[thread] = (policy, parameters.sched_priority)


@pytest.fixture
def other_thread():
    stop, started = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (started.set(), stop.wait()))
    thread.start()
    started.wait()
    yield thread.native_id
    stop.set()
    thread.join()


def test_every_thread_has_it(monkeypatch, other_thread):
    scheduler = Scheduler()
    monkeypatch.setattr(os, 'sched_setscheduler', scheduler)
    assert real_time.run_at(0) == '' and scheduler.asked == {}
    assert real_time.run_at(3) == ''
    assert {threading.get_native_id(), other_thread} <= scheduler.asked.keys()
    assert set(scheduler.asked.values()) == {(os.SCHED_FIFO, 3)}


def test_a_thread_that_ends_meanwhile_is_passed_over(monkeypatch, other_thread):
    scheduler = Scheduler(ended=(other_thread,))
    monkeypatch.setattr(os, 'sched_setscheduler', scheduler)
    assert real_time.run_at(3) == '' and threading.get_native_id() in scheduler.asked


def test_where_it_is_not_permitted_a_sentence_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(os, 'sched_setscheduler', Scheduler(permitted=False))
    told = real_time.run_at(3)
    assert 'node_realtime_priority 3 is not permitted (Operation not permitted)' in told and 'CAP_SYS_NICE' in told


def test_where_the_system_has_no_such_thing_too(monkeypatch, tmp_path):
    monkeypatch.setattr(real_time, 'TASKS', tmp_path / 'none')
    assert 'node_realtime_priority 3 is not permitted' in real_time.run_at(3)
