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

"""Several goals at once over real DDS: their order, skipping, and a full queue."""
from __future__ import annotations

import pytest
from node_client import ABORTED, CANCELED, SUCCEEDED, Result, make_goal, wait_until
from scripted_model import LONG

from timebill_ros.action import Generate
from timebill_ros.msg import RequestStatus

SKIP_NEXT, TRUNCATE = Generate.Goal.STRATEGY_SKIP_NEXT, Generate.Goal.STRATEGY_TRUNCATE


def test_waiting_counts_against_the_budget(node):
    first = node.send(make_goal(budget_s=6.0, max_new_tokens=LONG))
    node.wait_for_phase(first, RequestStatus.PHASE_DECODE)
    second = node.send(make_goal(budget_s=1.0, max_new_tokens=5))
    status, result = second.result()
    # When its prompt could not be read any more.
    assert (status, result.error_code) == (ABORTED, Result.INFEASIBLE), node.log[-3000:]
    assert 0.5 < result.timing.queue_s < 1.0 and result.timing.tardiness_s == 0
    assert first.arrived_s is None
    assert first.result()[0] == SUCCEEDED


@pytest.mark.slow
def test_goals_of_two_clients_and_equal_urgency_run_first_come_first_served(node):
    with node.another_client() as other:
        sent = [client.send(make_goal(max_new_tokens=1000)) for client in (node, other, node, other)]
        results = [goal.result() for goal in sent]
    assert [status for status, _ in results] == [SUCCEEDED] * 4
    for goal in sent:
        node.wait_for_phase(goal, RequestStatus.PHASE_DONE)
    started = [message.request_id for message in node.statuses if message.phase == RequestStatus.PHASE_DECODE]
    assert started[-4:] == [goal.id for goal in sent]
    waits = [result.timing.queue_s for _, result in results]
    assert waits == sorted(waits)


def test_a_late_goal_under_skip_next_is_completed_and_those_released_meanwhile_are_skipped(node):
    sent = node.send(make_goal(budget_s=0.5, max_new_tokens=1500, overrun_strategy=SKIP_NEXT))
    wait_until(lambda: any(message.overrun for message in node.statuses if message.request_id == sent.id))
    skipped = [node.send(make_goal('one', overrun_strategy=strategy)) for strategy in (SKIP_NEXT, TRUNCATE)]
    for goal in skipped:
        status, result = goal.result()
        assert (status, result.error_code, result.finish_reason) == (ABORTED, Result.SKIPPED, Result.FINISH_SKIPPED)
        assert sent.id in result.error_msg and result.text == ''
    status, result = sent.result()
    assert (status, result.error_code, result.finish_reason) == (SUCCEEDED, Result.NONE, Result.FINISH_LENGTH)
    assert result.timing.generated_tokens == 1500
    assert result.timing.tardiness_s == pytest.approx(result.timing.response_time_s - 0.5) and result.error_msg == ''
    node.wait_for_phase(sent, RequestStatus.PHASE_DONE)
    node.wait_for_phase(skipped[0], RequestStatus.PHASE_SKIPPED)
    last = [message for message in node.statuses if message.request_id == sent.id][-1]
    assert last.overrun and last.tardiness_s > 0
    assert node.ask(make_goal('one'))[0] == SUCCEEDED


def test_the_earliest_deadline_goes_first_and_a_higher_priority_before_it(node):
    running = node.send(make_goal(max_new_tokens=LONG))
    node.wait_for_phase(running, RequestStatus.PHASE_DECODE)
    sent = [node.send(make_goal('one', budget_s, priority=priority)) for budget_s, priority in (
        (50.0, 0), (40.0, 0), (60.0, 3))]
    running.cancel()
    for goal in sent:
        assert goal.result()[0] == SUCCEEDED
        node.wait_for_phase(goal, RequestStatus.PHASE_DONE)
    started = [message.request_id for message in node.statuses if message.phase == RequestStatus.PHASE_DECODE]
    assert started[-3:] == [sent[i].id for i in (2, 1, 0)]


def test_one_goal_more_than_the_queue_takes_is_told_busy(node, changed):
    changed('queue_size', 2, 32)
    running = node.send(make_goal(max_new_tokens=LONG))
    node.wait_for_phase(running, RequestStatus.PHASE_DECODE)
    waiting = [node.send(make_goal(max_new_tokens=5)) for _ in range(2)]
    status, result = node.ask(make_goal())
    assert (status, result.error_code) == (ABORTED, Result.BUSY), node.log[-3000:]
    assert 'queue_size' in result.error_msg
    running.cancel()
    assert [goal.result()[0] for goal in waiting] == [SUCCEEDED] * 2


def test_without_a_queue_one_goal_at_a_time_is_served(node, changed):
    changed('queue_size', 0, 32)
    running = node.send(make_goal(max_new_tokens=LONG))
    wait_until(lambda: running.text)  # a client is told of the acceptance before the goal has its place
    assert node.ask(make_goal())[1].error_code == Result.BUSY
    running.cancel()
    assert running.result()[0] == CANCELED
    assert node.ask(make_goal('one'))[0] == SUCCEEDED
