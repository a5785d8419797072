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

"""The bytes behind tokens, as the tokenizers themselves spell them."""
import pytest
from test_text import TOKENIZERS
from tokenizers import pre_tokenizers

from timebill_ros.inference.token_bytes import byte_alphabet, byte_tokens, ends_inside_character


def test_the_alphabet_is_that_of_byte_level_tokenizers():
    alphabet, split = byte_alphabet(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    assert set(alphabet) == set(pre_tokenizers.ByteLevel.alphabet()) and set(alphabet.values()) == set(range(256))
    for text in ('\u00e9', ' a\n', '\u597d\u7684', '\U0001f98a', '\u07ff\u0080'):
        assert bytes(alphabet[c] for c in split.pre_tokenize_str(text)[0][0]) == text.encode()


@pytest.mark.parametrize('character', ['\u0080', '\u07ff', '\u0800', '\ud7ff', '\uffff', '\U00010000', '\U0010ffff'])
def test_every_beginning_of_a_character_is_told_from_the_whole(character):
    """The first and the last of two, three and four bytes, among them those whose second byte is bounded."""
    tokenizer, spelled = TOKENIZERS['llama_2'], character.encode()
    ids = [tokenizer.convert_tokens_to_ids(f'<0x{byte:02X}>') for byte in spelled]
    said = [ends_inside_character(tokenizer, ids[:n]) for n in range(len(ids) + 1)]
    assert said == [False, *[True] * (len(ids) - 1), False]
    end = tokenizer.eos_token_id
    assert ends_inside_character(tokenizer, [*ids[:1], end]), 'a special token has no text'


def test_other_tokenizers_have_no_bytes():
    assert byte_tokens(TOKENIZERS['word_level']) == {}
    assert not ends_inside_character(TOKENIZERS['word_level'], [1, 2])
    assert not ends_inside_character(object(), [1, 2])
