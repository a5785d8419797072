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

"""Vocabularies as llguidance takes them: the bytes that each token stands for.

The library reads a tokenizer's own file, so that text which is forced is spelled as the model would spell it. It knows
two kinds of tokenizers, those that token_bytes.py describes. For other kinds the text of a token depends on the tokens
around it, so no grammar over bytes can be followed.
"""
from __future__ import annotations

from collections.abc import Collection, Sequence

from timebill_ros.inference.token_bytes import spells_bytes

INSTALL = 'pip install "timebill_ros[structured]" (llguidance 1.9.1) in the environment of worker_python'
N_BYTES = 0xf8  # bytes of UTF-8 are smaller than this
BYTES_END = N_BYTES  # the token that ends an answer in the vocabulary of single bytes


class GrammarsUnavailable(Exception):
    """Answers here cannot be given a form; the sentence says why, and what to do."""


def library():
    """Return the module llguidance. GrammarsUnavailable, with what to install, where there is none."""
    try:
        import llguidance
    except ImportError as error:
        raise GrammarsUnavailable(f'the inference process has no library llguidance ({error}): {INSTALL}') from error
    return llguidance


def of_tokenizer(tokenizer, n_tokens: int, eos_ids: Collection[int]):
    """Return the LLTokenizer of a Hugging Face tokenizer. `n_tokens`: logits that the model gives.

    GrammarsUnavailable for a tokenizer of another kind than the two. This takes up to a second.
    """
    found = library()
    backend = getattr(tokenizer, 'backend_tokenizer', None)
    if backend is None or not spells_bytes(tokenizer):
        raise GrammarsUnavailable('the tokenizer of this model writes words, not bytes: only tokenizers that spell any '
                                  'text in bytes (byte-level BPE, or SentencePiece with byte fallback) can follow a '
                                  'form')
    copy = type(backend).from_str(backend.to_str())
    copy.no_padding()
    copy.no_truncation()
    try:
        return found.LLTokenizer(copy.to_str(), n_vocab=max(n_tokens, copy.get_vocab_size()),
                                 eos_token=sorted(eos_ids))
    except Exception as error:  # the library raises errors of several kinds for what it does not know
        raise GrammarsUnavailable(f'llguidance cannot read the tokenizer of this model: {str(error)[:300]}') from error


class _Spelled:
    """What llguidance asks of a tokenizer that it does not know: the bytes of each token, and how text is spelled."""

    bos_token_id = None

    def __init__(self, tokens: Sequence[bytes], eos_id: int):
        self.tokens, self.eos_token_id, self.special_token_ids = list(tokens), eos_id, [eos_id]
        self._ids = {piece: i for i, piece in enumerate(self.tokens) if i != eos_id}

    def __call__(self, text: bytes | str) -> list[int]:
        data = text.encode() if isinstance(text, str) else bytes(text)
        return [self._ids[bytes([byte])] for byte in data]


def of_bytes(tokens: Sequence[bytes], eos_id: int):
    """Return the LLTokenizer of `tokens`, among which is each byte that UTF-8 has; `eos_id` ends an answer."""
    found = library()
    return found.LLTokenizer(found.TokenizerWrapper(_Spelled(tokens, eos_id)), slices=[])


def single_bytes():
    """Return the vocabulary in which token i is the byte i, and BYTES_END ends an answer."""
    return of_bytes([*(bytes([byte]) for byte in range(N_BYTES)), b'<end>'], BYTES_END)
