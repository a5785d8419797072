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

"""The node with worker:=scripted over DDS: what a planner's own tests rest on, the whole interface included."""
from __future__ import annotations

import time
from pathlib import Path

import pytest
from node_client import ABORTED, CANCELED, SUCCEEDED, WAIT_S, Result, make_goal, wait_until
from node_process import NodeProcess, process_exists

from timebill_ros.action import Generate
from timebill_ros.client import duration
from timebill_ros.codes import Verdict
from timebill_ros.msg import RequestStatus
from timebill_ros.srv import EstimateTime

SCRIPT = '''
format: 1
times: {prompt_s: 0.0, prompt_token_s: 0.0, token_s: 0.05}
answers:
  - {when: slow, text: one two three four five, token_s: 2.0}
  - {when: endless, text: on and, ends: false}
  - {when: crash, text: one two three, uses: 1, fault: {kind: crash, after_tokens: 2}}
  - {when: hang, text: one two three, fault: {kind: hang, after_tokens: 2}}
  - {when: memory, fault: {kind: out_of_memory}}
  - {when: one, text: two three}
  - text: here I am again
'''


@pytest.fixture(scope='module')
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp('script') / 's.yaml'
    path.write_text(SCRIPT)
    return path


@pytest.fixture(scope='module')
def node(script):
    with NodeProcess(worker='scripted', script=str(script)) as node:
        yield node.start()


def last_status(node, sent):
    node.wait_for_phase(sent, RequestStatus.PHASE_DONE)
    return [message for message in node.statuses if message.request_id == sent.id][-1]


def test_a_promise_its_status_and_its_answer(node):
    sent = node.send(make_goal('what is new?', 20.0))
    status, result = sent.result()
    assert (status, result.error_code, result.finish_reason) == (SUCCEEDED, Result.NONE, Result.FINISH_EOS)
    assert result.text == 'here I am again' and result.timing.generated_tokens == 5
    assert result.timing.decode_s > 0.19, 'the pace of the script'
    assert last_status(node, sent).verdict == Verdict.FITS
    assert {RequestStatus.PHASE_QUEUED, RequestStatus.PHASE_DECODE} <= set(node.phases(sent))
    wait_until(lambda: sent.text == result.text)


def test_no_torch_is_in_either_process(node):
    for pid in (node.process.pid, node.worker_pid()):
        mapped = Path(f'/proc/{pid}/maps').read_text()
        assert 'libtorch' not in mapped and 'tokenizers' not in mapped


def test_an_estimate_of_an_idle_and_of_a_busy_server(node):
    def estimate(budget_s):
        return node.call(EstimateTime, prompt='what is new?', time_budget=duration(budget_s))

    idle = estimate(20.0)
    assert (idle.error_code, idle.verdict, idle.predicted_tokens) == (0, Verdict.FITS, 5)
    assert idle.wcet_without_eviction_s == pytest.approx(0.2) and not idle.is_from_bound
    assert estimate(0.15).verdict == Verdict.INFEASIBLE
    running = node.send(make_goal('endless', 30.0, max_new_tokens=100))
    node.wait_for_phase(running, RequestStatus.PHASE_DECODE)
    busy = estimate(60.0)
    assert busy.is_from_bound and busy.waiting_s > 0
    running.cancel()
    assert running.result()[0] == CANCELED


def test_a_cancel_keeps_the_text_so_far(node):
    sent = node.send(make_goal('endless', 60.0, max_new_tokens=1000))
    wait_until(lambda: sent.text.startswith('on and'))
    sent.cancel()
    status, result = sent.result()
    assert (status, result.error_code) == (CANCELED, Result.CANCELED) and result.text.startswith('on and')


@pytest.mark.parametrize('strategy, status, code, text', [
    (Generate.Goal.STRATEGY_TRUNCATE, SUCCEEDED, Result.NONE, 'one two'),
    (Generate.Goal.STRATEGY_KILL, ABORTED, Result.DEADLINE_MISSED, '')])
def test_a_promise_that_is_missed(node, strategy, status, code, text):
    sent = node.send(make_goal('slow', 3.5, overrun_strategy=strategy))
    ended, result = sent.result()
    assert (ended, result.error_code, result.text) == (status, code, text)
    assert (result.timing.tardiness_s, result.timing.verdict) == (0, Verdict.FITS), 'it was promised'


def test_a_goal_in_the_queue_is_told_that_it_cannot_be_in_time(node):
    first = node.send(make_goal('endless', 20.0, max_new_tokens=1000))
    node.wait_for_phase(first, RequestStatus.PHASE_DECODE)
    goal = make_goal('what is new?', 1.0, overrun_strategy=Generate.Goal.STRATEGY_KILL)
    status, result = node.ask(goal)
    assert (status, result.error_code) in [(ABORTED, Result.INFEASIBLE), (ABORTED, Result.DEADLINE_MISSED)]
    first.cancel()
    first.result()


def test_a_crash_ends_the_goal_at_once_and_asked_again_the_server_answers(node):
    pid = node.worker_pid()
    status, result = node.ask(make_goal('crash', 30.0))
    assert (status, result.error_code, result.text) == (ABORTED, Result.WORKER_LOST, 'one two')
    wait_until(lambda: not process_exists(pid))
    assert node.ask(make_goal('crash', 30.0))[1].text == 'here I am again'
    assert node.worker_pid() != pid


def test_a_hang_ends_at_the_deadline_with_the_text_so_far(node):
    sent = node.send(make_goal('hang', 1.5))
    status, result = sent.result()
    assert (status, result.finish_reason, result.text) == (SUCCEEDED, Result.FINISH_DEADLINE, 'one two')
    assert result.timing.tardiness_s == 0
    assert node.ask(make_goal('one', WAIT_S))[1].text == 'two three', 'the process was replaced'


def test_a_fault_ends_with_its_code(node):
    status, result = node.ask(make_goal('memory', 20.0))
    assert (status, result.error_code) == (ABORTED, Result.OUT_OF_MEMORY) and 'fault: out_of_memory' in result.error_msg


def test_a_script_that_is_wrong_is_refused_at_configure_and_another_one_is_taken(node, tmp_path, script):
    (tmp_path / 'wrong.yaml').write_text('format: 1\nanswers:\n  - text: yes\n')
    (tmp_path / 'right.yaml').write_text('format: 1\nanswers:\n  - text: aye\n')
    assert not node.set_parameter('script', str(script)).successful, 'while it is configured'
    assert node.deactivate() and node.cleanup()
    assert node.set_parameter('script', str(tmp_path / 'wrong.yaml')).successful
    assert not node.configure()
    assert f'{tmp_path}/wrong.yaml, line 3: answers[0].text must be a text; got \'yes\': put it between' in node.log
    assert node.set_parameter('script', str(tmp_path / 'right.yaml')).successful
    started = time.monotonic()
    assert node.configure()
    assert time.monotonic() - started < 10.0  # 0.4 s on a quiet machine
    assert node.activate() and node.ask(make_goal('hello'))[1].text == 'aye'
    goal = make_goal('hello', None)
    goal.time_budget = duration(0.0)
    assert node.ask(goal)[1].error_code == Result.INVALID_GOAL
