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

"""Where a JSON text that was cut may end: behind each complete value, once the lists and objects around are closed."""
from __future__ import annotations

import re
from typing import NamedTuple

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SCALAR = re.compile(rb'[^ \t\n\r,:\[\]{}"]+')
_SPACE = b' \t\n\r'
_CLOSES = {ord('{'): b'}', ord('['): b']'}
_ESCAPE = re.compile(rb'\\(?:u[0-9a-fA-F]{0,3}|)\Z')
_HIGH_HALF = re.compile(rb'(?<!\\)((?:\\\\)*)\\u[dD][89abAB][0-9a-fA-F]{2}\Z')


class Cut(NamedTuple):
    """One place where the text may end."""

    end: int  # bytes of the text that stay
    closers: bytes  # what closes the lists and objects that are open there


class Scan(NamedTuple):
    """What a cut text holds."""

    cuts: list[Cut]  # ascending by `end`; each is behind a complete value, or behind the bracket that opens one
    string_at: int | None  # where the string begins, at its quote, that the text ends in; None: it ends in none
    is_open: bool  # the text ends with a number or literal, which may go on


def scan(text: bytes) -> Scan:
    """Scan a text that JSON may begin with. What is no JSON at all gives cuts that mean nothing."""
    cuts: list[Cut] = []
    closers = b''  # of what is open now, the innermost first
    names = [False]  # of what is open, whether the next value is the name of a member; the innermost last
    i, is_open, string_at = 0, False, None
    while i < len(text):
        byte, is_open = text[i], False
        if byte in _SPACE:
            i += 1
        elif byte in _CLOSES:
            closers = _CLOSES[byte] + closers
            names.append(byte == ord('{'))
            i += 1
            cuts.append(Cut(i, closers))
        elif byte in b']}':
            closers, i = closers[1:], i + 1
            if len(names) > 1:
                names.pop()
            cuts.append(Cut(i, closers))
        elif byte in b',:':
            names[-1] = byte == ord(',') and closers[:1] == b'}'
            i += 1
        elif byte == ord('"'):
            match = _STRING.match(text, i)
            if match is None:
                string_at = i
                break
            i = match.end()
            if not names[-1]:
                cuts.append(Cut(i, closers))
        else:
            i = _SCALAR.match(text, i).end()
            cuts.append(Cut(i, closers))
            is_open = i == len(text)
    return Scan(cuts, string_at, is_open)


def whole_characters(text: bytes) -> bytes:
    """Return `text` without half a character at its end."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        if error.reason == 'unexpected end of data':
            return text[:error.start]
    return text


def whole_string(text: bytes, string_at: int) -> bytes:
    """Return `text`, which ends in the string that begins at `string_at`, without half a character or escape there.

    The first of two escapes that are one character together (a surrogate pair) is half a character too.
    """
    head, inside = text[:string_at + 1], whole_characters(text[string_at + 1:])
    match = _ESCAPE.search(inside)
    if match is not None and _escapes(inside, match.start()):
        inside = inside[:match.start()]
    half = _HIGH_HALF.search(inside)
    if half is not None:
        inside = inside[:half.end(1)]
    return head + inside


def _escapes(inside: bytes, at: int) -> bool:
    """Whether the backslash at `at` begins an escape, and is not the second of two."""
    before = at
    while before and inside[before - 1] == ord('\\'):
        before -= 1
    return (at - before) % 2 == 0


def begun_behind(text: bytes, end: int) -> int:
    """Return how many items of lists and members of objects begin behind the first `end` bytes, which are a Cut's.

    Counted is what belongs to the lists and objects that are open there, not what is within it.
    """
    n, depth, is_new, i = 0, 0, True, end  # is_new: the next value, or name of a member, begins something
    while i < len(text):
        byte = text[i]
        if byte in b']}':
            depth, is_new = max(depth - 1, 0), False
        elif byte == ord(','):
            is_new = True
        elif byte not in b': \t\n\r':
            n += is_new and depth == 0
            is_new = False
            depth += byte in _CLOSES
        i = _behind(text, i)
    return n


def _behind(text: bytes, i: int) -> int:
    """Return where what begins at `i` ends: a string, a scalar, or one byte."""
    is_string = text[i] == ord('"')
    match = (_STRING if is_string else _SCALAR).match(text, i)
    return match.end() if match else len(text) if is_string else i + 1
