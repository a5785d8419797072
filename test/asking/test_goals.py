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

"""Goals are made of plain Python, and what no goal can carry is told before it is sent."""
import math

import pytest

from timebill_ros.action import Generate
from timebill_ros.asking.conversation import chat
from timebill_ros.asking.goals import check_budget, check_goal, duration, make_goal
from timebill_ros.msg import ChatMessage, SamplingConfig


def goal(**fields):
    return Generate.Goal(**{'prompt': 'one', **fields})


@pytest.mark.parametrize(('bad', 'told'), [
    (goal(max_new_tokens=-1), 'max_new_tokens must be a whole number from 0 to 4294967295, got -1'),
    (goal(messages=chat(dict(role='user', content='fine'), dict(role='user', content='\0'))),
     r'messages\[1\]\.content holds a NUL'),
    (goal(sampling=SamplingConfig(stop=['x', 'y\0z'])), r'sampling\.stop\[1\] holds a NUL'),
    (goal(time_budget=2.0), 'time_budget must be a message of the type builtin_interfaces/Duration, got 2.0'),
    ('a text', "'a text' is no Generate.Goal: make one with make_goal"),
])
def test_a_goal_that_no_message_can_carry_is_refused(bad, told):
    with pytest.raises(ValueError, match=told):
        check_goal(bad)


def test_other_goals_are_sent():
    check_goal(goal(prompt='one\n\t\x01 \u597d', messages=chat(dict(role='user', content=''))))


TURN = {'role': 'user', 'content': 'bring a mug'}


@pytest.mark.parametrize('messages', ['bring a mug', [TURN], (TURN,), chat(TURN), iter([TURN])],
                         ids=['text', 'list', 'tuple', 'messages', 'iterator'])
def test_a_question_becomes_messages(messages):
    made = make_goal(messages, 2.5, max_new_tokens=9)
    assert made.messages == [ChatMessage(role='user', content='bring a mug')]
    assert (made.time_budget, made.max_new_tokens, made.prompt) == (duration(2.5), 9, '')


def test_without_a_budget_the_node_chooses():
    assert make_goal('x').time_budget == duration(0.0)


@pytest.mark.parametrize('budget_s', [0.0, -1.0, math.nan, math.inf, 2.0 ** 31, 1e-12, -10 ** 400, '2', None, [1.0]])
def test_a_budget_that_is_none_is_refused(budget_s):
    with pytest.raises(ValueError, match='is no time budget: give seconds above 0'):
        check_budget(budget_s)


@pytest.mark.parametrize('turn', [{'role': 'user'}, {'content': 'x'}, 'x', None, 3])
def test_a_turn_without_role_or_content_is_refused(turn):
    with pytest.raises(ValueError, match=r'messages\[1\] is no turn of a conversation'):
        make_goal([TURN, turn], 1.0)


@pytest.mark.parametrize('messages', [5, None, b'bring a mug', TURN])
def test_what_is_no_question_is_refused(messages):
    with pytest.raises(ValueError, match='is no question: give text, or a list of dictionaries'):
        make_goal(messages, 1.0)


@pytest.mark.parametrize(('fields', 'told'), [
    ({'overrun_strategy': 300}, 'overrun_strategy must be a whole number from 0 to 255, got 300'),
    ({'sampling': 5}, 'sampling must be a message of the type timebill_ros/SamplingConfig, got 5'),
    ({'closing_text': '\udc00'}, 'closing_text holds '),
    ({'messages': [{'role': 'user', 'content': 5}]}, r'messages\[0\]\.content must be text, got 5'),
])
def test_a_field_that_no_message_can_carry_is_refused(fields, told):
    with pytest.raises(ValueError, match=told):
        make_goal(**{'messages': 'x', 'budget_s': 1.0, **fields})


def test_a_schema_may_be_a_dictionary():
    assert make_goal('go', response_schema={'type': 'object'}).response_schema == '{"type": "object"}'
    assert make_goal('go', response_schema='{}', choices=[]).response_schema == '{}'
    assert make_goal('go', choices=('left', 'right')).choices == ['left', 'right']


def test_a_field_that_no_goal_has_is_refused():
    with pytest.raises(ValueError, match='a goal has no field max_tokens; its fields are prompt, messages'):
        make_goal('x', 1.0, max_tokens=9)


@pytest.mark.parametrize(('seconds', 'sec', 'nanosec'), [(2.5, 2, 500_000_000), (-0.25, -1, 750_000_000)])
def test_a_duration_has_no_negative_nanoseconds(seconds, sec, nanosec):
    made = duration(seconds)
    assert (made.sec, made.nanosec) == (sec, nanosec)
