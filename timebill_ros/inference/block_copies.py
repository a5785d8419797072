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

"""Copying states of tokens between the slots of a cache and the blocks of a store of prompts."""
from __future__ import annotations

import torch


def area_like(states: torch.Tensor, n_tokens: int) -> torch.Tensor:
    """Return room for `n_tokens` states like these, [1, H_kv, N, D]. It is written to, so that the memory is there."""
    _, heads, _, width = states.shape
    return torch.empty(1, heads, n_tokens, width, dtype=states.dtype, device=states.device).zero_()


def copy_blocks(slots: torch.Tensor, area: torch.Tensor, places: torch.Tensor, unit: int, *, by_head: bool) -> None:
    """Copy slots [H, n * unit, D] to the n blocks `places` of an area [H, N, D]; each head of both is in one piece.

    `by_head`: head by head, where a CPU copies blocks whole and not number by number. A GPU takes all heads at once.
    """
    if by_head:
        for head, kept in zip(slots, area, strict=True):
            _in_blocks(kept, unit).index_copy_(0, places, _in_blocks(head, unit))
    else:
        area.unflatten(1, (-1, unit)).index_copy_(1, places, slots.unflatten(1, (-1, unit)))


def copy_back(slots: torch.Tensor, area: torch.Tensor, places: torch.Tensor, unit: int, *, by_head: bool) -> None:
    """Fill slots [H, n * unit, D] with the n blocks `places` of an area, as `copy_blocks` has copied them."""
    if by_head:  # into the slots: nothing is allocated
        for head, kept in zip(slots, area, strict=True):
            torch.index_select(_in_blocks(kept, unit), 0, places, out=_in_blocks(head, unit))
    else:
        slots.copy_(area.unflatten(1, (-1, unit)).index_select(1, places).flatten(1, 2))


def _in_blocks(states: torch.Tensor, unit: int) -> torch.Tensor:
    """Return a view of states [n * unit, D] that lie in one piece: [n, unit * D]."""
    return states.view(len(states) // unit, unit * states.shape[1])
