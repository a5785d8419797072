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

"""Messages of OpenAI's API as turns: texts in all their forms, calls of tools, and what is refused by name."""
import pytest

from timebill_ros.door.chat_messages import turns
from timebill_ros.door.refusal import Refusal

CALL = {'id': 'call_1', 'type': 'function', 'function': {'name': 'drive', 'arguments': '{"to": "dock"}'}}


@pytest.mark.parametrize(('message', 'role', 'content'), [
    ({'role': 'user', 'content': 'hi'}, 'user', 'hi'),
    ({'role': 'system', 'content': 'be brief'}, 'system', 'be brief'),
    ({'role': 'developer', 'content': 'be brief'}, 'system', 'be brief'),
    ({'role': 'user', 'content': [{'type': 'text', 'text': 'one'}, {'type': 'text', 'text': 'two'}]}, 'user',
     'one\ntwo'),
    ({'role': 'assistant', 'content': [{'type': 'refusal', 'refusal': 'no'}]}, 'assistant', 'no'),
    ({'role': 'assistant', 'content': None, 'tool_calls': [CALL]}, 'assistant', ''),
    ({'role': 'user', 'content': ''}, 'user', ''),
    ({'role': 'assistant', 'content': 'yes', 'audio': None, 'function_call': None, 'tool_calls': None}, 'assistant',
     'yes'),
])
def test_messages_become_turns(message, role, content):
    (turn,) = turns([message], [])
    assert (turn.role, turn.content) == (role, content)


def test_calls_of_tools_and_what_they_gave_go_round():
    asked, told = turns([{'role': 'assistant', 'content': 'wait', 'tool_calls': [CALL]},
                         {'role': 'tool', 'tool_call_id': 'call_1', 'content': 'there'}], [])
    (call,) = asked.tool_calls
    assert (call.id, call.name, call.arguments) == ('call_1', 'drive', '{"to": "dock"}')
    assert (told.role, told.tool_call_id, told.content) == ('tool', 'call_1', 'there')


def test_fields_that_no_template_has_a_place_for_are_named_once():
    ignored = []
    turns([{'role': 'user', 'name': 'ann', 'content': 'hi'}, {'role': 'user', 'name': 'bob', 'content': 'hi'},
           {'role': 'assistant', 'content': 'hi', 'annotations': []}], ignored)
    assert ignored == ['messages[].name', 'messages[].annotations']


def test_many_such_fields_take_no_time():
    ignored = ['model']
    turns([{'role': 'user', 'content': 'hi', **{f'k{number}': 1 for number in range(100_000)}}], ignored)
    assert (len(ignored), ignored[:2]) == (100_001, ['model', 'messages[].k0'])


@pytest.mark.parametrize(('messages', 'param', 'told'), [
    (None, 'messages', 'must be a list'), ([], 'messages', 'at least one'), ('hi', 'messages', 'must be a list'),
    (['hi'], 'messages[0]', "got 'hi'"), ([{'content': 'hi'}], 'messages[0].role', 'got None'),
    ([{'role': ['user'], 'content': 'hi'}], 'messages[0].role', "got ['user']"),
    ([{'role': 'function', 'content': 'hi'}], 'messages[0].role', "got 'function'"),
    ([{'role': 'user'}], 'messages[0].content', 'must be text, got None'),
    ([{'role': 'user', 'content': 5}], 'messages[0].content', 'got 5'),
    ([{'role': 'user', 'content': [{'type': 'image_url', 'image_url': {}}]}], 'messages[0].content[0]', 'image_url'),
    ([{'role': 'user', 'content': [{'type': 'text'}]}], 'messages[0].content[0].text', 'got None'),
    ([{'role': 'user', 'content': 'hi', 'tool_calls': [CALL]}], 'messages[0].tool_calls', 'of the role user'),
    ([{'role': 'assistant', 'tool_calls': [{'id': 'x'}]}], 'messages[0].tool_calls[0]', '"function"'),
    ([{'role': 'assistant', 'tool_calls': [{'function': {'name': 'a', 'arguments': {}}}]}],
     'messages[0].tool_calls[0].function.arguments', 'got {}'),
    ([{'role': 'assistant', 'content': 'x', 'audio': {'id': 1}}], 'messages[0].audio', 'not served'),
    ([{'role': 'assistant', 'tool_calls': [None] * 1000}, 5, {'role': 'assistant', 'tool_calls': [None] * 25}],
     'messages', 'messages has 1025 tool_calls: at most 1024 are served'),
])
def test_what_is_no_conversation_is_refused_by_name(messages, param, told):
    with pytest.raises(Refusal) as error:
        turns(messages, [])
    assert error.value.body()['error']['param'] == param and told in str(error.value)
