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

A prompt that was evicted is held while its goal runs (evictions.py), so that entries of it can come back. What is held
is not dropped for other prompts, but where a sequence that gives way finds no other room.
"""
from __future__ import annotations

import contextlib
import heapq
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from timebill_ros.inference.block_copies import area_like, copy_back, copy_blocks
from timebill_ros.inference.conventions import MAX_WINDOW
from timebill_ros.inference.held_prompt import Held, bring_back
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
            self._areas = [tuple(area_like(states, unit * n_blocks) for states in (layer.keys, layer.values))
                           for layer in cache.layers]
        self._n_named = 0
        self._lent: set[int] = set()
        self._holds: list[Held] = []
        self._free: list[int] = []
        self.clear()

    def clear(self) -> None:
        """Forget all prompts, what was pinned or is held too. What is lent stays lent."""
        for held in [*self._holds]:
            self.let_go(held)
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
        n = self.unit * len(blocks)
        for layer in self._cache.layers:
            layer.refill(n)
        self._copy([block.number for block in blocks], [n] * len(self._areas), back=True)
        return self.unit * len(blocks)

    @torch.inference_mode()
    def put(self, ids: Sequence[int], *, pin: bool = False) -> int:
        """Keep the prompt that the cache holds; return how many of its tokens are in the store now.

        Only blocks that are not known yet are copied. Where room is short, the beginning is kept. `pin`: never drop it.
        """
        blocks = self.find(ids)
        self._touch(blocks)
        new = self._add(ids, blocks)
        first, end = self.unit * len(blocks), self.unit * (len(blocks) + len(new))
        try:
            self._copy([block.number for block in new], [end] * len(self._areas), first=first)
        except BaseException:  # no memory, for instance: what is not there must not be found
            for block in new:
                del self._known[block.key]
                heapq.heappush(self._free, block.number)
            raise
        blocks += new
        self._touch(blocks)
        if pin:
            for block in blocks:
                if self._by_age.pop(block.name, None):
                    self._pinned[block.name] = block
        return self.unit * len(blocks)

    def forget(self, ids: Sequence[int]) -> None:
        """Drop a prompt from its end on, up to what is pinned or held, or the beginning of another one too."""
        followers = Counter(block.key[0] for block in self._known.values())
        for block in reversed(self.find(ids)):
            if followers[block.name] or block.name in self._pinned or self._is_held(block):
                break
            self._drop(block)
            followers[block.key[0]] -= 1

    def _add(self, ids: Sequence[int], blocks: list[Block]) -> list[Block]:
        """Make room for the blocks of a prompt that follow `blocks`, and name them."""
        new: list[Block] = []
        own = {block.name for block in blocks}
        before = blocks[-1].name if blocks else 0
        for start in range(self.unit * len(blocks), len(ids) - self.unit + 1, self.unit):
            if not self._free:
                oldest = self._oldest()
                if oldest is None or oldest.name in own:
                    break
                self._drop(oldest)
            self._n_named += 1
            block = Block(heapq.heappop(self._free), self._n_named, (before, tuple(ids[start:start + self.unit])))
            self._known[block.key] = block
            new.append(block)
            before = block.name
        return new

    def _oldest(self) -> Block | None:
        """Return the block that goes first: of those that nobody holds, the one used longest ago. None: there is none.

        Whoever holds a block holds those before it. So no block is left without them.
        """
        return next((block for block in self._by_age.values() if not self._is_held(block)), None)

    def _is_held(self, block: Block) -> bool:
        return any(block.name in held.names for held in self._holds)

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
        """How many slots of a sequence there is room for, if prompts go, in the end also those that are held."""
        return self.unit * (len(self._free) + len(self._by_age) + sum(len(held.places) for held in self._holds))

    @torch.inference_mode()
    def lend(self) -> list[int] | None:
        """Copy what the cache holds to places that no prompt gets until `give_back`; return them, None: no room."""
        needed = -(-max(self._cache.lengths) // self.unit)
        if self.unit * needed > self.lendable:
            return None
        while len(self._free) < needed:
            oldest = self._oldest()
            if oldest is not None:
                self._drop(oldest)
            else:  # a goal that cannot give way would be canceled; what another has evicted stays gone instead
                self.let_go(self._holds[0])
        places = [heapq.heappop(self._free) for _ in range(needed)]
        self._lent.update(places)
        with contextlib.ExitStack() as undo:
            undo.callback(self.give_back, places)
            self._copy(places, self._cache.lengths)
            undo.pop_all()
        return places

    @torch.inference_mode()
    def copy_back(self, places: list[int], lengths: Sequence[int]) -> None:
        """Fill the cache, which is empty, with what was copied to `places`: so many entries of each layer."""
        for layer, n in zip(self._cache.layers, lengths, strict=True):
            layer.refill(n)
        self._copy(places, lengths, back=True)

    def give_back(self, places: list[int]) -> None:
        """Have places that were lent for prompts again."""
        self._lent.difference_update(places)
        for place in places:
            heapq.heappush(self._free, place)

    # -- holding -------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def hold(self, ids: Sequence[int]) -> Held | None:
        """Keep a whole prompt until `let_go`; None where there is no room. It is what the cache begins with.

        Where the prompt was read into the store and nobody has needed its places since, only the last tokens are
        copied, fewer than `unit`.
        """
        n, border = len(ids), len(ids) // self.unit * self.unit
        if self.put(ids) < border:
            return None
        blocks = self.find(ids)
        held = Held(frozenset(block.name for block in blocks))
        self._holds.append(held)
        with contextlib.ExitStack() as undo:
            undo.callback(self.let_go, held)
            if border < n:
                if not self._free and (oldest := self._oldest()) is not None:
                    self._drop(oldest)
                if not self._free:
                    return None
                held.places.append(heapq.heappop(self._free))
                self._lent.update(held.places)
                self._copy(held.places, [n] * len(self._areas), first=border)
            places = torch.tensor([block.number for block in blocks] + held.places, device=self._cache.device)
            offsets = torch.arange(self.unit, device=places.device)
            held.rows = (places[:, None] * self.unit + offsets).flatten()[:n]
            undo.pop_all()
        return held

    def let_go(self, held: Held) -> None:
        """Have the places of a prompt that was held for others again, whether it was let go already or not."""
        if held.stays:
            held.stays = False
            held.scores.clear()
            self._holds.remove(held)
            self.give_back(held.places)

    def bring_back(self, held: Held, n_keep: int, n_prompt: int) -> None:
        """Have the cache hold the `n_keep` best entries of a prompt that is held, in the place of the first `n_prompt`.

        See held_prompt.bring_back.
        """
        bring_back(self._cache, self._areas, held, n_keep, n_prompt)

    def _copy(self, numbers: list[int], ends: Sequence[int], *, first: int = 0, back: bool = False) -> None:
        """Copy the states of tokens `first` to `ends[i]` of each layer to the places `numbers`, or from there `back`.

        Blocks are copied by index. So that takes as long wherever they lie, and the profile's time holds for a store
        that thousands of prompts have gone through.
        """
        if not numbers:
            return
        device = self._cache.device
        places, copy = torch.tensor(numbers, device=device), copy_back if back else copy_blocks
        for layer, areas, end in zip(self._cache.layers, self._areas, ends, strict=True):
            n, rest = divmod(end - first, self.unit)  # an evicted layer is shorter than a sliding one
            for states, area in zip((layer.keys, layer.values), areas, strict=True):
                slots, kept = states[0, :, first:first + n * self.unit], area[0]
                if n:
                    copy(slots, kept, places[:n], self.unit, by_head=device.type == 'cpu')
                if rest:
                    at = self.unit * numbers[n]
                    tail, place = states[0, :, end - rest:end], kept[:, at:at + rest]
                    tail.copy_(place) if back else place.copy_(tail)

    # -- checking ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check the invariants that everything here relies on; ValueError names what breaks one. Between goals."""
        held = [*self._by_age.values(), *self._pinned.values()]
        numbers = sorted([*self._free, *self._lent, *(block.number for block in held)])
        if numbers != list(range(self.n_blocks)):
            raise ValueError(f'the prefix store has {self.n_blocks} places and accounts for {len(numbers)}')
        known = {block.name for block in held}
        if any(not hold.names <= known or not self._lent.issuperset(hold.places) for hold in self._holds):
            raise ValueError(f'a prompt that one of {len(self._holds)} goals holds has left the prefix store')
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
