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

"""Template keywords reach every rendering, and system messages reach models whose template has no such role."""
import pytest
import tiny_models
from test_prompt import chat
from test_special_tokens import bpe

from timebill_ros import settings
from timebill_ros.codes import GoalError
from timebill_ros.inference.chat_options import set_template_args, system_into_user, systems_joined, takes_system
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.prompt import PromptEncoder
from timebill_ros.request import Request

# As Qwen3's: thinking is on unless the keyword says otherwise.
THINKING = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n"
            "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
            "{% endif %}")
# As Gemma 2's, and as one that writes user and assistant turns and leaves every other out.
REFUSES = ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
           "{% endif %}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}")
AT_THE_BEGINNING = "{{ raise_exception('System message must be at the beginning') }}"
FIRST_ONLY = ("{% for m in messages %}{% if m['role'] == 'system' and not loop.first %}" + AT_THE_BEGINNING +
              "{% endif %}"
              "<{{ m['role'] }}>{{ m['content'] }}{% endfor %}")
DROPS = ("{% for m in messages %}{% if m['role'] in ['user', 'assistant'] %}<{{ m['role'] }}>{{ m['content'] }}"
         "{% endif %}{% endfor %}")


def render(tokenizer, messages):
    return PromptEncoder('a model', tokenizer, 1000).render(Request('id', 0.0, 1.0, messages=messages))


# -- keywords --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(('args', 'thinks'), [('', True), ('{}', True), ('{"enable_thinking": true}', True),
                                              ('{"enable_thinking": false}', False)])
def test_keywords_reach_the_template(args, thinks, caplog):
    tokenizer = bpe(chat_template=THINKING)
    set_template_args('m', tokenizer, args)
    assert render(tokenizer, chat('the cup')).endswith('assistant\n<think>\n' if thinks else '<think>\n\n</think>\n\n')
    assert not caplog.records


def test_a_keyword_that_the_template_does_not_use_is_told(caplog):
    tokenizer = bpe(chat_template=THINKING)
    set_template_args('m', tokenizer, '{"enable_thnking": false}')
    assert "'enable_thnking', which the chat template of m does not use" in caplog.text
    assert render(tokenizer, chat('the cup')).endswith('assistant\n<think>\n')


@pytest.mark.parametrize('keyword', ['messages', 'conversation', 'add_generation_prompt', 'tokenize', 'chat_template',
                                     'continue_final_message', 'return_tensors'])
def test_a_keyword_of_transformers_is_refused(keyword):
    with pytest.raises(ModelError, match=f'may not set .{keyword}.'):
        set_template_args('m', bpe(chat_template=THINKING), f'{{"{keyword}": 1}}')


def test_keywords_need_a_template():
    with pytest.raises(ModelError, match='model m has no chat template'):
        set_template_args('m', bpe(chat_template=None), '{"enable_thinking": false}')


@pytest.mark.parametrize('text', ['[1]', '3', 'enable_thinking: false', '{"a": }', '"x"', 'null', '[' * 100_000])
def test_what_is_no_json_object_is_refused_as_a_parameter(text):
    with pytest.raises(ValueError, match='parameter chat_template_args must be a JSON object, as {"enable_thinking"'):
        settings.check({'chat_template_args': text})
    assert settings.check({'chat_template_args': '{"a": [1]}'})['chat_template_args'] == '{"a": [1]}'


def test_a_model_renders_with_its_keywords(tmp_path):
    directory = tiny_models.build(tmp_path / 'm', 'qwen2')
    (directory / 'chat_template.jinja').write_text(
        "{{ greeting }}{% for m in messages %}{{ m['content'] }}{% endfor %}")
    model = CausalLM(str(directory), device='cpu', threads=1, template_args='{"greeting": "w7 w8 "}')
    assert model.render(Request('id', 0.0, 1.0, messages=chat('w9'))) == 'w7 w8 w9'


# -- system messages -------------------------------------------------------------------------------------------------

def turns(*pairs):
    return [{'role': role, 'content': content} for role, content in pairs]


@pytest.mark.parametrize(('messages', 'expected'), [
    (turns(('system', 'S'), ('user', 'U')), turns(('user', 'S\n\nU'))),
    (turns(('system', 'S'), ('system', 'T'), ('user', 'U')), turns(('user', 'S\n\nT\n\nU'))),
    (turns(('user', 'U'), ('assistant', 'A'), ('system', 'S'), ('user', 'V')),
     turns(('user', 'U'), ('assistant', 'A'), ('user', 'S\n\nV'))),
    (turns(('system', ' '), ('user', 'U')), turns(('user', 'U'))), (turns(('user', 'U')), turns(('user', 'U'))),
    (turns(('system', 'S')), turns(('system', 'S'))),
    (turns(('system', 'S'), ('assistant', 'A')), turns(('system', 'S'), ('assistant', 'A')))])
def test_system_text_goes_in_front_of_the_next_user_message(messages, expected):
    assert system_into_user(messages) == expected


@pytest.mark.parametrize('template', [REFUSES, DROPS])
def test_templates_without_a_system_role_get_it_in_the_user_turn(template, caplog):
    caplog.set_level('INFO', 'timebill_ros')
    tokenizer = bpe(chat_template=template, bos_token='<|im_start|>')
    text = render(tokenizer, turns(('system', 'obey <|im_end|>'), ('user', 'the cup')))
    assert text.endswith('<user>obey <|im_end|>\n\nthe cup') and 'has no system role' in caplog.text


def test_a_template_with_a_system_role_keeps_it(caplog):
    caplog.set_level('INFO', 'timebill_ros')
    tokenizer = bpe(chat_template=THINKING)
    assert takes_system(tokenizer) and not takes_system(bpe(chat_template=REFUSES))
    assert '<|im_start|>system\nobey<|im_end|>' in render(tokenizer, turns(('system', 'obey'), ('user', 'the cup')))
    assert not caplog.records


@pytest.mark.parametrize(('messages', 'expected'), [
    (turns(('system', 'S'), ('system', 'T'), ('system', ' '), ('user', 'U')),
     turns(('system', 'S\n\nT'), ('user', 'U'))),
    (turns(('system', ' '), ('system', 'T'), ('user', 'U')), turns(('system', 'T'), ('user', 'U'))),
    (turns(('system', 'S'), ('user', 'U'), ('system', 'T')),) * 2, (turns(('user', 'U')),) * 2])
def test_system_messages_that_follow_each_other_become_one(messages, expected):
    before = [dict(message) for message in messages]
    assert systems_joined(messages) == expected and messages == before


@pytest.mark.parametrize('template', [FIRST_ONLY, FIRST_ONLY.replace(AT_THE_BEGINNING, '{% continue %}')],
                         ids=['refuses a second', 'leaves a second out'])
def test_a_template_that_takes_one_system_message_gets_one(template, caplog):
    caplog.set_level('INFO')
    tokenizer = bpe(chat_template=template)
    assert takes_system(tokenizer) and not takes_system(tokenizer, 2)
    text = render(tokenizer, turns(('system', 'obey'), ('system', 'be brief'), ('user', 'the cup')))
    assert 'obey\n\nbe brief' in text and 'several in a row become one' in caplog.text


def test_a_template_that_takes_several_system_messages_keeps_them(caplog):
    caplog.set_level('INFO')
    text = render(bpe(chat_template=THINKING), turns(('system', 'obey'), ('system', 'be brief'), ('user', 'the cup')))
    assert '<|im_start|>system\nobey<|im_end|>\n<|im_start|>system\nbe brief<|im_end|>' in text
    assert 'become one' not in caplog.text


def test_a_system_message_alone_is_refused_by_a_template_without_the_role():
    with pytest.raises(GoalError, match='System role not supported'):
        render(bpe(chat_template=REFUSES), turns(('system', 'obey')))
