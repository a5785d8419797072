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
from timebill_ros.asking.goals import chat, check_text, duration, make_goal
from timebill_ros.msg import ChatMessage, SamplingConfig


def goal(**fields):
    return Generate.Goal(**{'prompt': 'one', **fields})


NUL = [
    (goal(prompt='one\0two'), 'prompt holds a NUL at character 3'),
    (goal(messages=chat(dict(role='user', content='fine'), dict(role='user', content='\0'))),
     r'messages\[1\]\.content'),
    (goal(messages=chat(dict(role='us\0er', content='fine'))), r'messages\[0\]\.role'),
    (goal(closing_text=']\0'), 'closing_text'),
    (goal(sampling=SamplingConfig(stop=['x', 'y\0z'])), r'sampling\.stop\[1\]'),
]


@pytest.mark.parametrize(('bad', 'named'), NUL)
def test_a_text_with_a_nul_is_refused(bad, named):
    """ROS messages carry a text up to its first NUL, and the node would answer half a question."""
    with pytest.raises(ValueError, match=named):
        check_text(bad)


def test_other_text_is_sent():
    check_text(goal(prompt='one\n\t\x01 \u597d', messages=chat(dict(role='user', content=''))))


TURN = {'role': 'user', 'content': 'bring a mug'}


@pytest.mark.parametrize('messages', ['bring a mug', [TURN], (TURN,), chat(TURN), iter([TURN])],
                         ids=['text', 'list', 'tuple', 'messages', 'iterator'])
def test_a_question_becomes_messages(messages):
    made = make_goal(messages, 2.5, max_new_tokens=9)
    assert made.messages == [ChatMessage(role='user', content='bring a mug')]
    assert (made.time_budget, made.max_new_tokens, made.prompt) == (duration(2.5), 9, '')


def test_without_a_budget_the_node_chooses():
    assert make_goal('x').time_budget == duration(0.0)


@pytest.mark.parametrize('budget_s', [0.0, -1.0, math.nan, math.inf, 2.0 ** 31])
def test_a_budget_that_is_none_is_refused(budget_s):
    with pytest.raises(ValueError, match='is no time budget: give seconds above 0'):
        make_goal('x', budget_s)


@pytest.mark.parametrize('turn', [{'role': 'user'}, {'content': 'x'}, 'x', None, 3])
def test_a_turn_without_role_or_content_is_refused(turn):
    with pytest.raises(ValueError, match=r'messages\[1\] is no turn of a conversation'):
        make_goal([TURN, turn], 1.0)


def test_a_field_that_no_goal_has_is_refused():
    with pytest.raises(ValueError, match='a goal has no field max_tokens; its fields are prompt, messages'):
        make_goal('x', 1.0, max_tokens=9)


@pytest.mark.parametrize(('seconds', 'sec', 'nanosec'), [(2.5, 2, 500_000_000), (-0.25, -1, 750_000_000)])
def test_a_duration_has_no_negative_nanoseconds(seconds, sec, nanosec):
    made = duration(seconds)
    assert (made.sec, made.nanosec) == (sec, nanosec)
