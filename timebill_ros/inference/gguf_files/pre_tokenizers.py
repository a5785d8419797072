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

"""How byte-level BPE tokenizers cut a text into words before they merge bytes: one row for each name in GGUF files.

A GGUF file gives only the name (`tokenizer.ggml.pre`). What a name stands for is defined by llama.cpp
(src/llama-vocab.cpp), which took the patterns from the tokenizer.json of the models. In each row the patterns are
applied one after the other, each to the pieces that the one before has left.
"""
from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Regex, pre_tokenizers

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r'\s*[\r\n]+|\s+(?!\S)|\s+'
# Letters of which the last part is not upper case, then those of which the first part is not lower case.
_UPPER, _LOWER = r'[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]', r'[\p{Ll}\p{Lm}\p{Lo}\p{M}]'

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
ONE_DIGIT = r'\p{N}'


def _words(digits: str, *, contractions: str = _CONTRACTIONS + '|') -> str:
    """Return the pattern of Llama 3 and Qwen 2, which differ in how they group `digits`."""
    return contractions + r'[^\r\n\p{L}\p{N}]?\p{L}+|' + digits + r'| ?[^\s\p{L}\p{N}]+[\r\n]*|' + _SPACES


def _cased_words(digits: str, *, after: str = '') -> str:
    """Return the pattern that also cuts where lower case becomes upper case; `after`: what may follow a word."""
    first = r'[^\r\n\p{L}\p{N}]?'
    return (f'{first}{_UPPER}*{_LOWER}+{after}|{first}{_UPPER}+{_LOWER}*{after}|{digits}'
            r'| ?[^\s\p{L}\p{N}]+[\r\n/]*|' + _SPACES)


@dataclass(frozen=True)
class PreTokenizer:
    """`patterns`: see the head of this file. `ignore_merges`: a word that is a token is taken whole, merges or not.

    `adds_bos`: what holds where a file does not say whether BOS is added.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    adds_bos: bool = False

    def build(self) -> pre_tokenizers.PreTokenizer:
        """Return the pre-tokenizer; it also turns bytes into the characters that byte-level vocabularies use."""
        cuts = [pre_tokenizers.Split(Regex(pattern), behavior='isolated') for pattern in self.patterns]
        return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


_GPT2 = PreTokenizer((GPT2,))
_DIGITS_THEN_GPT2 = PreTokenizer((ONE_DIGIT, GPT2))
_LLAMA3 = PreTokenizer((_words(r'\p{N}{1,3}'),), ignore_merges=True, adds_bos=True)
_LLAMA3_WORDS = PreTokenizer((_words(r'\p{N}{1,3}'),))
_QWEN2 = PreTokenizer((_words(ONE_DIGIT),))
_GPT4O = PreTokenizer((_cased_words(r'\p{N}{1,3}', after=_CONTRACTIONS + '?'),))

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    **dict.fromkeys(('gpt-2', 'phi-2', 'mpt', 'olmo', 'jais', 'trillion', 'granite-docling', 'exaone4', 'gigachat',
                     'mellum', 'a.x-4.0'), _GPT2),
    **dict.fromkeys(('smollm', 'starcoder', 'refact', 'command-r', 'codeshell', 'exaone', 'minerva-7b'),
                    _DIGITS_THEN_GPT2),
    **dict.fromkeys(('llama3', 'llama-v3', 'llama-bpe', 'falcon3', 'falcon-h1', 'pixtral', 'midm-2.0', 'lfm2'),
                    _LLAMA3),
    **dict.fromkeys(('dbrx', 'smaug-bpe', 'glm4', 'chatglm-bpe'), _LLAMA3_WORDS),
    **dict.fromkeys(('qwen2', 'deepseek-r1-qwen', 'megrez', 'stablelm2', 'hunyuan'), _QWEN2),
    'qwen35': PreTokenizer((_CONTRACTIONS + r'|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}'
                            r'| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|' + _SPACES,)),
    **dict.fromkeys(('gpt-4o', 'llama4'), _GPT4O),
    'tekken': PreTokenizer((_cased_words(ONE_DIGIT),), ignore_merges=True, adds_bos=True),
    'falcon': PreTokenizer((r'[\p{P}\$\+<=>\^~\|`]+', GPT2, '[0-9][0-9][0-9]')),
    'deepseek-coder': PreTokenizer(('[\r\n]', r'\s?\p{L}+', r'\s?\p{P}+', '[一-龥ࠀ-一가-퟿]+', ONE_DIGIT)),
    'deepseek-v3': PreTokenizer((
        r'\p{N}{1,3}', '[一-龥぀-ゟ゠-ヿ]+',
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        r'| ?[\p{P}\p{S}]+[\r\n]*|' + _SPACES)),
    **dict.fromkeys(('bloom', 'poro-chat', 'gpt3-finnish'), PreTokenizer((r' ?[^(\s|.,!?…。，、।۔،)]+',))),
    'viking': PreTokenizer((r' ?[^(\s|.,!?…。，、।۔،)]+', ONE_DIGIT)),
}
