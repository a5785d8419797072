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

"""Pauses of the machine: what they cover of a time, and what a watchdog sees of one that is made."""
import os
import signal
import time

import pytest

from timebill_ros.bench.goal_checks import GoalRecord
from timebill_ros.bench.host_pauses import HostPauses, paused_s
from timebill_ros.bench.load_analysis import outside_pauses
from timebill_ros.codes import Strategy


@pytest.mark.parametrize(('pauses', 'covered'), [
    ([], 0.0), ([(0.0, 1.0)], 0.0), ([(3.0, 4.0)], 0.0), ([(1.2, 1.5)], 0.3), ([(0.5, 1.5), (1.5, 2.5)], 1.0),
    ([(1.1, 1.4), (1.2, 1.3)], 0.3),  # on both cores at once
    ([(1.3, 1.5), (1.1, 1.4)], 0.4)])
def test_time_that_pauses_cover(pauses, covered):
    assert paused_s(pauses, 1.0, 2.0) == pytest.approx(covered)


@pytest.mark.parametrize(('pauses', 'left'), [([], 0.03), ([(10.97, 11.02)], 0.0), ([(11.0, 11.02)], 0.01),
                                              ([(9.0, 10.9)], 0.03), ([(11.5, 11.9)], 0.03)])
def test_lateness_that_no_pause_explains(pauses, left):
    record = GoalRecord(sent_s=10.0, budget_s=1.0, strategy=Strategy.KILL, timing={'tardiness_s': 0.03})
    assert max(0.0, outside_pauses(record, pauses)) == pytest.approx(left, abs=1e-9)


def test_a_watchdog_that_is_stopped_sees_a_pause():
    with HostPauses() as host:
        watchdog = host._watchdogs[0]
        time.sleep(0.5)
        started = time.monotonic()
        os.kill(watchdog.pid, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(watchdog.pid, signal.SIGCONT)
        ended = time.monotonic()
        time.sleep(0.1)
    assert all(process.returncode == 0 for process in host._watchdogs)
    assert paused_s(host.pauses, started, ended) > 0.2
