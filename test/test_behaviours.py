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

"""The behaviour Ask: deadline in, answer out, and a FAILURE that names its code as early as it is known."""
import builtins
import importlib
import sys
import time

import pytest
from answering_node import AnsweringNode
from node_client import WAIT_S, wait_until

py_trees = pytest.importorskip('py_trees')
from py_trees.common import Access, Status  # noqa: E402

from timebill_ros.behaviours import Ask  # noqa: E402
from timebill_ros.client import TimebillClient  # noqa: E402


@pytest.fixture(scope='module')
def answering():
    with AnsweringNode() as node:
        yield node


@pytest.fixture(scope='module')
def client(answering):
    with TimebillClient(answering.program) as client:
        client.wait_until_active(WAIT_S)
        yield client


@pytest.fixture
def board():
    """The blackboard, with nothing on it."""
    py_trees.blackboard.Blackboard.clear()
    board = py_trees.blackboard.Client(name='test')
    for key in ('messages', 'budget_s', 'answer', 'error', '/robot/plan'):
        board.register_key(key, access=Access.WRITE)
    return board


def tick(behaviour, timeout_s=WAIT_S):
    """Tick until the behaviour has ended; return its status."""
    def is_over():
        behaviour.tick_once()
        return behaviour.status != Status.RUNNING

    wait_until(is_over, timeout_s)
    return behaviour.status


def question(board, messages, budget_s=WAIT_S):
    board.messages, board.budget_s = messages, budget_s


def test_an_answer_stands_on_the_blackboard(client, board):
    question(board, 'say two three')
    ask = Ask('plan', client)
    ask.tick_once()
    assert ask.status == Status.RUNNING, 'a tick does not wait'
    assert tick(ask) == Status.SUCCESS
    assert (board.answer, board.error) == ('two three end', '')
    question(board, [{'role': 'user', 'content': 'say four'}])
    assert tick(ask) == Status.SUCCESS and board.answer == 'four end', 'it may be ticked again'


@pytest.mark.parametrize(('messages', 'budget_s', 'error', 'told'), [
    ('fail', WAIT_S, 'BUSY', '32 goals wait already'),
    ('hopeless', 3600.0, 'INFEASIBLE', 'the verdict is INFEASIBLE'),
    ('cut two', WAIT_S, 'DEADLINE_MISSED', 'the deadline cut the answer'),
    ('say two', -1.0, 'INVALID_GOAL', 'budget_s -1.0 is no time budget'),
    ('say two', None, 'INVALID_GOAL', 'NoneType'),
    ([{'role': 'user'}], WAIT_S, 'INVALID_GOAL', 'is no turn of a conversation'),
])
def test_a_failure_has_the_name_of_its_code(client, board, messages, budget_s, error, told):
    question(board, messages, budget_s)
    ask = Ask('plan', client)
    began = time.monotonic()
    assert tick(ask) == Status.FAILURE and time.monotonic() - began < WAIT_S
    assert board.error == error and not board.exists('answer')
    assert ask.feedback_message.startswith(f'{error}: ') and told in ask.feedback_message


def test_an_answer_to_an_earlier_question_is_gone(client, board):
    ask = Ask('plan', client)
    for messages, ends in (('say two', Status.SUCCESS), ('fail', Status.FAILURE), ('say three', Status.SUCCESS),
                           ('hang', None), ('say four', Status.SUCCESS)):
        question(board, messages)
        ask.tick_once()
        assert ask.status == Status.RUNNING and not board.exists('answer') and board.error == ''
        if ends is None:
            ask.stop(Status.INVALID)
            assert not board.exists('answer')
            continue
        assert tick(ask) == ends
        assert board.exists('answer') == (not board.error) == (ends == Status.SUCCESS)
    question(board, 'say two', 'soon')  # cannot even be sent
    assert tick(ask) == Status.FAILURE and not board.exists('answer')


def test_an_answer_that_was_cut_may_be_kept(client, board):
    question(board, 'cut two')
    assert tick(Ask('plan', client, keep_cut=True)) == Status.SUCCESS and board.answer == 'two end'


def test_a_blackboard_without_a_question_is_told(client, board):
    ask = Ask('plan', client)
    assert tick(ask) == Status.FAILURE
    assert board.error == 'INVALID_GOAL' and 'messages' in ask.feedback_message


def test_a_goal_that_is_hopeless_is_canceled(client, board, answering):
    answering.canceled.clear()
    question(board, 'hopeless')
    assert tick(Ask('plan', client)) == Status.FAILURE
    assert answering.canceled.wait(WAIT_S)


def test_a_behaviour_that_is_interrupted_cancels_its_goal(client, board, answering):
    answering.canceled.clear()
    question(board, 'hang')
    ask = Ask('plan', client)
    wait_until(lambda: ask.tick_once() or ask.feedback_message.startswith('QUEUED'))
    ask.stop(Status.INVALID)
    assert answering.canceled.wait(WAIT_S)


def test_keys_may_have_other_names(client, board):
    question(board, 'say two')
    assert tick(Ask('plan', client, keys={'answer': '/robot/plan'})) == Status.SUCCESS
    assert board.get('/robot/plan') == 'two end'
    with pytest.raises(ValueError, match='keys names anwser; there are messages, budget_s, answer, error'):
        Ask('plan', client, keys={'anwser': 'x'})


def test_a_tree_hands_it_a_node(answering, board):
    question(board, 'say two')
    ask = Ask('plan')
    with pytest.raises(RuntimeError, match='has no client'):
        ask.tick_once()
    with pytest.raises(KeyError, match='has no client'):
        ask.setup()
    tree = py_trees.trees.BehaviourTree(ask)
    tree.setup(node=answering.program)
    ask._client.wait_until_active(WAIT_S)
    assert tick(ask) == Status.SUCCESS and board.answer == 'two end'
    tree.shutdown()
    assert ask._client is None


def test_a_node_that_is_not_there_is_a_failure_at_once(answering, board):
    question(board, 'say two', 3600.0)
    with TimebillClient(answering.program, '/nowhere') as client:
        assert tick(Ask('plan', client)) == Status.FAILURE
    assert board.error == 'SEND_GOAL_FAILURE'


def test_without_py_trees_it_is_told_what_to_install(monkeypatch):
    found = builtins.__import__

    def without(name, *rest, **options):
        if name.partition('.')[0] == 'py_trees':
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
        return found(name, *rest, **options)

    monkeypatch.delitem(sys.modules, 'timebill_ros.behaviours')
    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(ModuleNotFoundError, match='needs py_trees: install'):
        importlib.import_module('timebill_ros.behaviours')
