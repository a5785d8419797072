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

"""What is streamed of an answer: its parts, without their markers, and nothing that may be taken back."""
import byte_tokenizers
import pytest
from chat_templates import TOOLS_TEXT
from tokenizers import AddedToken

from timebill_ros.codes import Part
from timebill_ros.deadline import Deadline
from timebill_ros.inference.chat_facts import ChatFacts
from timebill_ros.inference.control import Control
from timebill_ros.inference.thinking_section import ThinkingSection
from timebill_ros.inference.tools.call_format import CallFormat
from timebill_ros.request import Request
from timebill_ros.worker.written_parts import WrittenParts

QWEN = CallFormat('<tool_call>\n{"name": "', '", "arguments": ', '', '}\n</tool_call>')
LLAMA = CallFormat('{"name": "', '", "parameters": ', '', '}')
SECTION = ThinkingSection('<think>\n', '\n</think>\n\n', '', True)
CALL = '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>'


class Case:
    def __init__(self, text, *, thought='', calls=None, marks=()):
        tokenizer = byte_tokenizers.byte_level()
        tokenizer.add_tokens([AddedToken(mark, special=special) for mark, special in marks])
        ids = [tokenizer(part, add_special_tokens=False)['input_ids'] for part in (thought, text)]
        self.n_thought, self.n = len(ids[0]), len(ids[0]) + len(ids[1])
        self.control = Control(Deadline(1e9), tokens=ids[0] + ids[1], thinks=bool(thought))
        request = Request('r', 0.0, 1e9, messages=[{'role': 'user', 'content': 'go'}],
                          tools=TOOLS_TEXT if calls else '')
        self.parts = WrittenParts(tokenizer, request, self.control, ChatFacts(bool(calls), calls, SECTION))

    def streamed(self, step=1):
        """Return {part: text} once all tokens have come, `step` of them at a time, and check their order."""
        found = []
        for n in [*range(1, self.n, step), self.n]:
            if self.n_thought and n > self.n_thought and not self.control.thought:
                self.control.thought, self.control.thinks = self.n_thought, False
            found += self.parts.advance(n)
        order = [part for part, _ in found]
        assert order == sorted(order, key=[Part.REASONING, Part.TEXT, Part.TOOL_CALL].index)
        assert all(text for _, text in found)
        return {part: ''.join(text for other, text in found if other is part) for part in order}


@pytest.mark.parametrize('step', [1, 3, 1000])
def test_reasoning_then_text(step):
    assert Case('It is there.', thought='I see.\n</think>\n\n').streamed(step) == {
        Part.REASONING: 'I see.\n', Part.TEXT: 'It is there.'}


@pytest.mark.parametrize('step', [1, 4, 1000])
@pytest.mark.parametrize('marks', [[], [('<tool_call>', False)], [('<tool_call>', True)]])
def test_text_then_calls(step, marks):
    found = Case(f'I stop. {CALL}', calls=QWEN, marks=marks).streamed(step)
    assert found[Part.TEXT] == 'I stop. '
    assert found[Part.TOOL_CALL].removeprefix('<tool_call>') == CALL.removeprefix('<tool_call>')


@pytest.mark.parametrize('step', [1, 1000])
def test_calls_without_a_marker(step):
    text = '{"name": "stop", "parameters": {}}'
    assert Case(text, calls=LLAMA).streamed(step) == {Part.TOOL_CALL: text}
    assert Case('In {it}.', calls=LLAMA).streamed(step) == {Part.TEXT: 'In {it}.'}


def test_all_three():
    found = Case(f'Now.\n{CALL}', thought='Hm.\n</think>\n\n', calls=QWEN).streamed()
    assert found == {Part.REASONING: 'Hm.\n', Part.TEXT: 'Now.\n', Part.TOOL_CALL: CALL}


def test_white_space_behind_a_section_is_no_text():
    assert Case('\n\n\nNow.', thought='Hm.\n</think>').streamed()[Part.TEXT] == 'Now.'
    assert Case('  Now.').streamed()[Part.TEXT] == '  Now.', 'without a section it is as the model wrote it'
