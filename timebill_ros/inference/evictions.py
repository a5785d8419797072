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

"""The evictions of one request, and what brings entries of its prompt back. No torch: the engine evicts with this.

Before the first eviction, the store of prompts is asked to hold the whole prompt, as prefill has left it. Entries of it
can then come back: any number of the best ones, by the scores of that eviction, from the store's blocks to the one
cache. Positions are part of the keys, so where an entry lies does not matter. Without a store, without room in it, or
once a sequence that gave way has needed its places, what is evicted stays gone.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from timebill_ros.deadline import Clock
from timebill_ros.request import Plan, Timing

if TYPE_CHECKING:
    from timebill_ros.inference.prefix_store import Held


class Evictions:
    """Evicts for one request. It is a context: at its end the prompt is held no longer.

    `model`: a CausalLM or what stands for one; `ids`: the prompt; `reversible`: whether entries may come back. Where
    nothing is evicted, nothing is held, copied or computed.
    """

    def __init__(self, model, ids: Sequence[int] = (), *, reversible: bool = False):
        self._model, self._ids = model, ids
        self._reversible = reversible and model.prefixes is not None
        self._held: Held | None = None

    def __enter__(self) -> Evictions:
        return self

    def __exit__(self, *_) -> None:
        if self._held is not None:
            self._model.prefixes.let_go(self._held)

    @property
    def most(self) -> int:
        """Entries of the prompt that the cache may hold again; 0: none comes back."""
        return len(self._ids) if self._held is not None and self._held.stays else 0

    def first(self, plan: Plan, timing: Timing, left_s: float, clock: Clock) -> int:
        """Do what the plan says before decoding; return the entries of the prompt in the cache. `timing` is told."""
        started = clock()
        self._model.use_variant(plan.variant)
        n_keep = plan.n_x
        # Where no time is left for a second token, none is left for evicting.
        if plan.n_keep < n_keep and not plan.evict_after and left_s > 0:
            self.evict(n_keep := plan.n_keep)
            self._model.synchronize()
        timing.kept_tokens, timing.eviction_ratio = n_keep, 1 - n_keep / plan.n_x
        timing.eviction_s = clock() - started
        return n_keep

    def evict(self, n_keep: int) -> None:
        """Leave `n_keep` entries of the prompt."""
        if self._reversible:
            self._reversible = False  # later it is no longer whole in the cache
            self._held = self._model.prefixes.hold(self._ids)
            if self._held is not None:
                self._model.evict(n_keep, self._held.scores)
                return
        self._model.evict(n_keep)

    def bring_back(self, n_keep: int) -> None:
        """Have `n_keep` entries of the prompt in the cache again, more than there are and `most` at most."""
        beside = self._model.snapshot(states=False)
        self._model.prefixes.bring_back(self._held, n_keep, beside.n_prompt)
        self._model.restore(replace(beside, n_prompt=n_keep))
