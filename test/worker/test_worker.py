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

"""The inference process: killed, hung, replaced, kept apart; the node answers by the deadline whatever it does."""
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pytest
from node_client import ABORTED, CANCELED, SUCCEEDED, WAIT_S, Result, make_goal, wait_until
from node_process import NodeProcess, process_exists
from scripted_model import LONG, ROOT, parameters

from timebill_ros.action import Generate
from timebill_ros.dispatch.channel import Channel
from timebill_ros.dispatch.worker_process import WorkerProcess, worker_environment
from timebill_ros.request import ErrorCode, Request, to_dict
from timebill_ros.resources import PACKAGE_PARENT

KILL, TRUNCATE = Generate.Goal.STRATEGY_KILL, Generate.Goal.STRATEGY_TRUNCATE


@pytest.fixture(scope='module')
def node():
    with NodeProcess() as node:
        yield node.start()


def decoding(node, **fields):
    """A long goal of which some text has come."""
    sent = node.send(make_goal(max_new_tokens=LONG, **fields))
    wait_until(lambda: sent.text)
    return sent


def assert_serves(node, *, not_pid):
    """The node answers again, from another worker."""
    status, result = node.ask(make_goal('one'))
    assert (status, result.text) == (SUCCEEDED, 'two three'), result
    assert node.worker_pid() != not_pid
    assert not process_exists(not_pid)


@pytest.mark.parametrize('strategy, keeps', [(TRUNCATE, True), (KILL, False)])
def test_a_killed_worker_is_told_at_once_and_replaced(node, strategy, keeps):
    sent = decoding(node, overrun_strategy=strategy)
    waiting = node.send(make_goal('one'))
    pid = node.worker_pid()
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    status, result = sent.result()
    assert (status, result.error_code) == (ABORTED, Result.WORKER_LOST)
    assert 'SIGKILL' in result.error_msg and sent.arrived_s - killed < 5.0
    assert bool(result.text) == keeps
    assert result.text.startswith(sent.text[:20]) or not keeps
    assert waiting.result()[1].text == 'two three'  # it waited for the new worker
    assert_serves(node, not_pid=pid)
    assert 'the inference process ended' in node.log


def test_a_hung_worker_delays_no_result_and_is_replaced(node):
    sent = decoding(node, budget_s=2.0)
    pid = node.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    status, result = sent.result()
    assert (status, result.error_code, result.finish_reason) == (SUCCEEDED, Result.NONE, Result.FINISH_DEADLINE)
    assert result.text.startswith(sent.text[:20]) and result.timing.tardiness_s == 0
    assert_serves(node, not_pid=pid)
    assert 'has not answered' in node.log


def test_a_worker_that_reads_nothing_delays_no_result(node):
    """The request is larger than the pipe, so that writing it can block."""
    pid = node.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    sent = node.send(make_goal('w1 ' * 300_000, 1.0))
    status, result = sent.result(20.0)
    assert (status, result.error_code) == (ABORTED, Result.TIMEOUT)
    assert result.timing.tardiness_s == 0
    assert_serves(node, not_pid=pid)


def test_a_cancel_that_a_hung_worker_ignores_is_answered(node):
    sent = decoding(node)
    pid = node.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    sent.cancel()
    status, result = sent.result()
    assert (status, result.error_code) == (CANCELED, Result.CANCELED)
    assert sent.arrived_s - stopped < 10.0
    assert result.text.startswith(sent.text[:20])
    assert_serves(node, not_pid=pid)


def test_a_deadline_while_the_worker_restarts(node):
    pid = node.worker_pid()
    before = node.log.count('the inference process ended')
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: node.log.count('the inference process ended') > before)
    status, result = node.ask(make_goal('one', 0.3))
    assert (status, result.error_code) == (ABORTED, Result.WORKER_LOST)
    assert 'restarting' in result.error_msg and result.timing.tardiness_s == 0
    assert_serves(node, not_pid=pid)


def test_the_environment_of_a_worker_on_the_same_interpreter(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', '/somewhere:/else')
    monkeypatch.setenv('LD_LIBRARY_PATH', '/ros/lib')
    monkeypatch.setenv('KEPT', 'x')
    env = worker_environment(sys.executable)
    assert env['PYTHONPATH'] == str(PACKAGE_PARENT) == str(ROOT)
    assert (env['LD_LIBRARY_PATH'], env['KEPT']) == ('/ros/lib', 'x')


def test_the_environment_of_a_worker_on_another_interpreter(monkeypatch, tmp_path):
    """A virtual environment's python is a link to the same file, and yet another interpreter."""
    monkeypatch.setenv('PYTHONPATH', '/somewhere:/else')
    monkeypatch.setenv('LD_LIBRARY_PATH', '/ros/lib')
    monkeypatch.setenv('_ROS_WHEELS_BOOTSTRAP_COMPLETE', '1')
    link = tmp_path / 'bin' / 'python'
    link.parent.mkdir()
    link.symlink_to(sys.executable)
    for python in (str(link), '/usr/bin/python3.99'):
        env = worker_environment(python)
        assert env['PYTHONPATH'] == str(PACKAGE_PARENT)
        assert 'LD_LIBRARY_PATH' not in env and '_ROS_WHEELS_BOOTSTRAP_COMPLETE' not in env


# -- the process without a node ------------------------------------------------------------------------------------


class Listener:
    """Takes a worker's events."""

    def __init__(self):
        self.events: list[dict] = []

    def __call__(self, event):
        self.events.append(event)

    def wait(self, kind):
        return wait_until(lambda: next((event for event in self.events if event['event'] == kind), None),
                          message=f'no {kind}, only {self.events}')


@pytest.fixture(scope='module')
def worker():
    """A configured worker and its listener."""
    listener = Listener()
    process = WorkerProcess('', listener)
    process.send({'op': 'configure', 'settings': {**_settings()}})
    listener.wait('ready')
    yield process, listener
    process.close()
    assert not process_exists(process.pid)


def _settings():
    from timebill_ros import settings
    return settings.check(parameters())


def run(worker, name, **fields):
    process, listener = worker
    now = time.monotonic()
    process.send({'op': 'run', 'request': to_dict(Request(name, now, now + WAIT_S, **fields))})
    return listener


def done(listener, name):
    return wait_until(lambda: next((event for event in listener.events
                                    if event['event'] == 'done' and event['id'] == name), None))


def test_streamed_text_is_the_beginning_of_the_outcomes(worker):
    listener = run(worker, 'stream', prompt='w1', max_new_tokens=2000)
    outcome = done(listener, 'stream')['outcome']
    text = ''.join(event['delta'] for event in listener.events if event.get('id') == 'stream' and 'delta' in event)
    assert text and outcome['text'].startswith(text)


def test_no_text_of_a_stop_string_is_streamed(worker):
    listener = run(worker, 'whole', prompt='w1', max_new_tokens=30)
    words = done(listener, 'whole')['outcome']['text'].split(' ')
    stop = ' '.join(words[10:13])
    request = Request('stop', time.monotonic(), time.monotonic() + WAIT_S, prompt='w1', max_new_tokens=30)
    request.sampling.stop = [stop]
    worker[0].send({'op': 'run', 'request': to_dict(request)})
    outcome = done(listener, 'stop')['outcome']
    text = ''.join(event['delta'] for event in listener.events if event.get('id') == 'stop' and 'delta' in event)
    assert stop not in outcome['text'] and outcome['text'].startswith(text)


def test_a_cancel_that_overtakes_its_request_counts(worker):
    """One thread reads, another runs: a cancel may be heard before its request is looked at."""
    process, listener = worker
    process.send({'op': 'cancel', 'id': 'canceled'})
    run(worker, 'canceled', prompt='w1', max_new_tokens=LONG)
    outcome = done(listener, 'canceled')['outcome']
    assert (outcome['error_code'], outcome['timing']['generated_tokens']) == (ErrorCode.CANCELED, 0)


def test_a_failed_estimate_names_its_code(worker):
    process, listener = worker
    process.send({'op': 'estimate', 'tag': 1, 'request': to_dict(Request('e', 0.0, 1e9, prompt='w1 ' * 20000))})
    event = listener.wait('estimate')
    assert (event['tag'], event['error_code']) == (1, ErrorCode.PROMPT_TOO_LONG)


def learning(cache_dir):
    return {**_settings(), 'cache_dir': str(cache_dir), 'pessimistic_length': 'adaptive', 'track_timing': True,
            'keep_state': True}


def learn(settings, n, **changed):
    """A worker that serves `n` requests and ends; its listener."""
    listener = Listener()
    process = WorkerProcess('', listener)
    process.send({'op': 'configure', 'settings': settings})
    listener.wait('ready')
    if changed:
        process.send({'op': 'set', 'settings': changed})
    for i in range(n):
        done(run((process, listener), f'{i}', prompt='w1', max_new_tokens=200), f'{i}')
    process.close()
    return listener


def test_what_requests_taught_survives_a_restart(tmp_path):
    settings = learning(tmp_path)
    first = learn(settings, 3)
    assert 'earlier requests' not in first.wait('ready')['description']
    assert {'timing_factor', 'prefill_factor', 'time_bound', 'unusual'} <= first.wait('done')['tracked'].keys()
    path, = (tmp_path / 'state').iterdir()
    state = json.loads(path.read_text())
    assert len(state['prefill']) == 3
    assert 'with what earlier requests taught' in learn(settings, 1).wait('ready')['description']
    assert len(json.loads(path.read_text())['prefill']) == 4, 'it went on from there'
    path.write_text('{')
    assert 'earlier requests' not in learn(settings, 1).wait('ready')['description']
    assert len(json.loads(path.read_text())['prefill']) == 1
    assert path.with_name(path.name + '.corrupt').read_text() == '{'


def test_a_node_that_is_to_keep_nothing_keeps_nothing(tmp_path):
    learn({**learning(tmp_path), 'keep_state': False}, 1)
    assert not (tmp_path / 'state').exists()


def test_another_promise_takes_effect_at_once_and_keeps_what_is_known_of_the_device(tmp_path):
    settings = learning(tmp_path)
    learn(settings, 2)
    learn(settings, 1, miss_rate=0.2)
    path, = (tmp_path / 'state').iterdir()
    state = json.loads(path.read_text())
    assert state['miss_rate'] == 0.2 and len(state['prefill']) == 3


def test_it_ends_with_its_pipe():
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen([sys.executable, '-m', 'timebill_ros.worker.main', '--fd', str(theirs.fileno())],
                                   pass_fds=[theirs.fileno()], cwd=ROOT)
    Channel(ours).close()
    assert process.wait(WAIT_S) == 0


def test_an_interpreter_without_torch_says_so():
    """-S: no site-packages."""
    listener = Listener()
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen([sys.executable, '-S', '-m', 'timebill_ros.worker.main', '--fd',
                                    str(theirs.fileno())], pass_fds=[theirs.fileno()], cwd=ROOT)
    channel = Channel(ours)
    threading.Thread(target=lambda: [listener(event) for event in channel.receive()], daemon=True).start()
    channel.send({'op': 'configure', 'settings': _settings()})
    assert 'No module named' in listener.wait('failed')['message']
    channel.close()
    assert process.wait(WAIT_S) == 0


def test_a_lost_worker_is_reported_with_its_reason():
    listener = Listener()
    process = WorkerProcess('', listener)
    process.kill()
    assert 'SIGKILL' in listener.wait('lost')['reason']
    process.send({'op': 'set', 'settings': {}})  # nobody hears it, and nothing happens
    process.close()


@pytest.mark.parametrize('end', ['closed', 'worker killed', 'node killed'])
def test_its_temporary_files_go_with_it_however_it_ends(end, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    process = WorkerProcess('', Listener())
    folder, = tmp_path.iterdir()
    (folder / 'unpacked').touch()
    if end == 'node killed':
        process._scratch._finalizer.detach()  # this process does nothing more
        process._scratch.cleanup = lambda: None
        process._channel.close()
    elif end == 'worker killed':
        process.kill()
    else:
        process.close()
    wait_until(lambda: not list(tmp_path.iterdir()), message='files are left')
    process.close()


def test_an_interpreter_that_does_not_exist():
    with pytest.raises(OSError):
        WorkerProcess('/nowhere/python', print)


def test_the_worker_keeps_to_its_cores_and_lets_others_go_first():
    core = max(os.sched_getaffinity(0))
    with NodeProcess(cpu_affinity=str(core), worker_nice=3) as node:
        node.start()
        pid = node.worker_pid()
        assert os.sched_getaffinity(pid) == {core}
        assert os.getpriority(os.PRIO_PROCESS, pid) == max(3, os.getpriority(os.PRIO_PROCESS, 0))
        assert os.sched_getaffinity(node.process.pid) == os.sched_getaffinity(0)
        assert node.set_parameter('worker_nice', 5).reason.startswith('worker_nice takes effect at configure')


def test_cores_that_are_not_there_fail_configure_with_a_sentence():
    with NodeProcess(cpu_affinity='4000') as node:
        assert not node.configure()
        assert "cpu_affinity '4000' cannot be had" in node.log and node.state() == 'unconfigured'
