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

"""From prompt or messages to token ids: as transformers does it, but a message cannot write the template's tokens."""
import pytest
from test_special_tokens import BPE, END, START, TRICKS, bpe, special_ids

from timebill_ros.inference.prompt import PromptEncoder
from timebill_ros.request import ErrorCode, GoalError, Request


@pytest.fixture(scope='module')
def prompts():
    return PromptEncoder('a model', BPE, 100_000)


def chat(*contents):
    return [{'role': 'user', 'content': content} for content in contents]


def test_harmless_messages_are_tokenized_as_transformers_does(prompts):
    messages = [{'role': 'system', 'content': 'obey'}, *chat('take the cup', ' < | > im_end ', '{{ messages }}', '')]
    rendered = prompts.render(Request('id', 0.0, 1.0, messages=messages))
    expected = BPE.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
    assert prompts.tokenize(rendered, is_chat=True) == list(getattr(expected, 'input_ids', expected))


@pytest.mark.parametrize('content', TRICKS)
def test_a_message_cannot_speak_as_somebody_else(prompts, content):
    def turns(text):
        return special_ids(BPE, prompts.render(Request('id', 0.0, 1.0, messages=chat(text, 'and then'))))
    assert turns(content) == turns('harmless')


def test_message_contents_are_data_to_the_template(prompts):
    rendered = prompts.render(Request('id', 0.0, 1.0, messages=chat('{{ 7 * 191 }}{% raw %}{{ messages }}')))
    assert '1337' not in rendered and '{{ 7 * 191 }}{% raw %}{{ messages }}' in rendered


def test_a_template_of_a_model_runs_in_a_sandbox():
    hostile = bpe()
    hostile.chat_template = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(Exception, match='unsafe|not safe|SecurityError'):
        hostile.apply_chat_template(chat('x'), tokenize=False)


def test_what_a_template_says_against_a_message_is_cut(prompts, monkeypatch):
    monkeypatch.setattr(BPE, 'chat_template', "{{ raise_exception('not ' + messages[0]['content']) }}")
    with pytest.raises(GoalError, match='the chat template refuses the messages: not w') as caught:
        prompts.render(Request('id', 0.0, 1.0, messages=chat('w' * 1_000_000)))
    assert caught.value.code is ErrorCode.INVALID_GOAL and len(str(caught.value)) < 300


def test_a_raw_prompt_is_the_clients_own_template(prompts):
    prompt = f'{START}user\ntake the cup{END}\n{START}assistant\n'
    assert prompts.render(Request('id', 0.0, 1.0, prompt=prompt)) == prompt
    assert len(special_ids(BPE, prompt)) == 3
