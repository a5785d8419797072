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

"""The deadline holds without the model, over DDS, on the real worker with faults built in.

Whatever goes wrong in the model, each goal ends by its deadline with the right code, and the node serves again.
"""
from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import faulty_worker
import pytest
from node_client import ABORTED, SUCCEEDED, Result, make_goal, wait_until
from node_process import NodeProcess, process_exists, worker_program
from scripted_model import LONG

from timebill_ros.action import Generate
from timebill_ros.bench.process_state import n_zombies
from timebill_ros.msg import RequestStatus

KILL, TRUNCATE, SKIP_NEXT = (Generate.Goal.STRATEGY_KILL, Generate.Goal.STRATEGY_TRUNCATE,
                             Generate.Goal.STRATEGY_SKIP_NEXT)


@pytest.fixture(scope='module')
def node(tmp_path_factory):
    with NodeProcess(worker_python=worker_program('faulty_worker.py', tmp_path_factory.mktemp('faulty')),
                     max_overrun_s=1.0, delivery_margin_s=0.15) as node:  # for a machine that stops for a while
        yield node.start()


@pytest.fixture(autouse=True)
def serves_again(node):
    """Whatever a test did, afterwards the node answers, reports no degradation, and has left no zombie."""
    yield
    wait_until(lambda: node.ask(make_goal('one'))[0] == SUCCEEDED)
    sent = node.send(make_goal('one'))
    assert sent.result()[1].text == 'two three'
    node.wait_for_phase(sent, RequestStatus.PHASE_DONE)
    assert not [message for message in node.statuses if message.request_id == sent.id][-1].degraded
    wait_until(lambda: node.worker_pid() is not None)
    assert n_zombies(node.process.pid) == 0


def ask(node, fault, budget_s=20.0, **fields):
    return node.send(make_goal(f'w1 {fault}', budget_s, max_new_tokens=LONG, **fields))


def assert_degraded_and_back(node, before: int, lost_pid: int):
    """Assert that the status topic told of the loss and of the return, and that the lost worker is gone."""
    def health():
        return [message.degraded for message in node.statuses[before:] if not message.request_id]
    wait_until(lambda: health()[:1] == [True], message='the status topic did not tell of the loss')
    wait_until(lambda: health()[-1] is False, message='the status topic did not tell of the return')
    wait_until(lambda: node.worker_pid() not in (None, lost_pid))
    assert not process_exists(lost_pid)


@pytest.mark.parametrize('strategy, status, code, keeps', [
    (TRUNCATE, SUCCEEDED, Result.NONE, True),
    pytest.param(KILL, ABORTED, Result.DEADLINE_MISSED, False, marks=pytest.mark.slow)])
def test_a_hang_in_decode(node, strategy, status, code, keeps):
    before, pid = len(node.statuses), node.worker_pid()
    sent = ask(node, faulty_worker.HANG_IN_DECODE, 2.0, overrun_strategy=strategy)
    ended, result = sent.result()
    assert (ended, result.error_code, result.finish_reason) == (status, code, Result.FINISH_DEADLINE)
    assert bool(result.text) == keeps and result.timing.tardiness_s == 0
    assert_degraded_and_back(node, before, pid)


@pytest.mark.slow
def test_a_hang_in_prefill(node):
    before, pid = len(node.statuses), node.worker_pid()
    ended, result = ask(node, faulty_worker.HANG_IN_PREFILL, 1.0).result()
    assert (ended, result.error_code, result.text) == (ABORTED, Result.DEADLINE_MISSED, '')
    assert result.timing.tardiness_s == 0 and 'nothing to keep' in result.error_msg
    assert_degraded_and_back(node, before, pid)


@pytest.mark.parametrize('fault, keeps', [
    pytest.param(faulty_worker.HANG_IN_PREFILL, False, marks=pytest.mark.slow), (faulty_worker.HANG_IN_DECODE, True)])
def test_a_hang_is_found_long_before_the_deadline(node, fault, keeps):
    """Only the thread that computes hangs: the streamer's thread lives on. The goal behind is served in time."""
    before, pid = len(node.statuses), node.worker_pid()
    sent = ask(node, fault, 300.0)
    waiting = node.send(make_goal('one', 290.0))
    ended, result = sent.result(150.0)
    assert (ended, result.error_code, bool(result.text)) == (ABORTED, Result.WORKER_LOST, keeps)
    assert 'no sign of life' in result.error_msg
    assert waiting.result(100.0)[1].text == 'two three'
    assert_degraded_and_back(node, before, pid)


@pytest.mark.slow
def test_a_worker_that_is_stopped_while_idle_is_replaced(node):
    before, pid = len(node.statuses), node.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    assert_degraded_and_back(node, before, pid)


def test_an_error_that_stays_replaces_the_worker(node):
    before, pid = len(node.statuses), node.worker_pid()
    ended, result = ask(node, faulty_worker.STICKY).result()
    assert (ended, result.error_code) == (ABORTED, Result.UNKNOWN) and 'illegal memory access' in result.error_msg
    assert_degraded_and_back(node, before, pid)


@pytest.mark.slow
def test_a_hang_under_skip_next_ends_with_its_longest_overrun(node):
    sent = ask(node, faulty_worker.HANG_IN_DECODE, 1.0, overrun_strategy=SKIP_NEXT)
    ended, result = sent.result()
    assert (ended, result.error_code, result.finish_reason) == (SUCCEEDED, Result.NONE, Result.FINISH_DEADLINE)
    assert result.text and 0 < result.timing.tardiness_s <= 1.0


@pytest.mark.parametrize('strategy, keeps', [
    (TRUNCATE, True), pytest.param(KILL, False, marks=pytest.mark.slow)])
def test_a_crash(node, strategy, keeps):
    before, pid = len(node.statuses), node.worker_pid()
    sent = ask(node, faulty_worker.CRASH, overrun_strategy=strategy)
    ended, result = sent.result()
    assert (ended, result.error_code) == (ABORTED, Result.WORKER_LOST)
    assert 'SIGSEGV' in result.error_msg and bool(result.text) == keeps
    assert result.timing.response_time_s < 20.0
    assert_degraded_and_back(node, before, pid)


def test_a_worker_killed_in_prefill_and_one_killed_while_idle(node):
    sent = ask(node, faulty_worker.HANG_IN_PREFILL)
    node.wait_for_phase(sent, RequestStatus.PHASE_PREFILL)
    os.kill(pid := node.worker_pid(), signal.SIGKILL)
    ended, result = sent.result()
    assert (ended, result.error_code, result.text) == (ABORTED, Result.WORKER_LOST, '')
    wait_until(lambda: node.ask(make_goal('one'))[0] == SUCCEEDED)
    assert node.worker_pid() != pid
    before = len(node.statuses)
    os.kill(pid := node.worker_pid(), signal.SIGKILL)
    assert_degraded_and_back(node, before, pid)


@pytest.mark.parametrize('fault', [faulty_worker.OOM_IN_PREFILL, faulty_worker.OOM_IN_DECODE])
def test_out_of_memory_ends_the_goal_and_the_worker_goes_on(node, fault):
    pid = node.worker_pid()
    ended, result = ask(node, fault).result()
    assert (ended, result.error_code, result.text) == (ABORTED, Result.OUT_OF_MEMORY, '')
    assert 'allocate' in result.error_msg
    assert node.ask(make_goal('one'))[0] == SUCCEEDED and node.worker_pid() == pid


def test_nan_in_the_logits_ends_the_goal_and_the_worker_goes_on(node):
    pid = node.worker_pid()
    ended, result = ask(node, faulty_worker.NAN).result()
    assert (ended, result.error_code, result.text) == (ABORTED, Result.UNKNOWN, '')
    assert 'NaN' in result.error_msg
    assert node.ask(make_goal('one'))[0] == SUCCEEDED and node.worker_pid() == pid


@pytest.mark.parametrize('strategy, code', [
    (TRUNCATE, Result.NONE), (KILL, Result.DEADLINE_MISSED), (SKIP_NEXT, Result.NONE)])
def test_a_model_that_never_ends(node, strategy, code):
    pid = node.worker_pid()
    _, result = node.ask(make_goal(budget_s=1.0, max_new_tokens=LONG, overrun_strategy=strategy))
    ended = [(code, Result.FINISH_DEADLINE, strategy != KILL)]
    if strategy == KILL:  # where the planner saw in time that it would be lost, it has capped it
        ended.append((Result.NONE, Result.FINISH_CAPPED, True))
    assert (result.error_code, result.finish_reason, bool(result.text)) in ended
    assert 0 <= result.timing.tardiness_s <= (1.0 if strategy == SKIP_NEXT else 0.0)
    assert node.worker_pid() == pid


def test_goals_released_while_the_worker_is_away_end_by_their_deadlines(node):
    before = len(node.statuses)
    os.kill(node.worker_pid(), signal.SIGKILL)
    wait_until(lambda: any(message.degraded for message in node.statuses[before:]))
    sent = [node.send(make_goal('one', budget_s)) for budget_s in (0.2, 0.5, 60.0)]
    for goal in sent[:2]:
        ended, result = goal.result()
        assert (ended, result.error_code) == (ABORTED, Result.WORKER_LOST)
        assert 'restarting' in result.error_msg and result.timing.tardiness_s == 0
    assert sent[2].result()[1].text == 'two three'


def test_diagnostics_tell_of_a_lost_worker(node):
    since = time.monotonic()
    os.kill(node.worker_pid(), signal.SIGKILL)

    def levels():
        return [(status.level, status.message) for received_s, message in list(node.diagnostics) if received_s > since
                for status in message.status if status.name == f'{node.server}: worker']
    wait_until(lambda: any(level == b'\x02' and 'restarted' in message for level, message in levels()))
    wait_until(lambda: levels()[-1][0] == b'\x00')


@pytest.mark.slow
def test_no_shared_memory_or_open_file_is_left_by_lost_workers(node):
    def n_files():
        return len(list(Path(f'/proc/{node.process.pid}/fd').iterdir()))

    node.ask(make_goal('one'))
    before = n_files()
    for _ in range(2):
        os.kill(pid := node.worker_pid(), signal.SIGKILL)
        wait_until(lambda: not process_exists(pid))
        wait_until(lambda: node.ask(make_goal('one', 5.0))[0] == SUCCEEDED)
        # torch and multiprocessing put the process id into the names of shared memory.
        assert not [path.name for path in Path('/dev/shm').iterdir() if f'_{pid}_' in path.name]
    assert abs(n_files() - before) <= 2
