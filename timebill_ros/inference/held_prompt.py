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

"""A prompt that the store of prompts holds while its goal runs, and bringing entries of it back into the cache."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from timebill_ros.inference.eviction import best, observation_window
from timebill_ros.inference.kv_cache import SlotCache


@dataclass(eq=False)
class Held:
    """A whole prompt in the store, see PrefixStore.hold.

    names:   of its blocks.
    places:  lent for the tokens behind them, which fill no block; empty where there are none.
    rows:    [N_x], where the states of each token are in the area.
    scores:  of its first eviction, [1, H_kv, N_x] for each full-attention layer: which entries are kept, and come back.
    stays:   False once it was let go, or its places were needed.
    """

    names: frozenset[int]
    places: list[int] = field(default_factory=list)
    rows: torch.Tensor | None = None
    scores: list[torch.Tensor] = field(default_factory=list)
    stays: bool = True


@torch.inference_mode()
def bring_back(cache: SlotCache, areas: Sequence[tuple[torch.Tensor, torch.Tensor]], held: Held, n_keep: int,
               n_prompt: int) -> None:
    """Have `cache` hold the `n_keep` best entries of a prompt, in the place of its first `n_prompt` entries.

    That concerns full-attention layers. By the scores of the first eviction these are the entries that an eviction of
    the whole prompt would have kept. What was generated since stays as it is, behind them. `areas`: keys and values of
    each layer, [1, H_kv, slots, D], in which `held.rows` are.
    """
    window = observation_window(n_keep)
    for index, scores in zip(cache.evictable_layers(), held.scores, strict=True):
        scores[:, :, scores.shape[2] - window:] = float('inf')  # a later eviction observes from these
        rows = held.rows[best(scores, n_keep)]
        layer = cache.layers[index]
        generated = [states[:, :, n_prompt:].clone() for states in layer.filled()]
        slots = layer.refill(n_keep + generated[0].shape[2])
        for states, area, behind in zip(slots, areas[index], generated, strict=True):
            states[:, :, n_keep:] = behind
            if states.device.type == 'cpu':  # rows are copied whole, as in SlotLayer.keep
                for head, kept, row in zip(states[0], area[0], rows, strict=True):
                    torch.index_select(kept, 0, row, out=head[:n_keep])
            else:
                states[0, :, :n_keep] = area[0].gather(1, rows[:, :, None].expand(-1, -1, area.shape[3]))
