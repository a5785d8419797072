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

"""Budgets, deadlines and overrun strategies over real DDS: what a client gets back, and when."""
from __future__ import annotations

import os
import signal
import time

import pytest
from builtin_interfaces.msg import Time
from node_client import ABORTED, SUCCEEDED, Result, hot, make_goal, wait_until
from scripted_model import LONG

from timebill_ros.action import Generate
from timebill_ros.msg import RequestStatus, Timing

KILL, SKIP_NEXT, TRUNCATE = (Generate.Goal.STRATEGY_KILL, Generate.Goal.STRATEGY_SKIP_NEXT,
                             Generate.Goal.STRATEGY_TRUNCATE)
LONG_PROMPT = ' '.join(f'w{i % 40}' for i in range(12000))


def test_truncate_succeeds_at_the_deadline_with_text(node):
    sent = node.send(make_goal(budget_s=1.5, max_new_tokens=LONG, overrun_strategy=TRUNCATE))
    status, result = sent.result()
    assert (status, result.error_code, result.finish_reason) == (SUCCEEDED, Result.NONE, Result.FINISH_DEADLINE)
    assert result.text and 0 < result.timing.generated_tokens < LONG
    assert result.timing.tardiness_s == 0 and result.timing.response_time_s <= 1.5
    # Nothing predicts lengths, so LONG tokens are possible and half of them expected. That is no reason to refuse.
    assert result.timing.verdict == Timing.VERDICT_AT_RISK
    node.wait_for_phase(sent, RequestStatus.PHASE_DONE)
    assert [message.overrun for message in node.statuses if message.request_id == sent.id][-1]


@pytest.mark.parametrize('fields', [
    {'budget_s': 0.001}, {'prompt': '', 'budget_s': 30.0}, {'budget_s': None, 'deadline': Time(sec=1_000_000_000)}])
def test_a_goal_refused_at_release_has_its_deadline_in_the_status(node, fields):
    asked_s = time.time()
    sent = node.send(make_goal(**fields))
    node.wait_for_phase(sent, RequestStatus.PHASE_DONE)
    (status,) = [message for message in node.statuses if message.request_id == sent.id]
    due_s = status.deadline.sec + 1e-9 * status.deadline.nanosec
    wanted_s = 1e9 if 'deadline' in fields else asked_s + fields['budget_s']
    assert due_s == pytest.approx(wanted_s, abs=5.0)
    assert sent.result()[1].timing.time_budget_s == pytest.approx(max(0.0, wanted_s - asked_s), abs=5.0)


def test_kill_aborts_at_the_deadline_without_text(node):
    sent = node.send(make_goal(budget_s=1.0, max_new_tokens=LONG, overrun_strategy=KILL))
    status, result = sent.result()
    assert result.timing.tardiness_s == 0 and result.timing.response_time_s <= 1.0
    if result.finish_reason == Result.FINISH_CAPPED:  # the machine slowed down, and the cap was lowered
        assert (status, result.error_code) == (SUCCEEDED, Result.NONE) and result.text
        return
    assert (status, result.error_code, result.finish_reason) == \
        (ABORTED, Result.DEADLINE_MISSED, Result.FINISH_DEADLINE)
    assert result.text == '' and '1.000 s' in result.error_msg


@pytest.mark.parametrize('strategy', [KILL, TRUNCATE])
def test_a_prompt_whose_prefill_cannot_fit_is_infeasible_at_once(node, strategy):
    # By the profile its prefill takes 2.4 s.
    sent = node.send(make_goal(LONG_PROMPT, 1.5, overrun_strategy=strategy))
    status, result = sent.result()
    assert (status, result.error_code, result.text) == (ABORTED, Result.INFEASIBLE, '')
    assert '12000 tokens' in result.error_msg and '1.500 s' in result.error_msg
    assert result.timing.response_time_s < 1.5 and result.timing.verdict == Timing.VERDICT_INFEASIBLE


@pytest.mark.parametrize('budget_s', [1e-9, 0.001, 0.03])
def test_a_budget_below_the_delivery_margin_ends_with_a_code(node, budget_s):
    status, result = node.ask(make_goal(budget_s=budget_s))
    assert (status, result.text) == (ABORTED, '')
    assert result.error_code in (Result.INFEASIBLE, Result.DEADLINE_MISSED) and result.error_msg


def test_a_pause_of_the_node_does_not_lock_short_goals_out(node):
    """The result of one goal is carried late. Goals of 0.24 s are tried nevertheless, and then answered."""
    sent = node.send(make_goal(max_new_tokens=300))  # of 1 ms each
    wait_until(lambda: sent.text)
    os.kill(node.process.pid, signal.SIGSTOP)
    try:
        time.sleep(1.2)  # the worker is through long before
    finally:
        os.kill(node.process.pid, signal.SIGCONT)
    assert sent.result()[0] == SUCCEEDED
    codes = [node.ask(make_goal('one', 0.24))[1].error_code for _ in range(20)]
    assert codes[2:].count(Result.INFEASIBLE) < 9, 'a machine under load may refuse a few, a margin of 0.25 s all'


def ros_time(seconds: float) -> Time:
    return Time(sec=int(seconds), nanosec=int(seconds % 1 * 1e9))


def test_an_absolute_deadline_in_ros_time(node):
    sent = node.send(make_goal(budget_s=None, deadline=ros_time(time.time() + 1.5), max_new_tokens=LONG))
    status, result = sent.result()
    assert (status, result.finish_reason) == (SUCCEEDED, Result.FINISH_DEADLINE)
    assert 0.5 < result.timing.time_budget_s <= 1.5 and result.timing.tardiness_s == 0


@pytest.mark.parametrize('deadline_s, budget_s, low, high', [(30.0, 20.0, 19.9, 20.1), (20.0, 30.0, 10.0, 20.0)])
def test_with_budget_and_deadline_the_earlier_counts(node, deadline_s, budget_s, low, high):
    goal = make_goal('one', budget_s, deadline=ros_time(time.time() + deadline_s))
    assert low < node.ask(goal)[1].timing.time_budget_s <= high


def test_default_time_budget(node, changed):
    changed('default_time_budget_s', 12.5, 0.0)
    status, result = node.ask(make_goal('one', None))
    assert (status, result.timing.time_budget_s) == (SUCCEEDED, pytest.approx(12.5))


@pytest.mark.parametrize('strategy, status', [('kill', ABORTED), ('truncate', SUCCEEDED),
                                              ('skip_next', SUCCEEDED)])
def test_default_overrun_strategy(node, changed, strategy, status):
    changed('default_overrun_strategy', strategy, 'truncate')
    ended, result = node.ask(make_goal(budget_s=0.6, max_new_tokens=6000))  # more than a quick machine writes by then
    assert ended == status and (result.timing.tardiness_s > 0) == (strategy == 'skip_next'), result


def test_closing_text_and_line_end_make_a_truncated_answer_usable(node):
    goal = make_goal(budget_s=1.2, max_new_tokens=LONG, sampling=hot(), stop_at_line_end=True, closing_text='THE END')
    status, result = node.ask(goal)
    assert (status, result.finish_reason) == (SUCCEEDED, Result.FINISH_DEADLINE)
    assert result.text.endswith('\nTHE END')


def test_closing_text_is_for_truncated_answers_only(node):
    assert node.ask(make_goal('one', closing_text='THE END'))[1].text == 'two three'
