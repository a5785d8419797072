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

"""The lifecycle over its standard services: what the node serves in each state, and what configure refuses."""
from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from lifecycle_msgs.msg import Transition
from node_client import ABORTED, SUCCEEDED, WAIT_S, Result, make_goal, wait_until
from node_process import NodeProcess, process_exists, worker_program
from scripted_model import LONG, ROOT, tiny_model

from timebill_ros.bench.process_state import n_zombies, resources
from timebill_ros.msg import RequestStatus
from timebill_ros.srv import EstimateTime


@pytest.fixture(scope='module')
def node():
    with NodeProcess() as node:
        yield node


@pytest.fixture
def unconfigured(node):
    yield from _in_state(node, 'unconfigured')


@pytest.fixture
def active(node):
    yield from _in_state(node, 'active')


def _in_state(node, wanted):
    """Take the shared node to a state, whatever state the test before left it in."""
    if (state := node.state()) == 'active' != wanted:
        assert node.deactivate()
        state = 'inactive'
    if state == 'inactive' != wanted and wanted == 'unconfigured':
        assert node.cleanup()
    if wanted == 'active' and state == 'unconfigured':
        assert node.configure(), node.log
    if wanted == 'active' and state != 'active':
        assert node.activate()
    assert node.state() == wanted
    yield node


def test_before_configure_there_is_no_action_server(unconfigured):
    assert not unconfigured.actions.wait_for_server(1.0)
    assert unconfigured.worker_pid() is None


def model_without(file, tmp_path):
    directory = tmp_path / 'model'
    shutil.copytree(tiny_model(), directory)
    (directory / file).unlink()
    return {'model': str(directory)}


def changed_profile(tmp_path, **changed):
    profile = yaml.safe_load((tiny_model() / 'profile.yaml').read_text())
    for section, values in changed.items():
        part = profile
        for name in section.split('.'):
            part = part[name]
        part.update(values)
    path = tmp_path / 'profile.yaml'
    path.write_text(yaml.safe_dump(profile))
    return {'profile': str(path)}


REFUSED = {
    'model without config.json': (lambda tmp: model_without('config.json', tmp), 'lacks config.json'),
    'corrupt profile': (lambda tmp: changed_profile(tmp, **{'costs.step': {'q': -1.0}}), 'coefficient q'),
    'profile of another device': (
        lambda tmp: changed_profile(tmp, identity={'device': 'Abacus'}), "made for device 'Abacus'"),
    'no such device': (lambda tmp: {'device': 'cuda:77'}, 'cuda:77'),
    'no such interpreter': (lambda tmp: {'worker_python': '/nowhere/python'}, '/nowhere/python'),
    'an interpreter that cannot run the worker': (lambda tmp: {'worker_python': '/bin/false'}, 'exit code 1'),
    'a choice that is none': (lambda tmp: {'eviction_scorer': 'astrology'}, 'astrology'),
}


@pytest.mark.parametrize('make, words', REFUSED.values(), ids=REFUSED)
def test_configure_fails_with_a_line(unconfigured, tmp_path, make, words):
    node = unconfigured
    good = {'model': str(tiny_model()), 'profile': str(tiny_model() / 'profile.yaml'), 'device': 'auto',
            'worker_python': '', 'eviction_scorer': 'snapkv'}
    before = len(node.log)
    bad = make(tmp_path)
    results = [node.set_parameter(name, value) for name, value in bad.items()]
    if all(result.successful for result in results):
        assert not node.configure()
        assert 'configure failed' in node.log[before:] and words in node.log[before:]
    else:  # refused before configure could
        assert words in results[0].reason
    assert node.state() == 'unconfigured'
    wait_until(lambda: node.worker_pid() is None, message='the failed worker is still there')
    for name in bad:
        assert node.set_parameter(name, good[name]).successful


def test_configure_after_a_failed_one(unconfigured):
    assert unconfigured.set_parameter('model', '/nowhere/at/all').successful
    assert not unconfigured.configure()
    assert 'configure failed' in unconfigured.log and '/nowhere/at/all' in unconfigured.log
    assert unconfigured.set_parameter('model', str(tiny_model())).successful
    unconfigured.start()
    assert unconfigured.ask(make_goal('one'))[1].text == 'two three'


@pytest.mark.slow
def test_without_a_profile_one_is_measured_and_cached(unconfigured, tmp_path):
    node = unconfigured
    for name, value in (('profile', ''), ('cache_dir', str(tmp_path))):
        assert node.set_parameter(name, value).successful
    before = len(node.log)
    assert node.configure()
    assert 'profile measured just now' in node.log[before:]
    assert len(list((tmp_path / 'profiles').glob('*.yaml'))) == 1
    assert node.cleanup()
    before = len(node.log)
    assert node.configure()
    assert 'cached profile' in node.log[before:]
    assert node.cleanup()
    assert node.set_parameter('profile', str(tiny_model() / 'profile.yaml')).successful


def test_an_inactive_node_rejects_goals_and_estimates(active):
    node = active
    assert node.deactivate()
    before = node.log.count('goal rejected')
    for _ in range(3):
        assert node.try_send(make_goal('one')) is None
    assert 'goal rejected' in node.log and node.log.count('goal rejected') <= before + 1  # no line for each
    answer = node.call(EstimateTime, prompt='one')
    assert answer.error_code == Result.INACTIVE and 'inactive' in answer.error_msg


def test_deactivate_ends_each_goal_held_with_inactive(active):
    node = active
    running = node.send(make_goal(max_new_tokens=LONG))
    waiting = [node.send(make_goal(max_new_tokens=LONG)) for _ in range(12)]
    wait_until(lambda: running.text)
    started = time.monotonic()
    assert node.deactivate()
    for sent in (running, *waiting):
        status, result = sent.result(10.0)
        assert (status, result.error_code) == (ABORTED, Result.INACTIVE)
        assert 'deactivated' in result.error_msg
        assert sent.arrived_s - started < 2.0
    assert running.result()[1].text.startswith(running.text[:20])
    assert all(result.text == '' for _, result in [sent.result() for sent in waiting])
    for sent in (running, *waiting):
        node.wait_for_phase(sent, RequestStatus.PHASE_DONE)
    assert node.state() == 'inactive'
    assert node.activate()
    assert node.ask(make_goal('one'))[0] == SUCCEEDED


def test_goals_sent_while_deactivating_are_rejected_or_ended(active):
    node = active
    for _ in range(5):
        goals = [node.actions.send_goal_async(make_goal(max_new_tokens=LONG)) for _ in range(5)]
        assert node.deactivate()
        for future in goals:
            wait_until(future.done)
            handle = future.result()
            if handle.accepted:
                result = handle.get_result_async()
                wait_until(result.done, message='an accepted goal never got its result')
                assert result.result().result.error_code == Result.INACTIVE
        assert node.activate()


@pytest.mark.slow
def test_cleanup_frees_the_worker_and_configure_brings_a_new_one_again_and_again(active):
    node = active
    pids = {node.worker_pid()}
    for _ in range(2):
        assert node.deactivate() and node.cleanup()
        assert node.worker_pid() is None and not any(map(process_exists, pids))
        assert node.configure() and node.activate()
        pids.add(node.worker_pid())
        assert node.ask(make_goal('one'))[1].text == 'two three'
    assert len(pids) == 3


@pytest.mark.slow
def test_fifty_times_configured_and_cleaned_up_without_growth(tmp_path):
    """The node itself must not grow. Its worker ends each time, so a worker without a model will do."""
    with NodeProcess(worker_python=worker_program('stub_worker.py', tmp_path)) as node:
        def cycle():
            assert node.configure() and node.transition(Transition.TRANSITION_ACTIVATE)
            assert node.actions.wait_for_server(WAIT_S)
            assert node.ask(make_goal('one'))[1].text == 'two three'
            assert node.deactivate() and node.cleanup()

        for _ in range(10):
            cycle()
        memory_mb, files, threads = resources(node.process.pid)
        for _ in range(40):
            cycle()
        after = resources(node.process.pid)
        assert after[1] <= files + 2 and after[2] <= threads + 1
        assert after[0] - memory_mb < 20.0, f'grew from {memory_mb:.1f} to {after[0]:.1f} MB'
        assert n_zombies(node.process.pid) == 0


def test_goals_in_every_phase_when_the_node_is_deactivated_and_cleaned_up_at_once(active):
    node = active
    pid = node.worker_pid()
    running = node.send(make_goal(' '.join(['w1'] * 12000)))  # still in prefill
    node.wait_for_phase(running, RequestStatus.PHASE_PREFILL)
    waiting = [node.send(make_goal('one')) for _ in range(3)]
    assert node.deactivate() and node.cleanup()
    for sent in (running, *waiting):
        status, result = sent.result(10.0)
        assert (status, result.error_code) == (ABORTED, Result.INACTIVE)
    assert not process_exists(pid)


def test_transitions_out_of_turn_change_nothing(active):
    assert not active.configure()
    assert not active.cleanup()
    assert active.state() == 'active'
    assert active.ask(make_goal('one'))[0] == SUCCEEDED


def test_a_node_that_starts_by_itself_and_ends_by_the_shutdown_transition():
    with NodeProcess(autostart=True) as node:
        wait_until(lambda: node.state() == 'active')
        sent = [node.send(make_goal(max_new_tokens=LONG)) for _ in range(3)]
        assert node.transition(node.SHUTDOWN_ACTIVE)
        assert [goal.result(10.0)[1].error_code for goal in sent] == [Result.INACTIVE] * 3
        assert node.state() == 'finalized'
        assert node.worker_pid() is None


@pytest.mark.parametrize('arguments, words', [
    (['-p', 'queue_size:=many'], 'queue_size'),
    (['-p', 'self_profile_s:=0.0'], 'self_profile_s'),
    (['-p', 'model:=true'], 'model'),
    (['--params-file', '/nowhere.yaml'], '/nowhere.yaml'),
])
def test_a_bad_command_line_is_a_sentence_and_exit_code_1(arguments, words):
    ended = subprocess.run([sys.executable, '-m', 'timebill_ros.node.main', '--ros-args', *arguments], cwd=ROOT,
                           capture_output=True, text=True, timeout=WAIT_S)
    assert ended.returncode == 1
    assert words in ended.stderr and 'Traceback' not in ended.stderr


@pytest.mark.slow
def test_a_node_with_compiled_steps_answers_as_one_without(monkeypatch):
    monkeypatch.delenv('TORCHINDUCTOR_CACHE_DIR', raising=False)  # importing PyTorch sets it
    with NodeProcess(compile_step='auto', profile='', self_profile_s=1.0) as node:
        node.start()
        assert 'with compiled steps' in node.log
        status, result = node.ask(make_goal('one', 20.0))
        assert (status, result.text) == (SUCCEEDED, 'two three')
        unpacked = Path(tempfile.gettempdir()).glob('timebill_worker_*/**/*.so')
        assert list(unpacked), 'so that what PyTorch unpacks goes with the worker, see worker_process.py'
        assert list((tiny_model() / 'cache' / 'steps' / 'compiler').iterdir()), 'what takes seconds to find out stays'
