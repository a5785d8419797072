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

"""A node and its worker: killed, hung, replaced, kept apart; goals end by their deadlines whatever the worker does."""
from __future__ import annotations

import os
import signal
import time

import pytest
from node_client import ABORTED, CANCELED, SUCCEEDED, Result, make_goal, wait_until
from node_process import NodeProcess, process_exists
from scripted_model import LONG

from timebill_ros.action import Generate

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


@pytest.mark.parametrize('strategy, keeps', [
    (TRUNCATE, True), pytest.param(KILL, False, marks=pytest.mark.slow)])
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


@pytest.mark.slow
def test_a_hung_worker_delays_no_result_and_is_replaced(node):
    sent = decoding(node, budget_s=2.0)
    pid = node.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    status, result = sent.result()
    assert (status, result.error_code, result.finish_reason) == (SUCCEEDED, Result.NONE, Result.FINISH_DEADLINE)
    assert result.text.startswith(sent.text[:20]) and result.timing.tardiness_s == 0
    assert_serves(node, not_pid=pid)
    assert 'has not answered' in node.log


@pytest.mark.slow
def test_a_worker_that_reads_nothing_delays_no_result(node):
    """The request is larger than the pipe, so that writing it can block."""
    pid = node.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    sent = node.send(make_goal('w1 ' * 300_000, 1.0))
    status, result = sent.result(20.0)
    assert (status, result.error_code) == (ABORTED, Result.DEADLINE_MISSED)
    assert result.timing.tardiness_s == 0
    assert_serves(node, not_pid=pid)


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_deadline_while_the_worker_restarts(node):
    pid = node.worker_pid()
    before = node.log.count('the inference process ended')
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: node.log.count('the inference process ended') > before)
    status, result = node.ask(make_goal('one', 0.3))
    assert (status, result.error_code) == (ABORTED, Result.WORKER_LOST)
    assert 'restarting' in result.error_msg and result.timing.tardiness_s == 0
    assert_serves(node, not_pid=pid)


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
