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

"""The example planner acts in time, whatever it is told or not told.

test/node/test_planner_example.py runs it against the real node.
"""
import pytest
from node_client import WAIT_S

from timebill_ros.client import TimebillClient

BUDGET_S = 2 * WAIT_S  # nobody waits for this long


@pytest.fixture
def planner(load, client):
    return load('planner').Planner(client)


def test_an_answer_that_comes_is_taken(planner):
    decision = planner.decide('say go kitchen', BUDGET_S)
    assert decision[:2] == ('go kitchen end', '')


@pytest.mark.parametrize(('question', 'told', 'is_sent'), [
    ('impossible', 'the node said beforehand that it cannot: INFEASIBLE', False),
    ('hopeless', 'the verdict is INFEASIBLE', True),
    ('fail', '32 goals wait already', True),
])
def test_it_falls_back_as_soon_as_it_is_told(planner, answering, question, told, is_sent):
    answering.asked.clear()
    decision = planner.decide(question, BUDGET_S)
    assert decision.action == 'stop' and told in decision.why_default
    assert decision.taken_s < BUDGET_S / 2
    assert answering.asked == ([question] if is_sent else [])


def test_what_it_falls_back_from_is_canceled(planner, answering):
    answering.canceled.clear()
    planner.decide('hopeless', BUDGET_S)
    assert answering.canceled.wait(WAIT_S)


@pytest.mark.parametrize('question', ['hang', 'mute'])
def test_it_falls_back_by_the_deadline_where_it_is_told_nothing(planner, question):
    decision = planner.decide(question, 0.5)
    assert decision.action == 'stop' and decision.why_default
    assert 0.1 < decision.taken_s < 0.5 + WAIT_S / 2  # on a quiet machine it is 0.45 s


def test_a_budget_too_short_to_ask_is_not_spent(planner):
    assert planner.decide('say go', 0.1)[:2] == ('stop', '0.1 s are too short to ask')


def test_it_falls_back_where_no_node_is(load, answering):
    with TimebillClient(answering.program, '/nowhere') as client:
        decision = load('planner').Planner(client).decide('say go', 1.0)
    assert decision.action == 'stop' and 'no node /nowhere was found' in decision.why_default
