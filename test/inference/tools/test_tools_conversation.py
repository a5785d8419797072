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

"""Messages and tools as templates take them: calls and what they gave go round, and clients' texts stay texts."""
import json

import byte_tokenizers
import pytest
from chat_templates import PLAIN, QWEN2, TOOLS, TOOLS_TEXT, WITH_TOOLS

from timebill_ros.codes import ErrorCode, FinishReason, GoalError
from timebill_ros.inference.prompt import PromptEncoder
from timebill_ros.inference.tools.answer_calls import taken_apart
from timebill_ros.inference.tools.conversation import for_template
from timebill_ros.request import Request

ASKED = {'role': 'user', 'content': 'where is the cup'}


def encoder(template, marks=()):
    tokenizer = byte_tokenizers.byte_level()
    tokenizer.add_tokens(list(marks), special_tokens=True)
    tokenizer.chat_template = template
    return PromptEncoder('a model', tokenizer, 4000)


def request(*messages, tools=TOOLS_TEXT):
    return Request('id', 0.0, 1.0, messages=list(messages), tools=tools)


def call(name, arguments='{}', identity='abcdefghi'):
    return {'id': identity, 'name': name, 'arguments': arguments}


@pytest.mark.parametrize('template', WITH_TOOLS.values(), ids=WITH_TOOLS)
def test_every_tool_reaches_the_prompt(template):
    text = encoder(template).render(request(ASKED))
    assert all(tool['function']['name'] in text and '"kitchen"' in text for tool in TOOLS)


@pytest.mark.parametrize('template', WITH_TOOLS.values(), ids=WITH_TOOLS)
def test_a_call_and_what_it_gave_go_round(template):
    """What the template writes for a call is read as that call again, and the prompt goes on behind its result."""
    made = call('drive_to', '{"place": "kitchen", "speed": 0.5}')
    encode = encoder(template)
    text = encode.render(request(ASKED, {'role': 'assistant', 'content': '', 'tool_calls': [made]},
                                 {'role': 'tool', 'content': '{"arrived": true}', 'tool_call_id': made['id']}))
    assert 'arrived' in text
    own = text[text.rindex(encode.chat.calls.begin):]
    found = taken_apart(own, encode.chat.calls, ['drive_to'], FinishReason.DEADLINE).calls
    assert [(one.name, json.loads(one.arguments)) for one in found] == [('drive_to', json.loads(made['arguments']))]


def test_results_know_the_name_of_their_tool():
    turns = for_template([ASKED, {'role': 'assistant', 'content': '', 'tool_calls': [
        call('go', identity='1'), call('stop', identity='2'), call('look', identity='3')]},
        {'role': 'tool', 'content': 'a', 'tool_call_id': '2'}, {'role': 'tool', 'content': 'b'},
        {'role': 'tool', 'content': 'c'}, {'role': 'tool', 'content': 'd', 'tool_call_id': '9'}], str)
    assert [(turn.get('tool_call_id'), turn.get('name')) for turn in turns[2:]] == [
        ('2', 'stop'), ('1', 'go'), ('3', 'look'), ('9', None)]


def test_special_tokens_in_tools_calls_and_results_stay_text():
    mark = '<|im_end|>'
    encode = encoder(QWEN2, [mark])
    tools = [{'type': 'function', 'function': {'name': 'go', 'description': f'x{mark}', 'parameters': {
        'type': 'object', 'properties': {f'p{mark}': {'enum': [mark]}}}}}]
    text = encode.render(request(ASKED, {'role': 'assistant', 'content': '', 'tool_calls': [
        call('go', json.dumps({'a': mark}))]}, {'role': 'tool', 'content': mark, 'tool_call_id': mark}, ASKED,
        tools=json.dumps(tools)))
    ids = encode.tokenize(text, is_chat=True)
    [end] = encode._tokenizer.convert_tokens_to_ids([mark])
    assert text.count(mark) > ids.count(end) == 5, 'only the ends of the five turns are tokens'


@pytest.mark.parametrize(('template', 'told'), [
    (PLAIN, 'knows no tools'),
    (QWEN2.replace('call.arguments | tojson', "'nothing'"), 'writes calls of tools in a way that is not known')])
def test_a_template_that_cannot_is_told(template, told):
    with pytest.raises(GoalError, match=told) as caught:
        encoder(template).render(request(ASKED))
    assert caught.value.code is ErrorCode.INVALID_GOAL
