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

"""States of prompts that were read before, beside the one cache that a request runs in.

The store is a fixed area of slots in every layer, allocated once and cut into blocks of `unit` tokens. A block is known
by its tokens and by the block before it. So prompts that begin alike share their blocks, a log that grew by a line
takes room only for the line, and the longest common beginning is found by looking up block after block. Where the area
is full, what was used longest ago goes, the end of a prompt before its beginning.

What enters is the states of a prompt as prefill left them: before anything was evicted, and never what was generated,
since a row that is computed alone differs in its bits. The last MAX_WINDOW tokens of a prompt are always computed anew:
SnapKV scores by their queries, and the logits of the first token come from them.

A sequence that gives way to another (asides.py) has its states here meanwhile, whatever they are, in places that are
lent to it.
"""
from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from timebill_ros.inference.conventions import MAX_WINDOW
from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.turns_watch import TurnsWatch


@dataclass(frozen=True)
class Block:
    """The states of `unit` tokens. `number`: place in the area; `name`: unique for ever; `key`: what it is found by."""

    number: int
    name: int
    key: tuple[int, tuple[int, ...]]  # (name of the block before, 0 for none; its own tokens)


class PrefixStore:
    """Blocks of prompts for one cache. It has no lock: one thread uses it.

    `n_blocks`: how many blocks of `unit` tokens there is room for. The cache has its slots already.
    """

    def __init__(self, cache: SlotCache, unit: int, n_blocks: int):
        self.unit, self.n_blocks = unit, n_blocks
        self.turns: TurnsWatch | None = None  # looks at conversations of which little is known, see turns_watch.py
        self._cache = cache
        with torch.inference_mode(False):
            self._areas = [tuple(_area(states, unit * n_blocks) for states in (layer.keys, layer.values))
                           for layer in cache.layers]
        self._n_named = 0
        self._lent: set[int] = set()
        self.clear()

    def clear(self) -> None:
        """Forget all prompts, what was pinned too. What is lent stays lent."""
        self._known: dict[tuple, Block] = {}
        # A heap: the lowest first, so that prompts lie in one piece.
        self._free = [number for number in range(self.n_blocks) if number not in self._lent]
        self._by_age: OrderedDict[int, Block] = OrderedDict()  # by name, the next to go first
        self._pinned: dict[int, Block] = {}

    # -- looking up ----------------------------------------------------------------------------------------------

    def find(self, ids: Sequence[int], n: int | None = None) -> list[Block]:
        """Return the blocks of the longest known beginning of the first `n` tokens (None: all) of a prompt."""
        found: list[Block] = []
        before = 0
        for start in range(0, (len(ids) if n is None else n) - self.unit + 1, self.unit):
            block = self._known.get((before, tuple(ids[start:start + self.unit])))
            if block is None:
                break
            found.append(block)
            before = block.name
        return found

    def known(self, ids: Sequence[int]) -> int:
        """Return how many tokens of a prompt `take` would take."""
        return self.unit * len(self.find(ids, self._most(ids)))

    def held(self, ids: Sequence[int]) -> int:
        """Return how many tokens of a prompt, from its beginning, are in the store."""
        return self.unit * len(self.find(ids))

    @staticmethod
    def _most(ids: Sequence[int]) -> int:
        return max(0, len(ids) - MAX_WINDOW)

    # -- taking out and putting in -------------------------------------------------------------------------------

    @torch.inference_mode()
    def take(self, ids: Sequence[int]) -> int:
        """Fill the cache with what is known of a prompt; return how many tokens that is. The rest is to be read."""
        blocks = self.find(ids, self._most(ids))
        if not blocks:
            return 0
        self._touch(blocks)
        runs = list(_runs([(i, block.number) for i, block in enumerate(blocks)], self.unit))
        for layer, areas in zip(self._cache.layers, self._areas, strict=True):
            for to, area in zip(layer.refill(self.unit * len(blocks)), areas, strict=True):
                for start, at, n in runs:
                    to[:, :, start:start + n] = area[:, :, at:at + n]
        return self.unit * len(blocks)

    @torch.inference_mode()
    def put(self, ids: Sequence[int], *, pin: bool = False) -> int:
        """Keep the prompt that the cache holds; return how many of its tokens are in the store now.

        Only blocks that are not known yet are copied. Where room is short, the beginning is kept. `pin`: never drop it.
        """
        blocks = self.find(ids)
        self._touch(blocks)
        new = self._add(ids, blocks)
        places = [(len(blocks) + i, block.number) for i, block in enumerate(new)]
        runs = list(_runs(places, self.unit))
        for layer, areas in zip(self._cache.layers, self._areas, strict=True):
            for states, area in zip(layer.filled(), areas, strict=True):
                for start, at, n in runs:
                    area[:, :, at:at + n] = states[:, :, start:start + n]
        blocks += new
        self._touch(blocks)
        if pin:
            for block in blocks:
                if self._by_age.pop(block.name, None):
                    self._pinned[block.name] = block
        return self.unit * len(blocks)

    def _add(self, ids: Sequence[int], blocks: list[Block]) -> list[Block]:
        """Make room for the blocks of a prompt that follow `blocks`, and name them."""
        new: list[Block] = []
        own = {block.name for block in blocks}
        before = blocks[-1].name if blocks else 0
        for start in range(self.unit * len(blocks), len(ids) - self.unit + 1, self.unit):
            if not self._free:
                oldest = next(iter(self._by_age.values()), None)
                if oldest is None or oldest.name in own:
                    break
                self._drop(oldest)
            self._n_named += 1
            block = Block(heapq.heappop(self._free), self._n_named, (before, tuple(ids[start:start + self.unit])))
            self._known[block.key] = block
            new.append(block)
            before = block.name
        return new

    def _drop(self, block: Block) -> None:
        del self._by_age[block.name], self._known[block.key]
        heapq.heappush(self._free, block.number)

    def _touch(self, blocks: list[Block]) -> None:
        """Count blocks of one prompt as used now, its end as used before its beginning."""
        for block in reversed(blocks):
            if block.name not in self._pinned:
                self._by_age[block.name] = block
                self._by_age.move_to_end(block.name)

    # -- lending -------------------------------------------------------------------------------------------------

    @property
    def lendable(self) -> int:
        """How many slots of a sequence there is room for, if the prompts go that were used longest ago."""
        return self.unit * (len(self._free) + len(self._by_age))

    @torch.inference_mode()
    def lend(self) -> list[int] | None:
        """Copy what the cache holds to places that no prompt gets until `give_back`; return them, None: no room."""
        needed = -(-max(self._cache.lengths) // self.unit)
        if self.unit * needed > self.lendable:
            return None
        while len(self._free) < needed:
            self._drop(next(iter(self._by_age.values())))
        places = [heapq.heappop(self._free) for _ in range(needed)]
        self._lent.update(places)
        for slots, area in self._pairs(places):
            area.copy_(slots)
        return places

    @torch.inference_mode()
    def copy_back(self, places: list[int], lengths: Sequence[int]) -> None:
        """Fill the cache, which is empty, with what was copied to `places`: so many entries of each layer."""
        for layer, n in zip(self._cache.layers, lengths, strict=True):
            layer.refill(n)
        for slots, area in self._pairs(places):
            slots.copy_(area)

    def give_back(self, places: list[int]) -> None:
        """Have places that were lent for prompts again."""
        self._lent.difference_update(places)
        for place in places:
            heapq.heappush(self._free, place)

    def _pairs(self, places: list[int]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield views of the filled slots, and of as many slots in the area, at `places`: [1, H_kv, n, D] each."""
        runs = list(_runs(list(enumerate(places)), self.unit))
        for layer, areas in zip(self._cache.layers, self._areas, strict=True):
            for states, area in zip(layer.filled(), areas, strict=True):
                for start, at, n in runs:
                    if (n := min(n, layer.length - start)) > 0:  # what was evicted from is shorter than a sliding layer
                        yield states[:, :, start:start + n], area[:, :, at:at + n]

    # -- checking ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check the invariants that everything here relies on; ValueError names what breaks one. Between goals."""
        held = [*self._by_age.values(), *self._pinned.values()]
        numbers = sorted([*self._free, *self._lent, *(block.number for block in held)])
        if numbers != list(range(self.n_blocks)):
            raise ValueError(f'the prefix store has {self.n_blocks} places and accounts for {len(numbers)}')
        if {block.key: block for block in held} != self._known:
            raise ValueError(f'the prefix store holds {len(held)} blocks and finds {len(self._known)}')
        age = {name: i for i, name in enumerate(self._by_age)} | dict.fromkeys(self._pinned, self.n_blocks)
        for block in held:
            if block.key[0] and age.get(block.key[0], -1) < age[block.name]:
                raise ValueError(f'block {block.name} of the prefix store would outlive block {block.key[0]} before it')


def block_bytes(cache: SlotCache, unit: int) -> int:
    """Return the bytes of a block of `unit` tokens in all layers of a cache that has its slots."""
    return sum(unit * states[0, :, 0].numel() * states.element_size()
               for layer in cache.layers for states in (layer.keys, layer.values))


def _area(states: torch.Tensor, n_tokens: int) -> torch.Tensor:
    """Return room for `n_tokens` states like these, [1, H_kv, N, D]. It is written to, so that the memory is there."""
    _, heads, _, width = states.shape
    return torch.empty(1, heads, n_tokens, width, dtype=states.dtype, device=states.device).zero_()


def _runs(places: list[tuple[int, int]], unit: int) -> Iterator[tuple[int, int, int]]:
    """Yield (first token, first slot, tokens) of blocks that lie one behind the other in the prompt and in the area.

    `places`: pairs (number in the prompt, number in the area), ascending in the prompt.
    """
    i = 0
    while i < len(places):
        n = 1
        while i + n < len(places) and places[i + n] == (places[i][0] + n, places[i][1] + n):
            n += 1
        yield places[i][0] * unit, places[i][1] * unit, n * unit
        i += n
