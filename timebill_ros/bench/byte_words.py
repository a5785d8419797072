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

"""A byte-level vocabulary of any size, made up: for measurements that depend on how many words there are.

Its words are letters, in pairs and with and without a space before them, as in the vocabularies of real models; besides
there are all bytes, numbers, and what JSON is written with.
"""
from __future__ import annotations

import random
from collections.abc import Iterator
from string import ascii_lowercase, digits

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from timebill_ros.inference.token_bytes import byte_alphabet

END = '<eos>'  # token 0, as the shapes have it
LEAST = 300  # words
_JSON = ('":', '",', '{"', '"}', ' "', '  ', '[{', '["', '"]', '}]', '},', ': ', ', ', ('":', ' "'), ('",', ' "'),
         ('  ', '  '), ('},', ' '))


def tokenizer(n: int, seed: int = 0) -> PreTrainedTokenizerFast:
    """Return a tokenizer of `n` tokens, END among them. ValueError for fewer than LEAST."""
    if n < LEAST:
        raise ValueError(f'a vocabulary of bytes needs {LEAST} words or more, got {n}')
    spelled = {byte: character for character, byte in byte_alphabet().items()}
    words = {END: 0, **{character: i for i, character in enumerate(spelled.values(), 1)}}
    merges = []
    for left, right in _merges(random.Random(seed)):
        if len(words) == n:
            break
        pair = tuple(''.join(spelled[byte] for byte in part.encode('latin-1')) for part in (left, right))
        if ''.join(pair) not in words:
            words[''.join(pair)] = len(words)
            merges.append(pair)
    backend = Tokenizer(models.BPE(words, merges))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END)


def _merges(draw: random.Random) -> Iterator[tuple[str, str]]:
    """Yield pairs of texts, one character for each byte, that become one word; each part is a word before."""
    for piece in _JSON:
        yield tuple(piece)
    yield from ((a, b) for a in digits for b in digits)
    yield from (('\u00c3', chr(0x80 + i)) for i in range(64))  # the bytes of accented letters
    pairs = [a + b for a in ascii_lowercase for b in ascii_lowercase]
    yield from ((pair[0], pair[1]) for pair in pairs)
    yield from ((' ', pair) for pair in pairs)
    while True:
        first, second, third = draw.choices(pairs, k=3)
        yield first, second
        yield ' ' + first, second
        yield first + second, third
