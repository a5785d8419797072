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
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_special_tokens import BPE, END, PAD, START, TRICKS, bpe, special_ids
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.inference.prompt import PromptEncoder
from timebill_ros.inference.tokenizer import load_tokenizer
from timebill_ros.request import Request


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
        rendered = prompts.render(Request('id', 0.0, 1.0, messages=chat(text, 'and then')))
        assert text in rendered, 'unaltered'
        return [i for i in prompts.tokenize(rendered, is_chat=True) if i in special]
    special = BPE.convert_tokens_to_ids([START, END, PAD])
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


def test_a_raw_prompt_that_begins_with_bos_gets_no_second_one():
    tokenizer = bpe(bos_token=START)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f'{START} $A', special_tokens=[(START, tokenizer.bos_token_id)])
    prompts = PromptEncoder('a model', tokenizer, 1000)
    assert tokenizer(START + 'the cup')['input_ids'][:2] == [tokenizer.bos_token_id] * 2, 'no trap at all'
    assert prompts.tokenize(START + 'the cup', is_chat=False) == prompts.tokenize('the cup', is_chat=False)
    assert prompts.tokenize('the cup', is_chat=False) == tokenizer('the cup')['input_ids']


@pytest.mark.parametrize('writes_bos', [True, False])
def test_a_tokenizer_that_adds_bos_never_doubles_that_of_the_chat_template(writes_bos, tmp_path):
    """As Llama 3 and Gemma have it: add_bos_token is on, and the template begins with bos_token, too."""
    tokenizer = bpe(bos_token=START, chat_template="{{ bos_token if WRITES }}{% for m in messages %}{{ m['content'] }}"
                    "{% endfor %}".replace('WRITES', str(writes_bos).lower()))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f'{START} $A', special_tokens=[(START, tokenizer.bos_token_id)])
    tokenizer.save_pretrained(tmp_path)
    declared = json.loads((tmp_path / 'tokenizer_config.json').read_text())
    (tmp_path / 'tokenizer_config.json').write_text(json.dumps({**declared, 'add_bos_token': True}))
    tokenizer = load_tokenizer(tmp_path)
    prompts = PromptEncoder('a model', tokenizer, 1000)
    ids = prompts.tokenize(prompts.render(Request('id', 0.0, 1.0, messages=chat('the cup'))), is_chat=True)
    assert ids.count(tokenizer.bos_token_id) == writes_bos
    raw = prompts.tokenize('the cup', is_chat=False)
    assert raw == prompts.tokenize(START + 'the cup', is_chat=False)
    assert raw.count(tokenizer.bos_token_id) == 1 and raw[1:] == ids[writes_bos:]


@pytest.mark.parametrize('begun', ['It is', 'It <|eot_id|>', '', ' \n'])
def test_a_last_message_of_the_assistant_begins_the_answer(begun):
    """It is neither closed nor answered by another turn."""
    tokenizer, tokens = KINDS['llama_3']
    prompts, question = PromptEncoder('a model', tokenizer, 1000), chat('where is the cup')
    asked = prompts.render(Request('id', 0.0, 1.0, messages=question))
    rendered = prompts.render(Request('id', 0.0, 1.0, messages=[*question, {'role': 'assistant', 'content': begun}]))
    assert rendered == asked + begun.strip()
    special = tokenizer.convert_tokens_to_ids(tokens)
    assert [i for i in prompts.tokenize(rendered, is_chat=True) if i in special] == \
        [i for i in prompts.tokenize(asked, is_chat=True) if i in special]


# -- the templates of common models, written from their description ----------------------------------------------------

def sentence_piece(specials, template, *, prepend=False, rstrip=()):
    """Make a tokenizer as of Gemma, Mistral and Phi-3: byte fallback, spaces as U+2581, special tokens in the model."""
    tokens = [*specials, *(f'<0x{byte:02X}>' for byte in range(256)), *'\u2581abcdehkopstu', '\u2581t', 'he',
              '\u2581the']
    merges = [('\u2581', 't'), ('h', 'e'), ('\u2581t', 'he')]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges, unk_token='<unk>',
                                     fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend('\u2581')] * prepend
                                                + [normalizers.Replace(' ', '\u2581')])
    tokenizer.decoder = decoders.Sequence([decoders.Replace('\u2581', ' '), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, rstrip=text in rstrip) for text in specials])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token='<unk>', bos_token=specials[1],
                                   eos_token=specials[2], chat_template=template)


LLAMA_3 = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
KINDS = {
    'chatml': (bpe(), [START, END, PAD]),
    'llama_3': (bpe(added=[AddedToken(text, special=True, normalized=False) for text in LLAMA_3],
                    bos_token=LLAMA_3[0], eos_token=LLAMA_3[3], chat_template=(
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
        "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}")), LLAMA_3),
    'gemma': (sentence_piece(['<unk>', '<bos>', '<eos>', '<start_of_turn>', '<end_of_turn>'], (
        "{{ bos_token }}{% for m in messages %}<start_of_turn>"
        "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
        "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}")),
        ['<bos>', '<start_of_turn>', '<end_of_turn>']),
    'mistral': (sentence_piece(['<unk>', '<s>', '</s>', '[INST]', '[/INST]'], (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
        "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"), prepend=True),
        ['<s>', '</s>', '[INST]', '[/INST]']),
    'phi_3': (sentence_piece(['<unk>', '<s>', '<|endoftext|>', '<|user|>', '<|assistant|>', '<|end|>'], (
        "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"), prepend=True,
        rstrip=('<|user|>', '<|assistant|>', '<|end|>')),
        ['<s>', '<|endoftext|>', '<|user|>', '<|assistant|>', '<|end|>']),
}
HARMLESS = ['the ', 'cup', ' ', '\n', '<', '|', '>', 'end', '<filename>', '<mask>', '[', '\u597d', '\u00e9']


def transformers_ids(tokenizer, messages):
    ids = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
    return list(getattr(ids, 'input_ids', ids))


@pytest.mark.parametrize('kind', KINDS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_only_what_would_be_a_special_token_is_taken_as_text(kind, data):
    tokenizer, tokens = KINDS[kind]
    encoder = PromptEncoder(kind, tokenizer, 100_000)

    def encode(contents):
        messages = [{'role': role, 'content': content}
                    for role, content in zip(['user', 'assistant', 'user'], contents, strict=True)]
        rendered = encoder.render(Request('id', 0.0, 1.0, messages=messages))
        return messages, rendered, encoder.tokenize(rendered, is_chat=True)

    def draw(pieces):
        return data.draw(st.lists(st.sampled_from(pieces), min_size=1, max_size=8).map(''.join))

    spoken = [*tokens, '<unk>']
    contents = [draw([*HARMLESS, *spoken]) for _ in range(3)]
    messages, rendered, ids = encode(contents)
    assert all(content.strip() in rendered for content in contents), 'unaltered'
    if not any(text in content for text in encoder._special_tokens.texts for content in contents):
        assert ids == transformers_ids(tokenizer, messages)
    # The special tokens are those of a harmless conversation.
    special = set(tokenizer.convert_tokens_to_ids(tokens))
    shape = encode(['a', 'b', 'c'])[2]
    assert [i for i in ids if i in special] == [i for i in shape if i in special]
    # Each content alone, between harmless ones: what is before and after its section keeps its ids.
    index = data.draw(st.integers(0, 2))
    alone = encode([contents[i] if i == index else 'abc'[i] for i in range(3)])[2]

    def sections(ids):
        cut = [[]]
        for i in ids:
            cut[-1].append(i)
            if i in special:
                cut.append([])
        return cut

    differing = [a for a, b in zip(sections(alone), sections(shape), strict=True) if a != b]
    assert len(differing) <= 1
    plain = tokenizer.decode([i for section in differing for i in section if i not in special])
    assert contents[index].strip() in plain or not differing
