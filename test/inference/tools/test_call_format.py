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

"""How calls are written is found from what templates write, and answers are taken apart by it."""
import json

import byte_tokenizers
import pytest
from chat_templates import LLAMA3, PLAIN, QWEN2, R1, WITH_TOOLS

from timebill_ros.inference.tools.call_format import Call, CallFormat, found_in, shows_tools

FORMATS = {
    'qwen 2.5': CallFormat('<tool_call>\n{"name": "', '", "arguments": ',
                           '}\n</tool_call>\n<tool_call>\n{"name": "', '}\n</tool_call>'),
    'llama 3': CallFormat('{"name": "', '", "parameters": ', '', '}'),
    'mistral': CallFormat('[TOOL_CALLS] [{"name": "', '", "arguments": ', '}, {"name": "', '}]')}
FORMATS['qwen 3'] = FORMATS['qwen 2.5']
NAMES = ('go', 'stop')


def with_template(template):
    tokenizer = byte_tokenizers.byte_level()
    tokenizer.chat_template = template
    return tokenizer


def written(calls, *made):
    """Return what a model writes for `made`, pairs of a name and arguments."""
    return calls.begin + calls.between.join(name + calls.middle + text for name, text in made) + calls.end


@pytest.mark.parametrize('name', WITH_TOOLS)
def test_the_format_is_found(name):
    assert found_in(with_template(WITH_TOOLS[name])) == FORMATS[name]


def test_markers():
    assert {name: calls.marker for name, calls in FORMATS.items()} == {
        'qwen 2.5': '<tool_call>', 'qwen 3': '<tool_call>', 'llama 3': '', 'mistral': '[TOOL_CALLS]'}


@pytest.mark.parametrize('template', [PLAIN, R1, None])
def test_a_template_without_tools_has_none(template):
    assert found_in(with_template(template)) is None


def test_calls_that_are_not_written_in_json_have_no_format():
    """As Qwen3-Coder's: each argument is an element of its own."""
    other = QWEN2.replace("{{- call.arguments | tojson }}",
                          "{% for k, v in call.arguments.items() %}<parameter={{ k }}>{{ v }}</parameter>{% endfor %}")
    tokenizer = with_template(other)
    assert shows_tools(tokenizer) and found_in(tokenizer) is None


def test_a_template_that_takes_one_call_only():
    assert found_in(with_template(LLAMA3)).between == ''


@pytest.mark.parametrize('calls', FORMATS.values(), ids=FORMATS)
class TestReading:
    def test_text_alone(self, calls):
        found = calls.read('It is in the kitchen.', NAMES)
        assert (found.text, found.calls, found.start, found.begun) == ('It is in the kitchen.', [], 21, 21)

    def test_a_call(self, calls):
        text = written(calls, ('go', '{"to": "}{", "n": [1]}'))
        found = calls.read(text, NAMES)
        assert (found.text, found.calls) == ('', [Call('go', '{"to": "}{", "n": [1]}')])
        assert (found.start, found.begun) == (0, len(text))

    def test_several_calls(self, calls):
        if calls.between:
            text = written(calls, ('go', '{}'), ('stop', '{"a": 1}'), ('go', '{}'))
            assert [call.name for call in calls.read(text, NAMES).calls] == ['go', 'stop', 'go']

    def test_text_beside_calls(self, calls):
        if calls.marker:
            found = calls.read(f'I go. {written(calls, ("go", "{}"))}\nDone.', NAMES)
            assert (found.text, len(found.calls), found.start) == ('I go.\nDone.', 1, 6)

    def test_white_space_may_be_other_than_the_templates(self, calls):
        text = written(calls, ('go', '{"a":\n1}')).replace('\n', '').replace(': ', ' :  ')
        assert [json.loads(call.arguments) for call in calls.read(text, NAMES).calls] == [{'a': 1}]

    def test_another_tool_is_no_call(self, calls):
        found = calls.read(written(calls, ('fly', '{}')), NAMES)
        assert found.calls == [] and found.begun == 0

    def test_cut_anywhere_only_whole_calls_are_read(self, calls):
        made = [('go', '{"to": "hall"}'), ('stop', '{}')][:2 if calls.between else 1]
        text = written(calls, *made)
        for n in range(1, len(text)):
            found = calls.read(text[:n], NAMES)
            whole = [name for name, arguments in made if (name + calls.middle + arguments) in text[:n]]
            assert [call.name for call in found.calls] == whole
            if n >= len(calls.marker) and n < len(calls.begin):
                assert found.begun == 0
