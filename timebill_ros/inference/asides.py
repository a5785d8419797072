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

"""Sequences that give way to others: where they are meanwhile, and how they are put back.

The states go to places of the store of prompts: its memory is bounded and there already, and the copies stay on the
device. So nothing is allocated for them while goals run, but for a few small tensors. Copying changes no bit, and what
is computed afterwards is what would have been computed.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from timebill_ros.inference.snapshot import Snapshot

MOST = 8  # sequences that are put aside at once: each has its calls on the stack of the worker's main thread


class NoRoomError(RuntimeError):
    """Raised where a sequence cannot be put aside; the sentence says why."""


@dataclass(frozen=True)
class Aside:
    """A sequence that is put aside. `places`: see PrefixStore.lend; `lengths`: entries of each layer."""

    places: list[int]
    lengths: Sequence[int]
    beside: Snapshot  # without states
    variant: str


class Asides:
    """Puts the sequence of a model aside: of a CausalLM that has a store of prompts."""

    def __init__(self, model):
        self._model, self._n = model, 0

    @property
    def room(self) -> int:
        """Entries of the longest sequence that may be put aside now."""
        return self._model.prefixes.lendable

    def put(self) -> Aside:
        """Copy the sequence in the cache to the store. NoRoomError where there is no place for it."""
        model = self._model
        if self._n >= MOST:
            raise NoRoomError(f'{self._n} goals have given way already')
        lengths, beside = model.cache.lengths, model.snapshot(states=False)
        places = model.prefixes.lend()
        if places is None:
            raise NoRoomError(f'its {max(lengths)} cached entries are more than the {self.room} that '
                              'prefix_cache_mib leaves room for')
        self._n += 1
        return Aside(places, lengths, beside, model.in_use)

    def take_up(self, aside: Aside) -> None:
        """Have the cache hold a sequence again, whatever was computed since."""
        model = self._model
        model.reset()
        model.prefixes.copy_back(aside.places, aside.lengths)
        model.restore(aside.beside)
        model.use_variant(aside.variant)

    def let_go(self, aside: Aside) -> None:
        """Give the places of a sequence to others: it goes on, or never will."""
        self._n -= 1
        self._model.prefixes.give_back(aside.places)
