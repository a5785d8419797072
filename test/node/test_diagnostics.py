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

"""What /diagnostics says, and that it says it once per second."""
from __future__ import annotations

import os
import signal
import types

import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from node_client import make_goal, wait_until
from node_process import NodeProcess, scripted, worker_program
from rclpy.action import ActionServer
from scripted_model import LONG, ROOT

from timebill_ros.action import Generate
from timebill_ros.dispatch.miss_rate import MissRate
from timebill_ros.dispatch.worker_facts import WorkerFacts
from timebill_ros.node.diagnostics import report
from timebill_ros.timing.drift import is_unusual

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
NODE = '/robot/timebill'
NAMES = [f'{NODE}: deadlines', f'{NODE}: execution time', f'{NODE}: worker']


def dispatcher(ready=True, factor=1.0, stage='', recent=(8, 0), **counts):
    counts = {'accepted': 10, 'promised': 8, 'missed': 0, 'late': 0, 'worker_restarts': 0, **counts}
    return types.SimpleNamespace(counts=counts, is_ready=ready, worker_pid=42, settings={'miss_rate': 0.05},
                                 held=lambda: [types.SimpleNamespace(
                                     waits=True, request=types.SimpleNamespace(deadline_s=1.0),
                                     remaining_s=lambda now: (0.0, 0.0))] * 3,
                                 recent=types.SimpleNamespace(
                                     miss_rate=lambda now, allowed: MissRate(*recent, allowed)),
                                 facts=WorkerFacts('Abacus', stage, tracked={
                                     'timing_factor': factor, 'time_bound': 1.2, 'unusual': is_unusual(factor)}))


def values(status) -> dict:
    return {item.key: item.value for item in status.values}


def test_while_unconfigured_all_is_well():
    statuses = report(NODE, 'unconfigured', None, '', 0)
    assert [status.name for status in statuses] == NAMES
    assert [status.level for status in statuses] == [OK] * 3
    assert all('unconfigured' in status.message for status in statuses)


@pytest.mark.parametrize(('recent', 'level', 'words'), [
    ((0, 0), OK, 'no promised goal ended lately'), ((20, 1), OK, '1 of the last 20'),
    ((20, 5), WARN, '5 of the last 20'),
    ((20, 7), ERROR, '7 of the last 20 promised goals missed their deadline (35.0%; 5.0% may)')])
def test_more_misses_than_allowed_are_a_warning_or_an_error(recent, level, words):
    status = report(NODE, 'active', dispatcher(recent=recent), 'd', 0.0)[0]
    assert status.level == level and words in status.message
    assert values(status)['recent_missed'] == str(recent[1]) and values(status)['allowed_miss_rate'] == '0.05'


def test_counts_and_rate():
    deadlines, times, worker = report(NODE, 'active', dispatcher(missed=2), 'a fast machine', 0.0)
    assert values(deadlines)['miss_rate'] == '0.2500' and values(deadlines)['waiting'] == '3'
    assert values(deadlines)['recent_miss_rate'] == '0.0000'
    assert times.message == 'a fast machine' and values(times) == {'timing_factor': '1.000', 'time_bound': '1.200'}
    assert values(worker) == {'pid': '42', 'restarts': '0'}


@pytest.mark.parametrize(('factor', 'level'), [(0.79, WARN), (0.8, OK), (1.0, OK), (1.5, OK), (1.51, WARN)])
def test_a_device_unlike_its_profile_is_a_warning(factor, level):
    status = report(NODE, 'active', dispatcher(factor=factor), 'a fast machine', 0)[1]
    assert status.level == level and values(status)['timing_factor'] == f'{factor:.3f}'
    assert (f'{factor:.2f} times as long as profiled' in status.message) == (level == WARN)


def test_a_worker_that_is_gone_is_an_error_and_one_that_starts_is_not():
    assert report(NODE, 'active', dispatcher(ready=False), 'd', 0)[2].level == ERROR
    assert report(NODE, 'inactive', dispatcher(ready=False), 'd', 0)[2].level == ERROR
    starting = report(NODE, 'unconfigured', dispatcher(ready=False), '', 0)[2]
    assert starting.level == OK and 'starting' in starting.message
    for state in ('unconfigured', 'active'):
        status = report(NODE, state, dispatcher(ready=False, stage='part 3 of 6'), '', 0)[2]
        assert status.message.endswith('ed: part 3 of 6' if state == 'active' else 'is starting: part 3 of 6')


def test_two_nodes_are_two_rows_each_with_its_device():
    ours, theirs = [report(name, 'active', dispatcher(), 'd', 0) for name in ('/a/timebill', '/b/timebill')]
    assert not {status.name for status in ours} & {status.name for status in theirs}
    assert {status.hardware_id for status in ours + theirs} == {'Abacus'}
    assert {status.hardware_id for status in report(NODE, 'unconfigured', None, '', 0)} == {''}


@pytest.mark.parametrize(('missed', 'level'), [(0, WARN), (7, ERROR)])
def test_a_warning_comes_first_and_raises_the_level(missed, level):
    status = report(NODE, 'active', dispatcher(recent=(20, missed)), 'd', 0.0, '/clock stands still')[0]
    assert status.level == level and status.message.startswith(f'/clock stands still; {missed} of the last 20')


def test_each_status_has_one_analyzer():
    """As diagnostic_aggregator's GenericAnalyzer does: `contains` holds a part of the name."""
    file = yaml.safe_load((ROOT / 'config' / 'diagnostics.yaml').read_text())
    group = file['analyzers']['ros__parameters']['timebill']
    assert group['type'] == 'diagnostic_aggregator/AnalyzerGroup'
    for node in ('/timebill', '/robot/timebill'):
        for status in report(node, 'active', dispatcher(), 'd', 0.0):
            found = [analyzer['path'] for analyzer in group['analyzers'].values()
                     if any(part in status.name for part in analyzer['contains'])]
            assert len(found) == 1 and status.name.endswith(f': {found[0].lower()}'), status.name


def test_a_second_server_of_the_action_is_told_of_at_once(tmp_path):
    with NodeProcess(worker_python=worker_program('stub_worker.py', tmp_path)) as node:
        assert node.configure()
        wait_until(lambda: node.diagnostics and node.diagnostics[-1][1].status[1].message == 'a stub')
        assert node.diagnostics[-1][1].status[0].level == OK and 'more of the name' not in node.log
        second = ActionServer(node._node, Generate, f'{node.server}/generate', lambda handle: Generate.Result())
        wait_until(lambda: f'1 more of the name serve {node.server}/generate' in node.log)
        wait_until(lambda: node.diagnostics[-1][1].status[0].level == WARN)
        assert 'more of the name' in node.diagnostics[-1][1].status[0].message
        second.destroy()
        wait_until(lambda: node.diagnostics[-1][1].status[0].level == OK)
        assert node.log.count('more of the name') == 1, 'one line in the log for each that appears'


@pytest.mark.slow
def test_over_dds(tmp_path):
    with scripted(tmp_path, start_s=2.5) as node:  # long enough to be seen at 1 Hz
        wait_until(lambda: node.diagnostics)
        assert [status.message for status in node.diagnostics[0][1].status] == ['the node is unconfigured'] * 3
        node.start()
        sent = node.send(make_goal(max_new_tokens=LONG))
        wait_until(lambda: sent.text)
        before = len(node.diagnostics)
        wait_until(lambda: len(node.diagnostics) >= before + 4)  # a running goal does not hold them up
        arrivals = [arrived for arrived, _ in node.diagnostics[before:before + 4]]
        assert 2.0 < arrivals[-1] - arrivals[0] < 6.0
        statuses = node.diagnostics[-1][1].status
        assert [status.name for status in statuses] == [name.replace(NODE, node.server) for name in NAMES]
        assert len({status.hardware_id for status in statuses} - {''}) == 1
        assert [status.level for status in statuses] == [OK] * 3
        assert values(statuses[2])['pid'] == str(node.worker_pid())
        assert int(values(statuses[0])['accepted']) >= 2
        os.kill(node.worker_pid(), signal.SIGKILL)
        wait_until(lambda: node.diagnostics[-1][1].status[2].level == ERROR)
        wait_until(lambda: node.diagnostics[-1][1].status[2].level == OK)
        assert values(node.diagnostics[-1][1].status[2])['restarts'] == '1'
