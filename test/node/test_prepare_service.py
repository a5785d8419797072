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

"""The service that reads a prompt ahead, over real DDS: what it answers, and what a goal then finds."""
from __future__ import annotations

import threading

import pytest
from node_client import CANCELED, Result, make_goal
from scripted_model import LONG

from timebill_ros.msg import ChatMessage, RequestStatus
from timebill_ros.srv import EstimateTime, Prepare

MAP = 'w1 w2 w3 w4 ' * 100


def test_a_goal_that_begins_with_what_was_read_ahead_reads_only_the_rest(node):
    answer = node.call(Prepare, prompt=MAP)
    assert (answer.error_code, answer.error_msg, answer.prompt_tokens) == (Result.NONE, '', 400)
    assert 0 < answer.ready_tokens <= 400
    known = node.call(EstimateTime, prompt=MAP + 'w5 ' * 40, max_new_tokens=8).reused_tokens
    assert known == answer.ready_tokens
    sent = node.send(make_goal(prompt=MAP + 'w5 ' * 40, budget_s=60.0, max_new_tokens=8))
    _, result = sent.result()
    assert (result.error_code, result.timing.reused_tokens, result.timing.prompt_tokens) == (Result.NONE, known, 440)
    assert max(status.reused_tokens for status in list(node.statuses) if status.request_id == sent.id) == known


def test_messages_are_read_ahead(node):
    messages = [ChatMessage(role='user', content=MAP)]
    answer = node.call(Prepare, messages=messages)
    assert answer.error_code == Result.NONE and 400 < answer.prompt_tokens and 0 < answer.ready_tokens
    assert node.call(Prepare, messages=messages).ready_tokens == answer.ready_tokens


@pytest.mark.parametrize('fields, code, words', [
    ({}, Result.INVALID_GOAL, 'empty'), ({'prompt': 'w1 ' * 20000}, Result.PROMPT_TOO_LONG, '20000'),
    ({'messages': [ChatMessage(role='nobody', content='w1')]}, Result.INVALID_GOAL, 'nobody')])
def test_what_cannot_be_read_ahead(node, fields, code, words):
    answer = node.call(Prepare, **fields)
    assert answer.error_code == code and words in answer.error_msg and answer.ready_tokens == 0


def test_nothing_is_read_ahead_while_a_goal_runs(node):
    running = node.send(make_goal(budget_s=40.0, max_new_tokens=LONG))
    node.wait_for_phase(running, RequestStatus.PHASE_DECODE)
    answer = node.call(Prepare, prompt=MAP)
    assert answer.error_code == Result.BUSY and 'a goal runs or waits' in answer.error_msg
    running.cancel()
    assert running.result()[0] == CANCELED
    assert node.call(Prepare, prompt=MAP).error_code == Result.NONE


def test_a_goal_that_comes_is_answered_and_so_is_who_asked_to_read_ahead(node):
    answers = []
    asking = threading.Thread(target=lambda: answers.extend(
        node.call(Prepare, prompt=f'w{i} ' + MAP * 4) for i in range(5, 25)))
    asking.start()
    for _ in range(5):
        _, result = node.ask(make_goal(budget_s=60.0, max_new_tokens=8))
        assert result.error_code == Result.NONE
    asking.join(60.0)
    assert len(answers) == 20 and {answer.error_code for answer in answers} <= {Result.NONE, Result.BUSY}
