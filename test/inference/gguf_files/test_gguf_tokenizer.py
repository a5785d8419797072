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

"""Tokenizers rebuilt from GGUF files give the ids of llama.cpp, which are committed: see make_llama_ids.py."""
import json
from pathlib import Path

import gguf
import pytest
import tiny_gguf

from timebill_ros.inference.gguf_files.gguf_file import GgufFile
from timebill_ros.inference.gguf_files.gguf_tokenizer import end_ids, rebuild_tokenizer
from timebill_ros.inference.gguf_files.pre_tokenizers import PRE_TOKENIZERS
from timebill_ros.inference.model_directory import ModelError

HERE = Path(__file__).parent
TEXTS = json.loads((HERE / 'texts.json').read_text())
LLAMA_IDS = json.loads((HERE / 'llama_ids.json').read_text())


def rebuilt(path: Path):
    return rebuild_tokenizer(GgufFile(path))


def with_vocabulary(path: Path, add, **options) -> Path:
    writer = gguf.GGUFWriter(path, 'llama')
    add(writer, **options)
    return tiny_gguf._written(writer, path)


@pytest.fixture(scope='module', params=tiny_gguf.KINDS)
def kind(request, tmp_path_factory):
    """The name of a kind of tokenizer, and the tokenizer."""
    path = tmp_path_factory.mktemp('vocabulary') / 'vocabulary.gguf'
    return request.param, rebuilt(tiny_gguf.vocabulary_only(path, request.param))


def test_ids_are_those_of_llama_cpp(kind):
    name, tokenizer = kind
    expected = LLAMA_IDS[name]
    assert len(expected) >= 100
    ours = tokenizer(TEXTS[:len(expected)], add_special_tokens=False)['input_ids']
    wrong = [text for text, got, want in zip(TEXTS, ours, expected, strict=False) if got != want]
    # llama.cpp leaves the combining marks out of these two patterns, which the tokenizer.json of the models has.
    assert wrong == (['e\u0301 a\u0308 n\u0303 (combining)'] if name in ('gpt-4o', 'tekken') else [])


def test_text_comes_back_from_its_ids(kind):
    name, tokenizer = kind
    sentencepiece = name in ('llama', 'gemma')  # which has one character for spaces and for itself
    for text in TEXTS:
        if name == 'llama' and any(token in text for token in ('<s>', '</s>', '<unk>')):
            continue  # a space is put before what follows such a token, and stays there
        ids = tokenizer(text, add_special_tokens=False)['input_ids']
        back = tokenizer.decode(ids, skip_special_tokens=False)
        assert back == (text.replace('\u2581', ' ') if sentencepiece else text)


def test_kinds_differ():
    """Every row of the table cuts at least one of the texts in another way than all other rows."""
    rows = [json.dumps(ids) for ids in LLAMA_IDS.values()]
    assert len(set(rows)) == len(rows)


def test_every_name_builds_a_pre_tokenizer():
    for name, pre_tokenizer in PRE_TOKENIZERS.items():
        pieces = [text for text, _ in pre_tokenizer.build().pre_tokenize_str("It's 12345 o'clock,\n\n 東京!")]
        assert ''.join(pieces).startswith("It's") and len(pieces) > 4, name


@pytest.mark.parametrize(('add', 'options', 'begins'), [
    (tiny_gguf.byte_level, {'pre': 'smollm'}, False), (tiny_gguf.byte_level, {'pre': 'smollm', 'add_bos': True}, True),
    (tiny_gguf.byte_level, {'pre': 'llama-bpe'}, True),
    (tiny_gguf.byte_level, {'pre': 'llama-bpe', 'add_bos': False}, False),
    (tiny_gguf.sentencepiece, {}, True), (tiny_gguf.sentencepiece, {'add_bos': False}, False)])
def test_bos_is_added_as_the_file_says_or_else_as_its_kind_does(add, options, begins, tmp_path):
    tokenizer = rebuilt(with_vocabulary(tmp_path / 'v.gguf', add, **options))
    plain = tokenizer('robot', add_special_tokens=False)['input_ids']
    assert tokenizer('robot')['input_ids'] == ([tokenizer.bos_token_id] if begins else []) + plain


def test_special_tokens_template_and_ends_are_the_files_own(tmp_path):
    path = with_vocabulary(tmp_path / 'v.gguf', tiny_gguf.byte_level, pre='qwen2', eot=0)
    tokenizer = rebuilt(path)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token) == (
        '<|im_start|>', '<|im_end|>', '<|endoftext|>')
    assert end_ids(GgufFile(path)) == [0, 2]
    text = tokenizer.apply_chat_template([{'role': 'user', 'content': 'Go.'}], tokenize=False,
                                         add_generation_prompt=True)
    assert text == '<|im_start|>user\nGo.<|im_end|>\n<|im_start|>assistant\n'
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    assert special == set(tiny_gguf.CONTROL)
    assert len(tokenizer) == len(GgufFile(path).get('tokenizer.ggml.tokens'))


def test_it_is_the_same_after_it_was_saved(kind, tmp_path):
    from timebill_ros.inference.tokenizer import load_tokenizer
    _, tokenizer = kind
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again(TEXTS)['input_ids'] == tokenizer(TEXTS)['input_ids']
    assert again.eos_token_id == tokenizer.eos_token_id and again.chat_template == tokenizer.chat_template


@pytest.mark.parametrize(('pre', 'said'), [('', "in the way ''"), ('kimi-k2', "in the way 'kimi-k2'")])
def test_an_unknown_way_to_cut_words_is_refused(pre, said, tmp_path):
    path = with_vocabulary(tmp_path / 'v.gguf', tiny_gguf.byte_level, pre=pre)
    with pytest.raises(ModelError, match=f'{said}.*known are .*smollm.*Name a directory'):
        rebuilt(path)


def test_another_kind_of_tokenizer_is_refused(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / 'v.gguf', 'bert')
    writer.add_tokenizer_model('bert')
    writer.add_token_list(['a', 'b'])
    with pytest.raises(ModelError, match="of the kind 'bert'"):
        rebuilt(tiny_gguf._written(writer, tmp_path / 'v.gguf'))


def test_markers_of_phi_3_take_the_line_end_that_its_template_writes(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / 'v.gguf', 'phi3')
    tiny_gguf.sentencepiece(writer)
    tokenizer = rebuilt(tiny_gguf._written(writer, tmp_path / 'v.gguf'))
    assert tokenizer('</s>\n\nGo', add_special_tokens=False)['input_ids'] == \
        tokenizer('</s>Go', add_special_tokens=False)['input_ids']
