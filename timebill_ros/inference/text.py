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

"""From token ids to text while the tokens arrive: incremental decoding and stop strings."""
from __future__ import annotations

from collections.abc import Sequence

from timebill_ros.inference.token_bytes import byte_tokens, ends_inside_character, special_ids

# Tokens before a piece that are decoded with it, so that merges and spaces come out as in the whole text.
_CONTEXT = 6
_INCOMPLETE = '\ufffd'  # what tokenizers print for half of a multi-byte character
# A character has at most 4 bytes, so at most 3 of these marks at the end of a text may still become one character.
_MAX_INCOMPLETE = 3


def decode(tokenizer, ids: Sequence[int]) -> str:
    """Return the text of `ids`, without special tokens, spaces as the model wrote them.

    Half a character at the end, whose other bytes an answer that was cut lacks, is left out. Other bytes that make no
    character become U+FFFD.
    """
    text = _decode(tokenizer, ids)
    return text[:-1] if text.endswith(_INCOMPLETE) and ends_inside_character(tokenizer, ids) else text


def _decode(tokenizer, ids: Sequence[int]) -> str:
    """Return the text of `ids` with U+FFFD for bytes that make no character, half a character at the end included.

    Tokenizers with byte fallback (Llama 2, Gemma, Mistral) spell rare characters in tokens of one byte, and their own
    decoder gives up a whole run of such tokens where a single byte in it is wrong. Then half a character at the end
    would destroy all the characters before it.
    """
    ids = list(ids)
    of_bytes = byte_tokens(tokenizer)
    if of_bytes and not of_bytes.keys().isdisjoint(ids):
        backend, special = tokenizer.backend_tokenizer, special_ids(tokenizer)
        tokens = {i: backend.id_to_token(i) for i in ids}
        visible = [i for i in ids if i not in special and tokens[i] is not None]
        marked = _mark_invalid([tokens[i] for i in visible], [of_bytes.get(i) for i in visible])
        if _INCOMPLETE in marked:
            return backend.decoder.decode(marked)
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _mark_invalid(tokens: list[str], values: list[int | None]) -> list[str]:
    """Return `tokens` with U+FFFD in the place of byte tokens that make no character.

    `values[i]` is the byte that tokens[i] stands for, None for any other token.
    """
    marked, start = [], 0
    while start < len(tokens):
        end = start
        while end < len(tokens) and values[end] is not None:
            end += 1
        if start == end:
            marked.append(tokens[start])
            start += 1
            continue
        try:
            bytes(values[start:end]).decode()
            marked += tokens[start:end]
        except UnicodeDecodeError as error:
            marked += [*tokens[start:start + error.start], _INCOMPLETE]
            end = start + error.end
        start = end
    return marked


class TextStream:
    """Decodes a growing sequence piece by piece; the pieces concatenate to what `decode` makes of the whole.

    A piece is held back while it ends inside a character. Each call decodes only the last few tokens, so the cost per
    token does not grow with the answer. The sequence is ids[first:].
    """

    def __init__(self, tokenizer, first: int = 0):
        self._tokenizer = tokenizer
        # ids[_context:] are decoded again with the next piece. Their text begins with `_known`, which was given out.
        self._context, self._known = first, ''

    def advance(self, ids: Sequence[int], n: int, *, last: bool = False) -> str:
        """Return the text of ids[:n] that earlier calls have not returned.

        With `last`, nothing is held back for later tokens.
        """
        text = _decode(self._tokenizer, ids[self._context:n])
        sure = decode(self._tokenizer, ids[self._context:n]) if last else _certain(text, self._known)
        piece = sure[len(self._known):]
        if len(sure) > len(self._known):
            self._known = sure
        self._move_context(ids, n, text[len(self._known):])
        return piece

    def _move_context(self, ids: Sequence[int], n: int, held: str) -> None:
        """Let go of tokens before the last few, as long as the text of these shows what was given out."""
        context = n - _CONTEXT
        if context <= self._context:
            return
        text = _decode(self._tokenizer, ids[context:n])
        known = text.removesuffix(held) if held else text
        # Without visible text before it, the next word would be decoded as the first: without its space. And where the
        # context would begin inside the character that is held back, its text would differ.
        if known and known + held == text:
            self._context, self._known = context, known


def _certain(text: str, known: str) -> str:
    """Return as much of `text` as may be given out now: all, or `known` alone while it ends inside a character.

    Of bytes that never make a character, only the last few are held back.
    """
    incomplete = len(text) - len(text.rstrip(_INCOMPLETE))
    if not incomplete:
        return text
    return text[:-_MAX_INCOMPLETE] if incomplete > _MAX_INCOMPLETE else known


class StopStrings:
    """Finds the first stop string in a growing text, that of the tokens from the one with the index `first` on."""

    def __init__(self, tokenizer, stop: Sequence[str], first: int = 0):
        self._stream = TextStream(tokenizer, first)
        self._stop = tuple(stop)
        self.longest = max((len(s) for s in stop), default=0)
        self._tail = ''

    def hit(self, ids: Sequence[int], n: int) -> bool:
        """Return whether the text of ids[first:n] holds a stop string; that of ids[first:n-1] did not."""
        if not self._stop:
            return False
        self._tail += self._stream.advance(ids, n)
        found = any(s in self._tail for s in self._stop)
        self._tail = self._tail[-self.longest:]
        return found

    def cut(self, text: str) -> str:
        """Return `text` up to the first stop string in it, without that."""
        starts = [text.find(s) for s in self._stop if s in text]
        return text[:min(starts)] if starts else text
