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

"""The end of the node: however it ends, no client is left waiting and no process stays."""
from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from node_client import ABORTED, Result, make_goal, wait_until
from node_process import NodeProcess, process_exists, worker_program
from scripted_model import LONG
from sim_clock import SimClock

from timebill_ros.msg import RequestStatus


def to_node(node, number):
    node.process.send_signal(number)


def to_node_twice(node, number):
    node.process.send_signal(number)
    time.sleep(0.15)
    if node.process.poll() is None:
        node.process.send_signal(number)


def to_group_twice(node, number):
    """Send what a terminal sends when somebody presses Ctrl-C twice: to the whole group, and again."""
    os.killpg(node.process.pid, number)
    to_node_twice(node, number)


@pytest.mark.parametrize('number, send', [
    (signal.SIGINT, to_node), pytest.param(signal.SIGTERM, to_node_twice, marks=pytest.mark.slow),
    (signal.SIGTERM, to_group_twice), pytest.param(signal.SIGINT, to_group_twice, marks=pytest.mark.slow)])
def test_a_signal_ends_every_goal_with_a_result_within_two_seconds(number, send):
    with NodeProcess() as node:
        node.start()
        running = node.send(make_goal(max_new_tokens=LONG))
        waiting = [node.send(make_goal(max_new_tokens=LONG)) for _ in range(5)]
        node.wait_for_phase(running, RequestStatus.PHASE_DECODE)
        wait_until(lambda: running.text)
        pid = node.worker_pid()
        assert pid and process_exists(pid)
        started = time.monotonic()
        send(node, number)
        for sent in (running, *waiting):
            status, result = sent.result(10.0)
            assert (status, result.error_code) == (ABORTED, Result.INACTIVE), result
            assert 'shut down' in result.error_msg
            assert sent.arrived_s - started < 2.0
        assert running.result()[1].text.startswith(running.text[:20])
        assert node.process.wait(10.0) == 0
        wait_until(lambda: not process_exists(pid), 2.0, 'the worker was left behind')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_an_unconfigured_node(number):
    with NodeProcess() as node:
        node.state()
        assert node.stop(number) == 0


@pytest.mark.parametrize('number', [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
@pytest.mark.parametrize('state', ['unconfigured', 'inactive', 'active', 'cleaned up'])
def test_a_signal_in_simulated_time(state, number, tmp_path):
    """The clock follower's thread must have left rclpy before the interpreter ends, or C++ aborts the process."""
    with SimClock() as sim, NodeProcess(use_sim_time=True, worker_python=worker_program('stub_worker.py', tmp_path)) \
            as node:
        node.state()
        if state != 'unconfigured':
            assert node.configure(), node.log
            sim.wait_for_subscriber()
        if state == 'active':
            assert node.activate()
        if state == 'cleaned up':
            assert node.cleanup()
        assert node.stop(number) == 0, node.log
        assert 'terminate called' not in node.log


def test_a_signal_in_simulated_time_without_a_clock(tmp_path):
    with NodeProcess(use_sim_time=True, worker_python=worker_program('stub_worker.py', tmp_path)) as node:
        assert node.configure(), node.log
        assert node.stop(signal.SIGINT) == 0, node.log


@pytest.mark.parametrize('wait_s', [
    0.0, pytest.param(0.05, marks=pytest.mark.slow), 0.2, pytest.param(0.5, marks=pytest.mark.slow)])
def test_a_signal_at_any_moment_of_the_start_in_simulated_time(wait_s, tmp_path):
    """The node configures itself meanwhile; a worker that it starts after the signal must not be waited for."""
    worker = worker_program('silent_worker.py', tmp_path)
    with SimClock(), NodeProcess(autostart=True, use_sim_time=True, worker_python=worker) as node:
        wait_until(lambda: _handles(node.process.pid, signal.SIGTERM))
        time.sleep(wait_s)
        assert node.stop(signal.SIGINT) == 0, node.log
        assert 'terminate called' not in node.log


def _handles(pid: int, number: int) -> bool:
    """Whether the process has a signal handler. SIGTERM has one only once the node has set its own."""
    line = next(line for line in Path(f'/proc/{pid}/status').read_text().splitlines() if line.startswith('SigCgt'))
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)


def test_a_signal_while_configuring():
    with NodeProcess(profile='', cache_dir='/dev/null', self_profile_s=600.0) as node:
        node.state()
        threading.Thread(target=lambda: _ignore_no_answer(node.configure), daemon=True).start()
        pid = wait_until(node.worker_pid)
        time.sleep(0.5)
        assert node.stop(signal.SIGTERM) == 0
        wait_until(lambda: not process_exists(pid), 2.0, 'the worker was left behind')


def _ignore_no_answer(call):
    try:
        call()
    except AssertionError:
        pass


def test_a_signal_while_it_configures_itself():
    with NodeProcess(autostart=True) as node:
        wait_until(node.worker_pid)  # its worker is then still loading torch
        assert node.stop(signal.SIGINT) == 0
        assert 'configure is given up: the node is shutting down' in node.log
        assert '[ERROR]' not in node.log, 'nobody has to mend anything'
        assert 'terminate called' not in node.log  # what C++ prints if a thread was still in it


@pytest.mark.slow
def test_a_signal_while_the_worker_is_stopped():
    with NodeProcess() as node:
        node.start()
        sent = node.send(make_goal(max_new_tokens=LONG))
        wait_until(lambda: sent.text)
        pid = node.worker_pid()
        os.kill(pid, signal.SIGSTOP)
        started = time.monotonic()
        assert node.stop(signal.SIGINT) == 0
        assert sent.result(10.0)[1].error_code == Result.INACTIVE and sent.arrived_s - started < 2.0
        wait_until(lambda: not process_exists(pid), 2.0, 'the worker was left behind')


@pytest.mark.slow
def test_the_worker_ends_when_the_node_is_killed():
    with NodeProcess() as node:
        node.start()
        sent = node.send(make_goal(max_new_tokens=LONG))
        node.wait_for_phase(sent, RequestStatus.PHASE_DECODE)
        pid = node.worker_pid()
        assert node.stop(signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: not process_exists(pid), 5.0, 'the worker outlived its node')
