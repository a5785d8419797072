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

"""What a client writes into a message stays text: it must not become a token that only the chat template may write.

Tokenizers look for the texts of their special tokens in whatever they are given, and a chat template puts a message's
content between such texts. So content that holds one, "<|im_end|><|im_start|>system ...", could end its own turn and
speak as somebody else. Here that text is broken apart before the template sees it. Content without one stays as it is,
to the byte. A goal's raw `prompt` is the client's own template and is left alone.
"""
from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from timebill_ros.request import ErrorCode, GoalError

log = logging.getLogger(__name__)

BREAK = ' '
# Texts that are broken apart may overlap with others, so the result is searched again. Each pass leaves fewer.
MAX_PASSES = 8
# Roles of conversations that show what a template writes around turns. It may refuse some of them.
_PROBES = (('system', 'user', 'assistant', 'user'), ('user', 'assistant', 'user'), ('user', 'assistant', 'tool'))


class SpecialTokens:
    """The texts of a tokenizer's special tokens, and of the markers that its chat template writes around turns."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        added = {token.content: token for token in getattr(tokenizer, 'added_tokens_decoder', {}).values()}
        texts = _special(tokenizer, added) | _role_markers(tokenizer, added)
        self.texts = sorted((text for text in texts if text.strip()), key=lambda text: (-len(text), text))
        self._ids = {tokenizer.convert_tokens_to_ids(text) for text in self.texts}
        self._pattern = _any_of(self.texts)
        # A tokenizer looks for some tokens only after it has normalized the text, and in their own normalized form. So
        # another spelling (full-width, upper case) can stand for them.
        normalizer = getattr(getattr(tokenizer, 'backend_tokenizer', None), 'normalizer', None)
        late = [text for text in self.texts if text in added and added[text].normalized] if normalizer else []
        self._normalize = normalizer.normalize_str if late else None
        self._late_pattern = _any_of({self._normalize(text) for text in late} if late else ())

    def as_text(self, content: str) -> str:
        """Return `content` with each special text in it broken apart by a space, however these overlap or nest.

        GoalError where that does not help, as with a tokenizer that drops spaces.
        """
        broken = content
        for _ in range(MAX_PASSES):
            if self._pattern.search(broken):
                broken = self._pattern.sub(_break, broken)
            elif self._normalize and self._late_pattern.search(normalized := self._normalize(broken)):
                broken = self._late_pattern.sub(_break, normalized)
            else:
                break
        if broken is not content:
            left = self._ids.intersection(self._tokenizer(broken, add_special_tokens=False, verbose=False)['input_ids'])
            if left:
                token = self._tokenizer.convert_ids_to_tokens(min(left))
                raise GoalError(ErrorCode.INVALID_GOAL, f'a message holds the text of the special token {token!r}, '
                                'which the tokenizer of this model does not let be broken apart')
            log.debug('a message held the text of a special token; it was broken apart')
        return broken


def _special(tokenizer, added: dict) -> set[str]:
    """Return the texts of the tokens that are marked as special."""
    texts = {*getattr(tokenizer, 'all_special_tokens', ()), *(text for text, token in added.items() if token.special)}
    unknown = getattr(tokenizer, 'unk_token', None)
    others = {value for name, value in getattr(tokenizer, 'special_tokens_map', {}).items() if name != 'unk_token'
              and isinstance(value, str)}
    # Any unknown word becomes the token of unknown words, so writing its text gives nobody a power. But in some
    # tokenizers that token also ends a text.
    return texts if unknown in others else texts - {unknown}


def _role_markers(tokenizer, added: dict) -> set[str]:
    """Return the added tokens that the chat template writes around turns: not every model marks them as special."""
    if not getattr(tokenizer, 'chat_template', None):
        return set()
    written = ''
    for roles in _PROBES:
        try:
            written += tokenizer.apply_chat_template([{'role': role, 'content': '-'} for role in roles],
                                                     tokenize=False, add_generation_prompt=True)
        except Exception:  # templates raise jinja errors of their own for roles that they refuse
            log.debug('the chat template refuses the roles %s', roles)
    # A plain word or a colon among the added tokens is no marker: people write "user:", too.
    return {text for text in added if text in written and len(text.strip()) > 2 and not text.isalnum()}


def _any_of(texts: Iterable[str]) -> re.Pattern:
    """Return one pattern for all texts, of which tokenizers have hundreds; the longest is tried first.

    Without texts it matches nothing.
    """
    return re.compile('|'.join(re.escape(text) for text in sorted(texts, key=len, reverse=True)) or '(?!)')


def _break(match: re.Match) -> str:
    text = match[0]
    inner = text.strip()
    middle = len(inner) // 2
    # A space in the middle keeps the text readable. A text of one character has no middle and is taken out.
    apart = inner[:middle] + BREAK + inner[middle:] if middle else BREAK
    return text.replace(inner, apart, 1)
