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

"""What a goal with tools, or with calls in its conversation, must be like."""
import json

import pytest
from chat_templates import TOOLS, TOOLS_TEXT

from timebill_ros import admission
from timebill_ros.codes import ErrorCode, GoalError, ToolChoice
from timebill_ros.request import Request, Sampling

ASKED = [{'role': 'user', 'content': 'go'}]
CALL = {'id': 'a1', 'name': 'stop', 'arguments': '{}'}
CALLED = [*ASKED, {'role': 'assistant', 'content': '', 'tool_calls': [CALL]},
          {'role': 'tool', 'content': 'done', 'tool_call_id': 'a1'}]


def refusal(**fields):
    fields.setdefault('messages', ASKED)
    request = Request('id', 0.0, 1.0, **fields)
    try:
        admission.check(request, max_prompt_characters=100_000)
    except GoalError as error:
        assert error.code is ErrorCode.INVALID_GOAL
        return str(error)
    return ''


def test_what_is_well_formed_is_taken():
    assert refusal(tools=TOOLS_TEXT) == ''
    assert refusal(tools=TOOLS_TEXT, tool_choice=ToolChoice.REQUIRED) == ''
    assert refusal(messages=CALLED) == '', 'a conversation may hold calls of tools that are no longer offered'
    assert refusal(messages=[*[{'role': 'assistant', 'content': '', 'tool_calls': [CALL] * 128}] * 8, *ASKED]) == ''
    bare = [{'type': 'function', 'function': {'name': 'stop'}}]
    assert refusal(tools=json.dumps(bare)) == ''


@pytest.mark.parametrize(('tools', 'told'), [
    ('{', 'tools is no JSON'), ('{}', 'tools must be a JSON list of 1 to 128 functions'), ('[]', 'got \'[]\''),
    ('[3]', 'tools[0] must be'), ('[{"type": "code"}]', '"code"'), ('[' * 10_000, 'tools is no JSON'),
    ('[{"type": "function", "function": {"name": "go", "description": "\\ud83e"}}]', 'surrogates not allowed'),
    ('[{"type": "function", "function": {"name": "go home"}}]', "'go home'"),
    ('[{"type": "function", "function": {"name": "go", "parameters": {"type": "array"}}}]', "'array'"),
    ('[{"type": "function", "function": {"name": "go", "parameters": 3}}]', 'got 3'),
    (json.dumps([TOOLS[0], TOOLS[0]]), "'drive_to' more than once"),
    (json.dumps(TOOLS[:1] * 129), '1 to 128'), (' ' * 70_000, '70000 characters')])
def test_tools_that_are_none_are_refused_with_their_value(tools, told):
    assert told in refusal(tools=tools)


@pytest.mark.parametrize('beside', [{'response_schema': '{}'}, {'choices': ['a']}, {'regex': 'a'},
                                    {'closing_text': ']'}, {'stop_at_line_end': True},
                                    {'sampling': Sampling(stop=['x'])}])
def test_what_says_where_an_answer_ends_cannot_go_with_tools(beside):
    assert 'cannot go with tools' in refusal(tools=TOOLS_TEXT, **beside)


def test_tools_need_a_template_and_a_choice_needs_tools():
    assert 'send messages, not prompt' in refusal(tools=TOOLS_TEXT, messages=[], prompt='go')
    assert 'REQUIRED, and the goal has no tools' in refusal(tool_choice=ToolChoice.REQUIRED)


@pytest.mark.parametrize(('messages', 'told'), [
    (CALLED[:2], 'the last message calls tools'),
    ([{'role': 'user', 'content': 'go', 'tool_calls': [CALL]}, *ASKED], 'only an assistant calls tools'),
    ([{**ASKED[0], 'tool_call_id': 'a1'}], "tool_call_id 'a1'"),
    ([*ASKED, {'role': 'assistant', 'content': '', 'tool_calls': [{**CALL, 'arguments': '[1]'}]}, *ASKED],
     "messages[1].tool_calls[0].arguments must be a JSON object, got '[1]'"),
    ([*ASKED, {'role': 'assistant', 'content': '', 'tool_calls': [{**CALL, 'arguments': '{'}]}, *ASKED], 'is no JSON'),
    ([*ASKED, {'role': 'assistant', 'content': '', 'tool_calls': [{**CALL, 'arguments': '{"a": "\\ud83e"}'}]}, *ASKED],
     'surrogates not allowed'),
    ([*ASKED, {'role': 'assistant', 'content': '', 'tool_calls': [{**CALL, 'name': ''}]}, *ASKED], "got ''"),
    ([*ASKED, {'role': 'assistant', 'content': '', 'tool_calls': [{**CALL, 'id': 'x' * 129}]}, *ASKED], '129'),
    ([*ASKED, {'role': 'assistant', 'content': '', 'tool_calls': [CALL] * 129}, *ASKED], '129 tool_calls'),
    ([*[{'role': 'assistant', 'content': '', 'tool_calls': [CALL] * 100}] * 11, *ASKED],
     'the messages hold 1100 tool_calls; at most 1024 are taken')])
def test_calls_that_are_none_are_refused_with_their_value(messages, told):
    assert told in refusal(messages=messages)


def test_tools_and_calls_count_as_part_of_the_prompt():
    request = Request('id', 0.0, 1.0, messages=CALLED, tools=TOOLS_TEXT)
    assert request.characters == len('godone') + len('stop{}') + len(TOOLS_TEXT)
    with pytest.raises(GoalError) as caught:
        admission.check(request, max_prompt_characters=100)
    assert caught.value.code is ErrorCode.PROMPT_TOO_LONG


def test_their_characters_are_counted_once():
    """Every event of the dispatcher asks for all goals that wait, and a goal may hold 100,000 calls."""
    request = Request('id', 0.0, 1.0, messages=[dict(message) for message in CALLED])
    n = request.characters
    request.messages.clear()
    assert request.characters == n == len('godonestop{}')


@pytest.mark.parametrize('tool', ['{"type": %s}', '{"type": "function", "function": {"name": %s}}',
                                  '{"type": "function", "function": {"name": "a", "parameters": %s}}'])
def test_a_wrong_value_that_is_too_deep_to_be_shown_is_told(tool):
    for depth in (500, 900, 960, 985):  # how deep JSON may be read and shown depends on who asks
        told = refusal(tools='[' + tool % ('[' * depth + ']' * depth) + ']')
        assert told.startswith('tools')
