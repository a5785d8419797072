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

"""Thinking sections are found from what templates write, and prompts begin them or leave them out."""
import byte_tokenizers
import pytest
from chat_templates import PLAIN, QWEN2, QWEN3, R1

from timebill_ros.codes import GoalError, Thinking
from timebill_ros.inference.prompt import PromptEncoder
from timebill_ros.inference.thinking_section import ThinkingSection, found_in
from timebill_ros.request import Request

_TURNS = "{% for m in messages %}{% if m.role == 'user' %}{{ '<|User|>' + m.content }}{% else %}"
# As DeepSeek V3.1's: off by itself, and then only the end of a section stands there.
ONLY_END = (_TURNS + "{{ '<|Assistant|></think>' + m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}"
            "{{ '<|Assistant|>' }}{{ '<think>' if thinking else '</think>' }}{% endif %}")
# As SmolLM3's: the switch changes the system message too.
EARLY = ("{{ '<|im_start|>system\nMode: ' + ('/no_think' if enable_thinking is defined and enable_thinking is false "
         "else '/think') + '<|im_end|>\n' }}" + _TURNS + "{{ m.content }}{% endif %}{% endfor %}"
         "{% if add_generation_prompt %}"
         "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}"
         "{{ '<think>\n\n</think>\n' }}{% endif %}{% endif %}")
# As Magistral's: brackets.
BRACKETS = (_TURNS + "{{ '[/INST]' + m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}[/INST][THINK]"
            "{% endif %}{# [/THINK] #}")
# As Granite's: a switch that adds an instruction, and no markers. And turns that are marked like tags.
INSTRUCTION = (_TURNS + "{{ '<assistant>' + m.content }}{% endif %}{% endfor %}"
               "{% if thinking %}<system>think{% endif %}"
               "{% if add_generation_prompt %}<assistant>{% endif %}")
SECTIONS = {
    'qwen 3': (QWEN3, ThinkingSection('<think>\n', '\n</think>\n\n', 'enable_thinking', True)),
    'opened': (R1, ThinkingSection('<think>\n', '\n</think>\n\n', '', True)),
    'only the end': (ONLY_END, ThinkingSection('<think>', '</think>', 'thinking', False)),
    'early': (EARLY, ThinkingSection('<think>\n', '\n</think>\n', 'enable_thinking', True)),
    'brackets': (BRACKETS, ThinkingSection('[THINK]', '[/THINK]\n\n', '', True)),
    'remembered': (QWEN3.replace('enable_thinking', 'nothing'),
                   ThinkingSection('<think>\n', '\n</think>\n\n', '', False))}
# As gpt-oss's: reasoning is a message of its own, in a channel.
CHANNELS = (_TURNS + "{{ '<|start|>assistant<|channel|>analysis<|message|>' + (m.thinking or '') + '<|end|>' }}"
            "{{ m.content }}"
            "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}")
WITHOUT = {'qwen 2.5': QWEN2, 'plain': PLAIN, 'instruction': INSTRUCTION, 'channels': CHANNELS, 'no template': None}


def with_template(template):
    tokenizer = byte_tokenizers.byte_level()
    tokenizer.chat_template = template
    return tokenizer


def prompt(template, thinking, last='user'):
    messages = [{'role': 'user', 'content': 'hi'}, {'role': 'assistant', 'content': 'So'}][:2 if last != 'user' else 1]
    return PromptEncoder('a model', with_template(template), 4000).render(
        Request('id', 0.0, 1.0, messages=messages, thinking=thinking))


@pytest.mark.parametrize('name', SECTIONS)
def test_the_section_is_found(name):
    template, section = SECTIONS[name]
    assert found_in(with_template(template)) == section


@pytest.mark.parametrize('template', WITHOUT.values(), ids=WITHOUT)
def test_a_template_without_one_has_none(template):
    assert found_in(with_template(template)) is None


@pytest.mark.parametrize('name', SECTIONS)
@pytest.mark.parametrize('thinking', Thinking)
def test_a_prompt_opens_the_section_or_not(name, thinking):
    template, section = SECTIONS[name]
    text = prompt(template, thinking)
    thinks = section.default if thinking is Thinking.DEFAULT else thinking is Thinking.ON
    assert section.is_open(text) == thinks
    assert text.count(section.open_marker) <= 1 and text.count(section.close_marker) <= 1
    if thinking is Thinking.OFF and name != 'remembered':
        assert text.endswith(section.closing)


@pytest.mark.parametrize('thinking', [Thinking.DEFAULT, Thinking.OFF])
def test_an_answer_that_is_begun_has_no_section(thinking):
    section = SECTIONS['qwen 3'][1]
    assert prompt(QWEN3, thinking, last='assistant').endswith('So')
    assert not section.is_open(prompt(QWEN3, thinking, last='assistant'))


@pytest.mark.parametrize(('template', 'last', 'told'), [
    (QWEN2, 'user', 'the chat template of model a model has no thinking section'),
    (QWEN3, 'assistant', 'the last message has begun the answer')])
def test_a_section_that_cannot_be_had_is_refused(template, last, told):
    with pytest.raises(GoalError, match=told):
        prompt(template, Thinking.ON, last)


def test_a_raw_prompt_is_its_own_template():
    encoder = PromptEncoder('a model', with_template(QWEN3), 4000)
    with pytest.raises(GoalError, match='send messages'):
        encoder.render(Request('id', 0.0, 1.0, prompt='x', thinking=Thinking.ON))
    assert encoder.render(Request('id', 0.0, 1.0, prompt='x')) == 'x'


@pytest.mark.parametrize('written', ['I see.\n</think>\n\n', '<think>\nI see.\n</think>', ' I see. '])
def test_reasoning_is_what_stands_between_the_markers(written):
    assert SECTIONS['qwen 3'][1].reasoning(written) == 'I see.'
