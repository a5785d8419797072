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

"""Conversations with calls of tools are made of plain Python, as OpenAI's clients have them too."""
import json

import pytest

from timebill_ros.asking.conversation import chat, turns
from timebill_ros.asking.goals import make_goal
from timebill_ros.msg import ChatMessage, ToolCall

CALL = ToolCall(id='a1', name='stop', arguments='{"now": true}')
ANSWER = ChatMessage(role='assistant', content='', tool_calls=[CALL])


@pytest.mark.parametrize('call', [
    {'id': 'a1', 'name': 'stop', 'arguments': '{"now": true}'},
    {'id': 'a1', 'name': 'stop', 'arguments': {'now': True}},
    {'id': 'a1', 'type': 'function', 'function': {'name': 'stop', 'arguments': '{"now": true}'}}, CALL])
@pytest.mark.parametrize('make', [turns, lambda messages: chat(*messages)])
def test_calls_and_what_they_gave(call, make):
    made = make([{'role': 'assistant', 'content': '', 'tool_calls': [call]},
                 {'role': 'tool', 'content': 'done', 'tool_call_id': 'a1'}])
    assert made == [ANSWER, ChatMessage(role='tool', content='done', tool_call_id='a1')]


def test_an_answer_of_calls_alone_may_have_no_content():
    assert turns([{'role': 'assistant', 'content': None, 'tool_calls': [CALL]}]) == [ANSWER]
    assert turns([ANSWER]) == [ANSWER]


@pytest.mark.parametrize('call', ['stop', {}, {'function': 3}, None])
def test_what_is_no_call_is_refused(call):
    with pytest.raises(ValueError, match=r'messages\[0\]\.tool_calls\[0\] is no call of a tool'):
        turns([{'role': 'assistant', 'content': '', 'tool_calls': [call]}])


def test_tools_may_be_a_list():
    tools = [{'type': 'function', 'function': {'name': 'stop'}}]
    assert json.loads(make_goal('x', tools=tools).tools) == tools
    assert make_goal('x', tools='[]').tools == '[]'
