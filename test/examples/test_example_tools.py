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

"""The example whose model calls tools: each call is made, what it gave goes back, and the text is the answer."""
import json
from types import SimpleNamespace

import pytest

from timebill_ros.asking.goals import make_goal
from timebill_ros.msg import ToolCall


@pytest.fixture
def example(load):
    return load('tools')


class Client:
    """Answers with one of `turns` after the other: a text, or the calls of tools."""

    def __init__(self, *turns):
        self.turns, self.goals = list(turns), []

    def ask(self, messages, budget_s, **fields):
        self.goals.append(make_goal(messages, budget_s, **fields))
        turn = self.turns.pop(0)
        calls = [ToolCall(id=f'id{len(self.goals)}', name=name, arguments=json.dumps(arguments))
                 for name, arguments in turn] if isinstance(turn, list) else []
        result = SimpleNamespace(error_code=7001 if turn is None else 0, error_msg='too late', tool_calls=calls,
                                 text='' if calls else turn)
        return SimpleNamespace(answer=lambda: SimpleNamespace(result=result))


def test_calls_are_made_and_answered(example):
    client = Client([('drive_to', {'place': 'kitchen'})], [('look', {})], 'It is there.')
    assert example.conversation(client, example.Robot(), 'Is it there?', 2.0) == 'It is there.'
    *_, driven, called, seen = client.goals[2].messages
    assert (driven.role, driven.content, driven.tool_call_id) == ('tool', 'The robot is in the kitchen.', 'id1')
    assert called.tool_calls[0].name == 'look' and (seen.content, seen.tool_call_id) == ('A blue mug, a plate.', 'id2')
    assert json.loads(client.goals[0].tools) == example.TOOLS


def test_it_ends_without_an_answer_too(example):
    with pytest.raises(example.NoAnswer, match='too late'):
        example.conversation(Client(None), example.Robot(), 'x', 2.0)
    endless = Client(*[[('look', {})]] * 9)
    with pytest.raises(example.NoAnswer, match='still calls tools after 6 rounds'):
        example.conversation(endless, example.Robot(), 'x', 2.0)


def test_every_tool_is_a_method(example):
    assert all(hasattr(example.Robot, tool['function']['name']) for tool in example.TOOLS)
