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

"""The grammar of an answer that may call tools."""
import json

import byte_tokenizers
import pytest
from chat_templates import TOOLS_TEXT, WITH_TOOLS
from tokenizers import AddedToken

pytest.importorskip('llguidance')
from timebill_ros.codes import FinishReason, GoalError, OnCut, ToolChoice  # noqa: E402
from timebill_ros.inference import chat_facts  # noqa: E402
from timebill_ros.inference.grammars.compiler import Grammars  # noqa: E402
from timebill_ros.inference.grammars.tool_form import ToolForm  # noqa: E402
from timebill_ros.inference.grammars.vocabulary import of_tokenizer  # noqa: E402
from timebill_ros.inference.tools.answer_calls import names_of, taken_apart  # noqa: E402
from timebill_ros.request import Request  # noqa: E402

MARKS = [AddedToken('<tool_call>', special=False), AddedToken('</tool_call>', special=False),
         AddedToken('[TOOL_CALLS]', special=True)]


class Case:
    """A template with the markers as tokens of the vocabulary, or spelled in several."""

    def __init__(self, name, marks):
        self.tokenizer = byte_tokenizers.byte_level()
        self.tokenizer.add_tokens(marks)
        self.tokenizer.chat_template = WITH_TOOLS[name]
        self.eos = {self.tokenizer.eos_token_id}
        self.chat = chat_facts.found_in(self.tokenizer)
        self.calls = self.chat.calls
        self.grammars = Grammars(of_tokenizer(self.tokenizer, len(self.tokenizer), self.eos), self.eos, self.chat,
                                 self.tokenizer.added_tokens_decoder)

    def answer(self, choice=ToolChoice.AUTO, tools=TOOLS_TEXT):
        request = Request('id', 0.0, 1.0, messages=[{'role': 'user', 'content': 'go'}], tools=tools, tool_choice=choice)
        return self.grammars.collect(self.grammars.start(request), lambda: False)

    def ids(self, text):
        return self.tokenizer(text, add_special_tokens=False)['input_ids']

    def takes(self, text, choice=ToolChoice.AUTO):
        """Return whether `text` may be written, and whether the answer may end there."""
        matcher, ids = self.answer(choice)._matcher, self.ids(text)
        return matcher.try_consume_tokens(ids) == len(ids), matcher.is_accepting()

    def call(self, name='drive_to', text='{"place": "hall"}'):
        return self.calls.begin + name + self.calls.middle + text + self.calls.end


@pytest.fixture(scope='module', params=[(name, marks) for name in ('qwen 2.5', 'llama 3', 'mistral')
                                        for marks in (MARKS, [])], ids=lambda case: f'{case[0]} {len(case[1])} marks')
def case(request):
    return Case(*request.param)


def test_text_or_calls(case):
    for text in ('', 'In the hall.', 'a < b, and {} and [', case.call(), case.call('stop', '{}')):
        assert case.takes(text) == (True, True), text
    if case.calls.marker:
        assert case.takes(f'I go. {case.call()}') == (True, True)
    if case.calls.between:
        two = case.calls.begin + case.calls.between.join(['stop' + case.calls.middle + '{}'] * 2) + case.calls.end
        assert case.takes(two) == (True, True)


def test_calls_alone_where_they_are_required(case):
    required = ToolChoice.REQUIRED
    assert case.takes(case.call(), required) == (True, True)
    assert case.takes('', required) == (True, False)
    assert not case.takes('In the hall.', required)[0]


def test_only_the_tools_and_their_arguments(case):
    for bad in (case.call('fly'), case.call(text='{"place": "mars"}'), case.call(text='{}'),
                case.call(text='{"place": "hall", "x": 1}'), case.call('stop', '{"a": 1}')):
        assert not case.takes(bad)[0], bad


def test_half_a_call_is_no_end(case):
    assert case.takes(case.call()[:-len(case.calls.end) - 3]) == (True, False)


def test_a_call_that_is_cut_is_completed_once_its_tool_is_certain(case):
    whole = case.call('drive_to', '{"place": "kitchen", "speed": 0.5}')
    for cut, names in (('drive_to"', ['drive_to']), ('drive_t', ['drive_to']), ('{"place": "k', ['drive_to']),
                       ('"speed": ', ['drive_to']), ('drive', []), ('"name": "' if '{"' in whole else '', [])):
        text = whole[:whole.index(cut) + len(cut)]
        made = case.answer()
        written, added, _ = made.ended(case.ids(text), FinishReason.DEADLINE, OnCut.CLOSE)
        found = taken_apart(written, case.calls, names_of(TOOLS_TEXT), FinishReason.DEADLINE)
        assert [call.name for call in found.calls] == names, (text, written)
        assert added == 0 and all('place' in json.loads(call.arguments) for call in found.calls)
        assert made.ended(case.ids(text), FinishReason.DEADLINE, OnCut.DROP)[0] == text


def test_lengths(case):
    assert case.answer().bounds == (1, None, None, ())
    assert case.answer(ToolChoice.REQUIRED).bounds.least > len('stop{}')


def test_equal_goals_share_a_grammar(case):
    assert case.answer().grammar_s >= 0 and case.answer().grammar_s == 0.0, 'it is kept'


def test_a_schema_that_would_be_kept_loosely_is_refused():
    loose = json.dumps([{'type': 'function', 'function': {'name': 'go', 'parameters': {
        'type': 'object', 'properties': {'x': {'type': 'number', 'exclusiveMinimum': 0}}}}}])
    with pytest.raises(GoalError, match='the parameters of go: exclusiveMinimum'):
        Case('qwen 2.5', []).answer(tools=loose)


def test_a_goal_without_tools_asks_for_none():
    assert ToolForm.of(Request('id', 0.0, 1.0, prompt='p'), None, {}) is None
