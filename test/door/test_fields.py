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

"""The fields of a request: what becomes of each in the goal, what is ignored and told so, what is refused by name."""
import json

import pytest

from timebill_ros.action import Generate
from timebill_ros.door import fields
from timebill_ros.door.refusal import Refusal

HI = [{'role': 'user', 'content': 'hi'}]
SCHEMA = {'type': 'object', 'properties': {'a': {'type': 'integer'}}}
DRIVE = {'type': 'function', 'function': {'name': 'drive', 'parameters': {}}}
STOP = {'type': 'function', 'function': {'name': 'stop', 'parameters': {}}}


def read(headers=None, is_chat=True, **body):
    body = {**({'messages': HI} if is_chat else {'prompt': 'hi'}), 'model': 'm', **body}
    return fields.read(body, headers or {}, is_chat=is_chat, default_deadline_s=30.0, model='m')


def test_a_request_without_more_has_the_default_deadline_and_the_nodes_defaults():
    question = read()
    assert (question.deadline_s, question.is_default_deadline, question.ignored) == (30.0, True, [])
    assert not question.stream and not question.comes_at_once
    expected = Generate.Goal(messages=question.goal.messages)
    assert question.goal == expected and question.goal.messages[0].content == 'hi'


@pytest.mark.parametrize(('given', 'of_goal', 'value'), [
    ({'overrun_strategy': 'kill'}, 'overrun_strategy', Generate.Goal.STRATEGY_KILL),
    ({'overrun_strategy': 'skip_next'}, 'overrun_strategy', Generate.Goal.STRATEGY_SKIP_NEXT),
    ({'priority': 7}, 'priority', 7), ({'max_tokens': 5}, 'max_new_tokens', 5),
    ({'max_completion_tokens': 5.0}, 'max_new_tokens', 5),
    ({'max_tokens': 6, 'max_completion_tokens': 6}, 'max_new_tokens', 6),
    ({'response_format': {'type': 'json_object'}}, 'response_schema', '{}'),
    ({'response_format': {'type': 'json_schema', 'json_schema': {'name': 'a', 'schema': SCHEMA}}}, 'response_schema',
     json.dumps(SCHEMA)),
    ({'response_format': {'type': 'text'}}, 'response_schema', ''), ({'on_cut': 'close'}, 'on_cut', 1),
    ({'choices': ['a', 'b']}, 'choices', ['a', 'b']), ({'regex': 'a+'}, 'regex', 'a+'),
    ({'max_eviction_ratio': 0}, 'max_eviction_ratio', 0.0), ({'closing_text': '.'}, 'closing_text', '.'),
    ({'stop_at_line_end': True}, 'stop_at_line_end', True), ({'allow_offboard': True}, 'allow_offboard', True),
    ({'thinking': True}, 'thinking', Generate.Goal.THINKING_ON),
    ({'reasoning_effort': 'none'}, 'thinking', Generate.Goal.THINKING_OFF),
    ({'tools': [DRIVE]}, 'tools', json.dumps([DRIVE])), ({'tools': [DRIVE], 'tool_choice': 'none'}, 'tools', ''),
    ({'tools': [DRIVE], 'tool_choice': 'required'}, 'tool_choice', Generate.Goal.TOOL_CHOICE_REQUIRED),
    ({'tools': [DRIVE, STOP], 'tool_choice': {'type': 'function', 'function': {'name': 'stop'}}}, 'tools',
     json.dumps([STOP])),
])
def test_fields_of_the_goal(given, of_goal, value):
    question = read(**given)
    assert getattr(question.goal, of_goal) == value and question.ignored == []


@pytest.mark.parametrize(('given', 'of_sampling', 'value'), [
    ({'temperature': 0.5}, 'temperature', 0.5), ({'temperature': 0}, 'temperature', 0.0),
    ({'top_p': 0.5}, 'top_p', 0.5),
    ({'top_k': 5}, 'top_k', 5), ({'seed': 7}, 'seed', 7), ({'seed': 2 ** 64 - 1}, 'seed', 2 ** 64 - 1),
    ({'seed': 0}, 'seed', 2 ** 64 - 1),  # 0 asks the node for another answer each time, and a client for the same one
    ({'stop': 'end'}, 'stop', ['end']), ({'stop': ['a', 'b']}, 'stop', ['a', 'b']), ({'stop': None}, 'stop', []),
])
def test_fields_of_the_sampling(given, of_sampling, value):
    assert getattr(read(**given).goal.sampling, of_sampling) == value


def test_what_a_goal_is_about_may_stand_in_headers_and_the_body_goes_first():
    headers = {'x-timebill-deadline-ms': '1500', 'x-timebill-overrun-strategy': 'kill', 'x-timebill-priority': '3'}
    question = read(headers)
    assert (question.deadline_s, question.is_default_deadline) == (1.5, False)
    assert (question.goal.overrun_strategy, question.goal.priority) == (Generate.Goal.STRATEGY_KILL, 3)
    assert read(headers, deadline_ms=200).deadline_s == 0.2


def test_null_means_left_out_within_an_option_too():
    assert not read(stream=True, stream_options={'include_usage': None}).include_usage
    assert read(stream=True, stream_options={'include_usage': True}).include_usage


def test_a_model_that_was_not_named_is_not_ignored():
    question = fields.read({'messages': HI}, {}, is_chat=True, default_deadline_s=1.0, model='m')
    assert question.ignored == []


@pytest.mark.parametrize(('thinking', 'effort', 'told'), [(True, 'high', ['reasoning_effort']), (False, 'none', []),
                                                         (False, 'low', ['reasoning_effort'])])
def test_an_effort_beside_thinking_changes_nothing(thinking, effort, told):
    question = read(thinking=thinking, reasoning_effort=effort)
    expected = Generate.Goal.THINKING_ON if thinking else Generate.Goal.THINKING_OFF
    assert (question.goal.thinking, question.ignored) == (expected, told)


def test_what_is_ignored_is_told():
    question = read(user='ann', metadata={'a': 1}, store=True, parallel_tool_calls=False, reasoning_effort='low',
                    model='gpt', prediction=None, prompt_cache_options={'ttl': '30m'})
    assert sorted(question.ignored) == ['metadata', 'model', 'parallel_tool_calls', 'prompt_cache_options',
                                        'reasoning_effort', 'store', 'user']


@pytest.mark.parametrize('given', [{'n': 1}, {'logprobs': False}, {'frequency_penalty': 0}, {'presence_penalty': 0.0},
                                   {'logit_bias': {}}, {'modalities': ['text']}, {'tools': None}, {'n': None},
                                   {'functions': []}])
def test_what_says_no_is_taken(given):
    assert read(**given).ignored == []


@pytest.mark.parametrize(('given', 'param', 'told'), [
    ({'n': 2}, 'n', 'only 1 is served'), ({'n': True}, 'n', 'only 1'), ({'logprobs': True}, 'logprobs', 'only false'),
    ({'frequency_penalty': 0.1}, 'frequency_penalty', 'only 0'), ({'logit_bias': {'5': 1}}, 'logit_bias', 'only {}'),
    ({'audio': {}}, 'audio', 'not served'), ({'moderation': {}}, 'moderation', 'not served'),
    ({'deadlin_ms': 5}, 'deadlin_ms', 'unknown field'),
    ({'prompt': 'hi'}, 'prompt', 'unknown field'), ({'deadline_ms': 0}, 'deadline_ms', '0 is no deadline'),
    ({'deadline_ms': '5'}, 'deadline_ms', "must be a number, got '5'"), ({'deadline_ms': True}, 'deadline_ms', 'True'),
    ({'deadline_ms': 1e300}, 'deadline_ms', 'no deadline'), ({'deadline_ms': 10 ** 400}, 'deadline_ms', 'no deadline'),
    ({'priority': 256}, 'priority', 'from 0 to 255'), ({'priority': 1.5}, 'priority', 'whole number'),
    ({'overrun_strategy': 'wait'}, 'overrun_strategy', 'kill, skip_next'), ({'on_cut': 1}, 'on_cut', 'drop, close'),
    ({'max_tokens': 0}, 'max_tokens', 'from 1'),
    ({'max_tokens': 5, 'max_completion_tokens': 6}, 'max_tokens', 'differ'),
    ({'temperature': 'hot'}, 'temperature', "got 'hot'"), ({'seed': 1.5}, 'seed', 'whole number'),
    ({'response_format': 'json'}, 'response_format', "got 'json'"),
    ({'response_format': {'type': 'json_schema'}}, 'response_format', 'must be a JSON Schema'),
    ({'response_format': {'type': 'grammar'}}, 'response_format', 'grammar'),
    ({'thinking': 'yes'}, 'thinking', "'yes'"), ({'reasoning_effort': 5}, 'reasoning_effort', 'must be text, got 5'),
    ({'thinking': True, 'reasoning_effort': 'none'}, 'thinking', 'contradict each other'),
    ({'temperature': -1}, 'temperature', 'must be 0 or more, got -1'), ({'seed': -1}, 'seed', 'from 0 to'),
    ({'stop': 5}, 'stop', 'stop must be text or a list of texts, got 5'),
    ({'stop': ['a', 5]}, 'stop', "or a list of texts, got ['a', 5]"),
    ({'stream_options': {}}, 'stream_options', 'for streams alone'),
    ({'stream_options': {'include_usage': True}, 'stream': False}, 'stream_options', 'for streams alone'),
    ({'stream': 1}, 'stream', 'true or false'), ({'stream_options': {'usage': True}}, 'stream_options', "'usage'"),
    ({'tools': DRIVE}, 'tools', 'must be a list'), ({'tool_choice': 'required'}, 'tool_choice', 'there are no tools'),
    ({'tools': [DRIVE], 'tool_choice': {'function': {'name': 'stop'}}}, 'tool_choice', 'none of the tools'),
    ({'tools': [DRIVE], 'tool_choice': 'sometimes'}, 'tool_choice', "'sometimes'"),
])
def test_what_cannot_be_served_is_refused_by_name(given, param, told):
    with pytest.raises(Refusal) as error:
        read(**given)
    assert (error.value.status, error.value.body()['error']['param']) == (400, param) and told in str(error.value)


@pytest.mark.parametrize(('given', 'told'), [
    ({'top_k': -1}, 'top_k must be a whole number'), ({'stop': ['a', 'b\0']}, 'stop[1] holds a NUL'),
    ({'choices': 'a'}, 'choices must be a list'), ({'closing_text': 'a\0'}, 'closing_text holds a NUL'),
    ({'temperature': 1e300}, 'temperature must be a number')])
def test_what_no_message_can_carry_is_a_sentence_about_its_field(given, told):
    with pytest.raises(Refusal, match='(?s).*') as error:
        read(**given)
    assert error.value.status == 400 and told in str(error.value)
    assert error.value.param == next(iter(given))


@pytest.mark.parametrize(('header', 'value'), [('x-timebill-deadline-ms', 'soon'), ('x-timebill-deadline-ms', 'NaN'),
                                               ('x-timebill-deadline-ms', ''), ('x-timebill-priority', '-1'),
                                               ('x-timebill-deadline-ms', '[' * 15000),
                                               ('x-timebill-overrun-strategy', 'none')])
def test_headers_that_say_nothing_are_refused(header, value):
    with pytest.raises(Refusal):
        read({header: value})


def test_names_that_a_client_makes_up_are_told_cut_and_few():
    made_up = {'\ud800': 1, 'k' * 1000: 1, **{f'k{number}': 1 for number in range(1000)}}
    ignored = read(messages=[{**HI[0], **made_up}]).ignored
    assert len(ignored) == fields.MOST_NAMES + 1 and ignored[-1] == 'and 982 more'
    assert ignored[0] == 'messages[].\\ud800' and len(ignored[1]) == 100
    with pytest.raises(Refusal) as error:
        read(**{'\ud800' + 'k' * 1000: 1})
    assert json.dumps(error.value.body(), ensure_ascii=False).encode() and len(error.value.param) < 110


@pytest.mark.parametrize('given', [{'messages': HI * 100_000}, {'stop': ['a'] * 100_000}, {'choices': ['a'] * 100_000}])
def test_longer_lists_than_a_goal_has_are_refused_before_they_are_read(given):
    with pytest.raises(Refusal, match='has 100000 entries: at most'):
        read(**given)


def test_the_prompt_of_a_completion():
    question = read(is_chat=False, max_tokens=3)
    assert (question.goal.prompt, question.goal.messages, question.is_chat) == ('hi', [], False)
    assert read(is_chat=False, prompt=['one']).goal.prompt == 'one'
    for prompt in (None, 5, [1, 2], ['a', 'b'], [5]):
        with pytest.raises(Refusal):
            read(is_chat=False, prompt=prompt)
    with pytest.raises(Refusal, match='unknown field'):
        read(is_chat=False, messages=HI)
    for suffix, refused in (('', False), ('x', True)):
        try:
            read(is_chat=False, suffix=suffix)
        except Refusal:
            assert refused
        else:
            assert not refused


def test_a_body_that_is_no_object():
    for body in ([], 'hi', 5, None):
        with pytest.raises(Refusal, match='must be a JSON object'):
            fields.read(body, {}, is_chat=True, default_deadline_s=1.0, model='m')


@pytest.mark.parametrize('given', [{'response_format': {'type': 'json_object'}}, {'choices': ['a']}, {'regex': 'a'},
                                   {'stop_at_line_end': True}])
def test_text_that_a_cut_may_take_back_comes_at_once(given):
    assert read(**given).comes_at_once


def test_null_means_left_out_within_a_tool_too():
    nulls = {**DRIVE, 'strict': None, 'function': {**DRIVE['function'], 'description': None, 'strict': None}}
    assert json.loads(read(tools=[nulls, None, {'type': 'function'}]).goal.tools) == [DRIVE, None, {'type': 'function'}]
    assert json.loads(read(tools=[{**DRIVE, 'function': {'name': 'stop', 'parameters': None}}]).goal.tools) == [
        {'type': 'function', 'function': {'name': 'stop'}}]


@pytest.mark.parametrize(('given', 'told'), [
    ({'tools': [{**DRIVE, 'function': {'name': 'drive', 'description': '\ud83e'}}]}, 'tools holds'),
    ({'response_format': {'type': 'json_schema', 'json_schema': {'schema': {'title': '\ud83e'}}}}, 'response_schema')])
def test_half_a_surrogate_pair_in_json_is_the_clients_fault_and_no_tokenizers(given, told):
    with pytest.raises(Refusal, match=f'{told}.*half of a surrogate pair') as error:
        read(**given)
    assert error.value.status == 400


def test_a_deadline_that_rounds_to_nothing_is_not_the_default_one():
    assert read(deadline_ms=1e-322).deadline_s == 0.0
