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

"""Reads a streamed answer in OpenAI's form, and trusts nothing of it. Pure: bytes go in, pieces of text come out.

A stream is lines of UTF-8, of which those that begin with "data:" hold a JSON object each, the last one "[DONE]".
"""
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

LONGEST_LINE = 1 << 20  # bytes
CHARACTERS_PER_TOKEN = 64  # longest text that is taken, for each token that was asked for
FEWEST_CHARACTERS = 4096
MOST_CHARACTERS = 1 << 22  # of an answer, whatever number of tokens a goal allows: the node holds them
# How a whole answer ends, in OpenAI's words. Older servers have words of their own for `stop`.
FINISHED = {'stop': 'stop', 'length': 'length', 'eos_token': 'stop', 'stop_sequence': 'stop'}
DECLINED = ('content_filter', 'tool_calls', 'function_call')  # ends of what is no text for this goal
ABOUT_THE_REQUEST = (400, 413, 422)  # codes of HTTP: the server is well, and does not take this request
BOM = b'\xef\xbb\xbf'  # may stand before the first line


class Nonsense(ValueError):
    """The server has sent what is no answer."""


class Declined(Nonsense):
    """The server is well, and has no text for this goal."""


class Piece(NamedTuple):
    """A part of an answer. `text` may be empty where the model thinks; `finish` says how the answer ended."""

    text: str = ''
    finish: str = ''


class AnswerStream:
    """Takes a stream as it comes. `most_tokens`: of the goal. Every method raises Nonsense for what is no answer."""

    def __init__(self, most_tokens: int):
        self._left = min(MOST_CHARACTERS, max(FEWEST_CHARACTERS, CHARACTERS_PER_TOKEN * most_tokens))
        self._bytes = b''  # of a line that has not ended
        self._is_first = True  # no line has ended yet
        self._high = ''  # the first half of a character beyond U+FFFF, whose second half is still to come
        self.is_finished = False

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Yield the pieces that end in `data`."""
        *lines, self._bytes = (self._bytes + data).split(b'\n')
        if len(self._bytes) > LONGEST_LINE:
            raise Nonsense(f'a line of more than {LONGEST_LINE} bytes')
        for line in lines:
            if self._is_first:
                line, self._is_first = line.removeprefix(BOM), False
            if line.startswith(b'data:') and not self.is_finished:
                content = line[len(b'data:'):].strip()
                if content == b'[DONE]':
                    raise Nonsense('the stream ended without a finish_reason')
                yield from self._piece(content)

    def _piece(self, content: bytes) -> Iterator[Piece]:
        try:
            event = json.loads(content.decode())
        except (ValueError, RecursionError):
            raise Nonsense(f'no JSON: {content[:60]!r}') from None
        if not isinstance(event, dict):
            raise Nonsense(f'no JSON object: {content[:60]!r}')
        if error := event.get('error'):
            is_declined = isinstance(error, dict) and error.get('code') in ABOUT_THE_REQUEST
            raise (Declined if is_declined else Nonsense)(f'an error: {str(error)[:200]}')
        choices = event.get('choices')
        if choices is None and 'usage' in event:
            return
        if not isinstance(choices, list):
            raise Nonsense(f'no choices: {content[:60]!r}')
        for choice in choices[:1]:  # none where usage is told
            if not isinstance(choice, dict):
                raise Nonsense(f'a choice that is no object: {content[:60]!r}')
            text, thinks = _text_of(choice)
            text = self._whole_characters(text)
            finish = choice.get('finish_reason') or ''
            if finish:
                finish = self._end(finish)
            if text or thinks or finish:
                yield Piece(text, finish)

    def _whole_characters(self, text: str) -> str:
        """Return the text with characters in two halves put together; JSON may hold such halves."""
        text = self._high + text
        self._high = text[-1:] if '\ud800' <= text[-1:] <= '\udbff' else ''
        text = text[:len(text) - len(self._high)]
        try:
            text = text.encode('utf-16', 'surrogatepass').decode('utf-16')
        except UnicodeDecodeError:
            raise Nonsense('half a character') from None
        if '\0' in text:
            raise Nonsense('a text with the character 0, which a ROS string cannot hold')
        self._left -= len(text)
        if self._left < 0:
            raise Nonsense('more text than so many tokens can be')
        return text

    def _end(self, finish) -> str:
        """Return how the answer ended, in OpenAI's word."""
        word = FINISHED.get(finish) if isinstance(finish, str) else None
        if word is None:
            raise (Declined if finish in DECLINED else Nonsense)(f'finish_reason {str(finish)[:60]!r}')
        if self._high:
            raise Nonsense('half a character at the end')
        self.is_finished = True
        return word


def _text_of(choice: dict) -> tuple[str, bool]:
    """Return the text in one choice of a chat or a completion, and whether it holds reasoning."""
    delta = choice.get('delta')
    if delta is None:
        delta = {'content': choice.get('text')}
    if not isinstance(delta, dict):
        raise Nonsense('a delta that is no object')
    text = delta.get('content')
    if not isinstance(text, str | None):
        raise Nonsense('a text that is none')
    return text or '', bool(delta.get('reasoning_content') or delta.get('reasoning'))
