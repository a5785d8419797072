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

# Tokens before a piece that are decoded with it, so that merges and spaces come out as in the whole text.
_CONTEXT = 6
_INCOMPLETE = '\ufffd'  # what tokenizers print for half of a multi-byte character


def decode(tokenizer, ids: Sequence[int]) -> str:
    """Return the text of `ids`, without special tokens, spaces as the model wrote them."""
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


class TextStream:
    """Decodes a growing sequence piece by piece; the pieces concatenate to the decoded whole.

    A piece is held back while it ends inside a character. Each call decodes only the last few tokens, so the cost per
    token does not grow with the answer.
    """

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        # ids[_context:_done] have been given out, and are decoded again with the next piece, as its context.
        self._context, self._done = 0, 0

    def advance(self, ids: Sequence[int], n: int, *, last: bool = False) -> str:
        """Return the text of ids[:n] that earlier calls have not returned. With `last`, nothing is held back."""
        known = decode(self._tokenizer, ids[self._context:self._done])
        text = decode(self._tokenizer, ids[self._context:n])
        if (text.endswith(_INCOMPLETE) and not last) or len(text) <= len(known):
            return ''
        self._context, self._done = max(self._context, n - _CONTEXT, 0), n
        return text[len(known):]


class StopStrings:
    """Finds the first stop string in a growing text."""

    def __init__(self, tokenizer, stop: Sequence[str]):
        self._stream = TextStream(tokenizer)
        self._stop = tuple(stop)
        self.longest = max((len(s) for s in stop), default=0)
        self._tail = ''

    def hit(self, ids: Sequence[int], n: int) -> bool:
        """Return whether the text of ids[:n] holds a stop string; that of ids[:n-1] did not."""
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
