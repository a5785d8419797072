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

"""The beginnings of prompts that the worker has read, as far as the node can tell, which has no tokenizer."""
from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Iterator

from timebill_ros.request import Request

CHARACTERS = 256  # of a block, which is what beginnings are compared in
MOST_BLOCKS = 1 << 15


class _Chain:
    """The hashes of a prompt, and how much of it was seen when that was worked out last."""

    def __init__(self, blocks: list[int]):
        self.blocks = blocks
        self.common, self.as_of = 0, -1  # characters; after how many prompts were added, -1: never


class SeenPrompts:
    """Tells how much of a prompt was the beginning of an earlier one. No text is kept, only hashes of blocks."""

    def __init__(self):
        self._seen: OrderedDict[int, None] = OrderedDict()  # by hash of a block and all before it, the latest last
        self._added = 0  # prompts
        # By identity of a request, for as long as there is one: every event asks for all that wait.
        self._chains: dict[int, tuple[weakref.ref, _Chain]] = {}

    def add(self, request: Request) -> None:
        """Take note of a prompt that the worker has read."""
        self._added += 1
        for block in self._chain(request).blocks:
            self._seen[block] = None
            self._seen.move_to_end(block)
        while len(self._seen) > MOST_BLOCKS:
            self._seen.popitem(last=False)

    def common(self, request: Request) -> int:
        """Return how many characters of a prompt, from its beginning, were seen before; at most its own."""
        chain = self._chain(request)
        if chain.as_of != self._added:  # otherwise nothing has changed, and every event asks for all that wait
            n = next((n for n, block in enumerate(chain.blocks) if block not in self._seen), len(chain.blocks))
            chain.common, chain.as_of = min(n * CHARACTERS, request.characters), self._added
        return chain.common

    def _chain(self, request: Request) -> _Chain:
        key = id(request)
        known = self._chains.get(key)
        if known is None or known[0]() is not request:
            reference = weakref.ref(request, lambda dead: self._forget(key, dead))  # called by any thread
            known = self._chains[key] = reference, _Chain(list(_hashes(request)))
        return known[1]

    def _forget(self, key: int, dead: weakref.ref) -> None:
        if self._chains.get(key, (None,))[0] is dead:
            self._chains.pop(key, None)


def _hashes(request: Request) -> Iterator[int]:
    """Yield a hash for each whole block of a prompt, which stands for all blocks before it too."""
    text = request.prompt or ''.join(f'{m["role"]}\0{m["content"]}\0' for m in request.messages)
    value = 0
    for start in range(0, len(text) - CHARACTERS + 1, CHARACTERS):
        value = hash((value, text[start:start + CHARACTERS]))
        yield value
