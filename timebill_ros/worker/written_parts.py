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

"""What of an answer can be sent while it is written: pieces of reasoning, of text and of calls of tools.

The pieces of one part concatenate to that part of the result, but for white space at its ends. Text that was sent
cannot be taken back, so what may become a stop text or a marker is held back until that is certain.
"""
from __future__ import annotations

from timebill_ros.codes import Part
from timebill_ros.inference.chat_facts import ChatFacts
from timebill_ros.inference.control import Control
from timebill_ros.inference.text import TextStream
from timebill_ros.request import Request

Pieces = list[tuple[Part, str]]


class WrittenParts:
    """Splits the tokens of one running answer into parts; `advance` is called again and again, from one thread."""

    def __init__(self, tokenizer, request: Request, control: Control, chat: ChatFacts):
        self._tokenizer, self._control = tokenizer, control
        self._thinking = _Text(tokenizer, 0, Part.REASONING, [chat.thinking.close_marker] if chat.thinking else [])
        self._stop = request.sampling.stop
        self._calls = chat.calls if request.tools else None
        self._answer: _Text | None = None
        self._call: _Text | None = None

    def advance(self, n: int) -> Pieces:
        """Return what can be sent now that there are `n` tokens."""
        thought, tokens = self._control.thought, self._control.tokens
        if self._control.thinks and not thought:
            return self._thinking.advance(tokens, n)
        pieces: Pieces = []
        if self._answer is None:
            if thought:
                pieces = self._thinking.advance(tokens, thought, last=True)
            marker = self._calls.marker if self._calls else ''
            self._answer = _Text(self._tokenizer, thought, Part.TEXT, [*self._stop, *([marker] if marker else [])])
        return pieces + self._of_answer(tokens, thought, n)

    def _of_answer(self, tokens: list[int], first: int, n: int) -> Pieces:
        if self._call is None and self._calls is not None:
            at = self._calls_at(tokens, first, n)
            if at is not None:
                before = self._answer.advance(tokens, at, last=True)
                self._call = _Text(self._tokenizer, at, Part.TOOL_CALL, [])
                return before + self._call.advance(tokens, n)
        if self._call is not None:
            return self._call.advance(tokens, n)
        pieces = self._answer.advance(tokens, n)
        if self._calls is not None and self._answer.behind is not None:  # the marker is spelled in several tokens
            self._call = _Text(self._tokenizer, n, Part.TOOL_CALL, [])
            pieces.append((Part.TOOL_CALL, self._answer.behind))
        return pieces

    def _calls_at(self, tokens: list[int], first: int, n: int) -> int | None:
        """Return the index of the token that calls begin with; None: none has come, or they begin within a token."""
        marker = self._calls.marker
        if not marker:
            text = self._tokenizer.decode(tokens[first:first + 1]) if n > first else ''
            begins = bool(text) and self._calls.start(text) == 0
            return first if begins else None
        mark_id = self._tokenizer.get_added_vocab().get(marker)
        return None if mark_id is None or mark_id not in tokens[first:n] else tokens.index(mark_id, first, n)


class _Text:
    """The text of the tokens from `first` on, up to the first of `ends` in it. `behind`: that and what follows."""

    def __init__(self, tokenizer, first: int, part: Part, ends: list[str]):
        self._stream, self._part, self._ends = TextStream(tokenizer, first), part, ends
        self._hold = max((len(end) for end in ends), default=1) - 1
        self._held, self._begun = '', part is Part.TOOL_CALL or part is Part.TEXT and not first
        self.behind: str | None = None

    def advance(self, tokens: list[int], n: int, *, last: bool = False) -> Pieces:
        """Return the new text of tokens[:n] as a list of one piece or none; with `last`, nothing is held back."""
        if self.behind is not None:
            return []
        self._held += self._stream.advance(tokens, n, last=last)
        found = [at for end in self._ends if (at := self._held.find(end)) >= 0]
        cut = min([len(self._held) - (0 if last else self._hold), *found])
        text, rest = self._held[:max(cut, 0)], self._held[max(cut, 0):]
        if found and cut == min(found):
            self.behind = rest
        self._held = rest
        if not self._begun:  # white space before it is no part of it
            text = text.lstrip()
            self._begun = bool(text)
        return [(self._part, text)] if text else []
