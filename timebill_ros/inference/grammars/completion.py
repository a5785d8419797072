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

"""Completing an answer that was cut, so that it has its form: without the model, in a millisecond or so.

Two ways. To *drop*: whatever was not complete goes, and nothing is invented. What the grammar forces is no invention:
any answer that goes on from there has it. To *close*: the answer is ended in a short way from where it is.

The text is followed byte by byte, by a matcher over the vocabulary of single bytes: where an answer may end has nothing
to do with the model's tokens.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from timebill_ros.inference.grammars.json_cuts import Cut, begun_behind, scan, whole_characters, whole_string
from timebill_ros.inference.grammars.vocabulary import BYTES_END, N_BYTES

MOST_BYTES = 4096  # of a completion
MOST_CUTS = 400  # places at which `dropped` tries to end a text, from its end
MOST_LOOKS = 1500  # at what may come next, while outcomes of choices are compared; each takes some 10 us
TRIED_BYTES = 128  # how far each way of a choice is followed
WIDE = 40  # bytes: where so many may come next, any text may, and one of them stands for all
_NUMBER = b'0123456789.eE+-'
_SPACES = b' \t\r\n'


class Completed(NamedTuple):
    """An answer that has its form. The first `own` bytes of `text` are what the model wrote.

    dropped: items of lists and members of objects that had begun and are not in it
    """

    text: bytes
    own: int
    dropped: int = 0


class ByteMatcher:
    """Follows a text byte by byte. `matcher`: an LLMatcher over single_bytes(), which starts anew."""

    def __init__(self, matcher):
        self._matcher = matcher
        matcher.reset()
        self._bits = np.zeros((BYTES_END + 32) // 32, dtype=np.int32)
        self._at = self._bits.ctypes.data
        self._kinds = self._bits.view(np.uint8)
        self.length = 0  # bytes consumed
        self.n_looks = 0  # at what may come next

    def follow(self, text: bytes) -> int:
        """Consume as much of `text` as the grammar allows; return how many bytes that is."""
        n = self._matcher.try_consume_tokens(list(text))
        self.length += n
        return n

    def back_to(self, length: int) -> None:
        """Take bytes back until `length` are consumed."""
        if length < self.length:
            self._matcher.rollback(self.length - length)
            self.length = length

    def forced(self, *, is_json: bool) -> bytes:
        """Consume and return the bytes that must come next, which no answer from here can lack but for white space."""
        forced = bytearray()
        while len(forced) < MOST_BYTES:
            more = self._matcher.compute_ff_bytes() or (self._only_byte() if is_json else b'')
            if not more or not self.follow(more):
                break
            forced += more
        return bytes(forced)

    def _only_byte(self) -> bytes:
        """Return the one byte that may come next, between two tokens of JSON where white space may come too."""
        allowed = self.next_bytes()
        if ord('\n') not in allowed or self.accepts():  # no line ends within a text of JSON
            return b''
        others = bytes(byte for byte in allowed if byte not in _SPACES)
        return others if len(others) == 1 else b''

    def accepts(self) -> bool:
        """Whether the answer may end here."""
        return self._matcher.is_accepting()

    def next_bytes(self) -> bytes:
        """Return the bytes that may come next, ascending."""
        if self._matcher.is_stopped():
            return b''
        self.n_looks += 1
        self._matcher.unsafe_compute_mask_ptr(self._at, self._bits.nbytes)
        return bytes(np.flatnonzero(np.unpackbits(self._kinds, bitorder='little')[:N_BYTES]).astype(np.uint8))


def chosen(choices: Sequence[str], text: bytes, *, closes: bool) -> Completed | None:
    """Return the choice that `text` is the beginning of; None where it may become several and `closes` is false.

    Otherwise it becomes the shortest of them.
    """
    possible = sorted((whole for choice in choices if (whole := choice.encode()).startswith(text)), key=len)
    if possible and (closes or len(possible) == 1 or possible[0] == text):
        return Completed(possible[0], len(text))
    return None


def dropped(matcher: ByteMatcher, text: bytes, *, is_json: bool) -> Completed | None:
    """Return what is left of `text`, which the grammar allows, where only what is complete stays; None: nothing.

    `matcher` has consumed nothing.
    """
    if matcher.follow(text) < len(text):
        return None
    whole = text + matcher.forced(is_json=is_json)
    if is_json:
        cuts: Iterable[Cut] = _cuts(matcher, whole)
    else:
        cuts = (Cut(end, b'') for end in range(len(whole), 0, -1))
    for cut in cuts:
        matcher.back_to(cut.end)
        if matcher.follow(cut.closers) == len(cut.closers) and matcher.accepts():
            found = whole[:cut.end]
            if is_json or whole_characters(found) == found:
                gone = begun_behind(text, cut.end) if is_json else 0
                return Completed(found + cut.closers, min(cut.end, len(text)), gone)
    return None


def _cuts(matcher: ByteMatcher, text: bytes) -> list[Cut]:
    """Return where a JSON text may be cut, from its end. A number that may go on is not complete."""
    found = scan(text)
    cuts = found.cuts
    if found.is_open and not set(matcher.next_bytes()).isdisjoint(_NUMBER):
        cuts = cuts[:-1]
    return cuts[:-MOST_CUTS - 1:-1]


def closed(matcher: ByteMatcher, text: bytes, *, is_json: bool) -> Completed | None:
    """Return `text`, which the grammar allows, with a short end; None where none was found.

    Half a character at its end goes. `matcher` has consumed nothing.
    """
    own = whole_characters(text)
    if is_json and (string_at := scan(text).string_at) is not None:
        own = whole_string(text, string_at)
    for kept in dict.fromkeys((own, text)):
        matcher.back_to(0)
        if matcher.follow(kept) == len(kept) and (end := shortest_end(matcher, is_json=is_json)) is not None:
            return Completed(kept + end, len(kept))
    return None


def shortest_end(matcher: ByteMatcher, *, is_json: bool) -> bytes | None:
    """Return a short way to end an answer from here; None where none was found. The matcher has consumed it then.

    What can be closed, is closed. Where there is a choice (which value, which member, which text of an enumeration),
    each way is followed to its end and the shortest one is taken. So the end is the shortest where later choices do not
    depend on earlier ones, as in most schemas; otherwise it may be longer.
    """
    start, end, last_look = matcher.length, bytearray(), matcher.n_looks + MOST_LOOKS
    while len(end) <= MOST_BYTES:
        end += matcher.forced(is_json=is_json)
        if matcher.accepts():
            return bytes(end)
        ways = _ways(matcher.next_bytes(), is_json)
        if not ways:
            break
        best = ways[:1]
        if len(ways) > 1 and matcher.n_looks < last_look:
            best = _best(matcher, ways, is_json)
        matcher.follow(best)
        end += best
    matcher.back_to(start)
    return None


def _best(matcher: ByteMatcher, ways: bytes, is_json: bool) -> bytes:
    """Return the one of `ways` that leads to the shortest end, if it goes on with the first of each further choice."""
    here, best, least = matcher.length, ways[:1], TRIED_BYTES
    for i in range(len(ways)):
        matcher.follow(ways[i:i + 1])
        while matcher.length - here < least:
            matcher.forced(is_json=is_json)
            if matcher.accepts():
                if matcher.length - here < least:
                    best, least = ways[i:i + 1], matcher.length - here
                break
            further = _ways(matcher.next_bytes(), is_json)
            if not further or not matcher.follow(further[:1]):
                break
        matcher.back_to(here)
    return best


# What ends something is taken at once. Then what may begin a value, in the order in which values are short.
_CLOSING, _STRUCTURE = b'}]', b',:'
_ORDER = b'0123456789"ntf[{-'
_ALIKE = (b'0123456789', b'abcdefghijklmnopqrstuvwxyz', b'ABCDEFGHIJKLMNOPQRSTUVWXYZ')


def _ways(allowed: bytes, is_json: bool) -> bytes:
    """Return the bytes, of those that are allowed next, that are worth following; one where there is no choice."""
    letters = bytes(byte for byte in allowed if byte not in _SPACES) or allowed[:1]
    if not is_json:  # what separates words leads on, letters may go on for ever
        few = b''.join(_few(letters, alike) for alike in _ALIKE)
        return bytes(byte for byte in letters if byte not in b''.join(_ALIKE))[:6] + few
    if len(letters) >= WIDE:  # inside a text
        return b'"' if ord('"') in letters else _plain(letters)
    # Inside a text both of these are allowed, elsewhere one of them at most.
    if not (ord('"') in letters and ord(',') in letters):
        for group in (_CLOSING, _STRUCTURE):
            if best := bytes(byte for byte in letters if byte in group)[:1]:
                return best
    few = _few(letters, _ALIKE[0])
    return bytes(sorted((byte for byte in letters if byte not in _ALIKE[0] or byte in few),
                        key=lambda byte: (_ORDER.find(byte) % 256, byte)))


def _few(letters: bytes, alike: bytes) -> bytes:
    """Return the first two and the last of those that are `alike`: others would differ at the ends of ranges only."""
    found = bytes(byte for byte in letters if byte in alike)
    return found if len(found) <= 3 else found[:2] + found[-1:]


def _plain(letters: bytes) -> bytes:
    """Return one of many bytes that may come next, as people write them."""
    return next((bytes([byte]) for byte in b'a0A_' if byte in letters), letters[:1])
