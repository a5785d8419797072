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

"""Refusing a prompt that the context cannot hold before the whole is tokenized, which takes seconds for a megabyte."""
from __future__ import annotations

import json
from collections.abc import Callable

from tokenizers import pre_tokenizers

from timebill_ros.codes import ErrorCode, GoalError

# A text up to this length is tokenized at once: 0.15 s for emoji, which take longest, 0.02 s for English.
WHOLE_CHARACTERS = 32768
PIECE_CHARACTERS = 8192  # a longer one is counted in pieces, with a look between two: at most 0.04 s
# A cut comes apart in more tokens than the whole: at most as many as two words have characters. Tokenizers of words
# take a longer one for unknown, one token; those of bytes have no such limit, and lose a few tokens at a cut.
CUT_TOKENS = 256
MARGIN = 2  # the pieces must have this many times the tokens that fit: near the limit, the whole text decides

# Normalizers and pre-tokenizers after which the text is still there, or has grown. All others may shorten it.
_GROWING = ('Sequence', 'Prepend', 'Replace')
_SPLITTING = ('Sequence', 'ByteLevel', 'Digits', 'Metaspace', 'Punctuation', 'Split')


class PromptLength:
    """Tells of long texts whether they can fit a context of `max_context` tokens.

    What it counts serves to refuse only. The ids that a model reads are always those of the whole text.
    """

    def __init__(self, tokenizer, max_context: int):
        self._tokenizer, self._max_context = tokenizer, max_context
        facts = _facts(tokenizer)
        self._longest = longest_token_bytes(facts)
        self._cut_tokens = max(CUT_TOKENS, 2 * facts.get('model', {}).get('max_input_chars_per_word', 0))

    def check(self, text: str, should_stop: Callable[[], bool]) -> bool:
        """Return True where the text may fit, False where `should_stop`, asked before each piece, said so.

        GoalError where the text certainly does not fit.
        """
        if len(text) <= WHOLE_CHARACTERS:
            return True
        if self._longest is not None:
            least = -(-len(text.encode(errors='surrogatepass')) // self._longest)
            if least >= self._max_context:
                raise self._too_long(f'{len(text)} characters, which are {least} tokens or more')
        n_tokens = 0
        for n_pieces, start in enumerate(range(0, len(text), PIECE_CHARACTERS), 1):
            if should_stop():
                return False
            piece = text[start:start + PIECE_CHARACTERS]
            n_tokens += len(self._tokenizer(piece, add_special_tokens=False, verbose=False)['input_ids'])
            if n_tokens - self._cut_tokens * n_pieces >= MARGIN * self._max_context:
                raise self._too_long(f'{len(text)} characters; the first {start + len(piece)} of them alone are about '
                                     f'{n_tokens} tokens')
        return not should_stop()

    def _too_long(self, size: str) -> GoalError:
        return GoalError(ErrorCode.PROMPT_TOO_LONG, f'the prompt has {size}; with room for one more, at most '
                         f'{self._max_context - 1} tokens fit the context of {self._max_context}')


def _facts(tokenizer) -> dict:
    backend = getattr(tokenizer, 'backend_tokenizer', None)
    return json.loads(backend.to_str()) if backend is not None else {}


def longest_token_bytes(facts: dict) -> int | None:
    """Return how many bytes of text one token stands for at most; None where there may be no such bound.

    `facts`: the content of a tokenizer.json. There is a bound where the tokens spell every byte of the text: BPE on
    bytes, or with a token for each byte (SentencePiece's byte fallback). Tokenizers of words take any unknown word for
    one token, and drop white space. So may normalizers, and added tokens that take the space around them.
    """
    model = facts.get('model', {})
    if model.get('type') != 'BPE' or any(token['lstrip'] or token['rstrip'] for token in facts['added_tokens']):
        return None
    steps = _steps(facts.get('pre_tokenizer'))
    if not all(_grows(step) for step in _steps(facts.get('normalizer'))):
        return None
    if not all(step['type'] in _SPLITTING and step.get('behavior') != 'Removed' for step in steps):
        return None
    texts = model['vocab'].keys()
    if any(step['type'] == 'ByteLevel' for step in steps):
        if not texts >= set(pre_tokenizers.ByteLevel.alphabet()):
            return None
        longest = max(map(len, texts))  # one character of such a token stands for one byte
    elif model.get('byte_fallback') and texts >= {f'<0x{byte:02X}>' for byte in range(256)}:
        longest = max(len(text.encode()) for text in texts)
    else:
        return None
    return max([longest, *(len(token['content'].encode()) for token in facts['added_tokens'])])


def _steps(part: dict | None) -> list[dict]:
    """Return the steps of a normalizer or pre-tokenizer, which may be sequences of others."""
    if part is None:
        return []
    inner = part.get('normalizers') or part.get('pretokenizers') or []
    return [part, *(step for one in inner for step in _steps(one))]


def _grows(normalizer: dict) -> bool:
    if normalizer['type'] == 'Replace':  # a space by SentencePiece's mark for it, for instance
        replaced = normalizer['pattern'].get('String')
        return replaced is not None and len(normalizer['content'].encode()) >= len(replaced.encode())
    return normalizer['type'] in _GROWING
