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

"""The bytes that tokens stand for, where a tokenizer spells rare characters in bytes.

Two kinds of tokenizers do so. Byte-level ones (GPT-2, Qwen, Llama 3) write every token in an alphabet of 256
characters, one for each byte. Those with byte fallback (Llama 2, Gemma, Mistral) have 256 tokens "<0x00>" to "<0xFF>".
"""
from __future__ import annotations

import functools
from collections.abc import Sequence


@functools.lru_cache(maxsize=4)
def byte_tokens(tokenizer) -> dict[int, int]:
    """Return {token id: byte} of the tokens "<0x00>" to "<0xFF>"; empty for a tokenizer without byte fallback."""
    backend = getattr(tokenizer, 'backend_tokenizer', None)
    decoder = getattr(backend, 'decoder', None)
    if decoder is None or decoder.decode(['<0x41>']) != 'A':
        return {}
    found = {backend.token_to_id(f'<0x{byte:02X}>'): byte for byte in range(256)}
    return {token: byte for token, byte in found.items() if token is not None}


@functools.lru_cache(maxsize=4)
def special_ids(tokenizer) -> frozenset[int]:
    """Return the tokens that have no text in an answer."""
    return frozenset(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)


def byte_alphabet() -> dict[str, int]:
    """Return {character: byte} as byte-level tokenizers write bytes.

    Bytes that are visible in Latin-1 stand for themselves; the others have the characters from U+0100 on, as in GPT-2's
    encoder.py (bytes_to_unicode).
    """
    visible = {*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {**{chr(byte): byte for byte in visible}, **{chr(256 + i): byte for i, byte in enumerate(hidden)}}


_ALPHABET = byte_alphabet()


def ends_inside_character(tokenizer, ids: Sequence[int]) -> bool:
    """Whether the text of `ids` ends with the first bytes of a character that has more of them.

    False for a tokenizer of another kind than the two above.
    """
    fallback = byte_tokens(tokenizer)
    backend = getattr(tokenizer, 'backend_tokenizer', None)
    if not fallback and not _is_byte_level(backend):
        return False
    special, tail = special_ids(tokenizer), b''
    for i in reversed(ids):
        if i in special:
            continue
        piece = _fallback_bytes(fallback, i) if fallback else _written_bytes(backend.id_to_token(i))
        tail = piece + tail
        if not piece or len(tail) >= 3:  # a character has 4 bytes at most, so what is begun has 3
            break
    return any(_begins_character(tail[-n:]) for n in range(1, min(3, len(tail)) + 1))


def spells_bytes(tokenizer) -> bool:
    """Whether the tokenizer is of one of the two kinds: any text has a spelling in tokens that stand for its bytes."""
    return bool(byte_tokens(tokenizer)) or _is_byte_level(getattr(tokenizer, 'backend_tokenizer', None))


def _is_byte_level(backend) -> bool:
    decoder = getattr(backend, 'decoder', None)
    return decoder is not None and decoder.decode(['\u00c3\u00a9']) == '\u00e9'  # bytes C3 A9


def _fallback_bytes(tokens: dict[int, int], i: int) -> bytes:
    """Return the byte of a token of one byte; nothing for a token of whole characters."""
    return bytes([tokens[i]]) if i in tokens else b''


def _written_bytes(token: str | None) -> bytes:
    """Return the bytes of a token of a byte-level tokenizer; a token outside of its alphabet is ordinary text."""
    if not token:
        return b''
    return bytes(_ALPHABET[c] for c in token) if _ALPHABET.keys() >= set(token) else token.encode()


def _begins_character(part: bytes) -> bool:
    """Whether `part` is the beginning of the UTF-8 bytes of one character, and not the whole."""
    try:
        part.decode()
    except UnicodeDecodeError as error:
        return error.start == 0 and error.reason == 'unexpected end of data'
    return False
