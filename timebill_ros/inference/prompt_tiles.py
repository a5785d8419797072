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

"""Attention of a prompt in tiles, so that a row's result does not depend on the chunk that the row is in.

PyTorch's attention chooses its blocks by the numbers of queries and keys, so the same row of a prompt comes out with
other bits where its chunk begins elsewhere. Here a chunk is cut into tiles of TILE rows. A tile begins at a multiple of
TILE and sees the keys up to its own last row. So the kernel is called with the same shapes and the same numbers in
whatever chunk the tile is, and a prompt of which a part was read before is read on with the bits of one read at once.
The queries of a group of heads lie side by side, so that keys are not repeated; one static mask serves all tiles.

That is half of it: the linear layers must not depend on the chunk either. prefix_check.py finds out whether they do.
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch.nn.functional import scaled_dot_product_attention

TILE = 32  # rows


class PromptTiles:
    """Attention of the chunks of a prompt of at most `capacity` tokens, on the caches of one model.

    `is_reading`: whether a prompt is read now, in chunks that begin at multiples of TILE.
    """

    def __init__(self, capacity: int):
        self._capacity = -(-capacity // TILE) * TILE
        self.is_reading = False
        self._masks: dict[tuple, torch.Tensor] = {}

    @contextlib.contextmanager
    def reading(self, first: int, chunk_tokens: int) -> Iterator[None]:
        """Use tiles inside, where a prompt is read from token `first` on, unless the chunks begin between two tiles."""
        self.is_reading = first % TILE == 0 and chunk_tokens % TILE == 0
        try:
            yield
        finally:
            self.is_reading = False

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int | None, scaling: float,
               softcap: float | None) -> torch.Tensor:
        """Compute causal attention of a chunk: query [1, H_q, L, D], key and value [1, H_kv, K, D] -> [1, L, H_q, D].

        The queries belong to the last L keys, the first of them to a position that is a multiple of TILE. With a
        `window`, each looks at its own key and the window - 1 before it. Logits stay below `softcap`, where there is
        one.
        """
        n_heads, n_query = query.shape[1:3]
        n_kv_heads, n_key = key.shape[1:3]
        group = n_heads // n_kv_heads
        if window is not None and window >= self._capacity:
            window = None
        reach = self._capacity if window is None else window - 1  # keys before a tile that it may see
        mask = self._mask(reach, window, group, query)
        by_row = query.unflatten(1, (n_kv_heads, group)).transpose(2, 3)  # [1, H_kv, L, group, D]
        out = query.new_empty(1, n_query, n_kv_heads, group, value.shape[3])
        for row in range(0, n_query, TILE):
            rows = min(TILE, n_query - row)
            end = n_key - n_query + row + rows
            before = min(end - rows, reach)
            first = end - rows - before
            tile = by_row[:, :, row:row + rows].reshape(1, n_kv_heads, rows * group, -1)
            visible = mask[:rows * group, reach - before:reach + rows]
            done = _attend(tile, key[:, :, first:end], value[:, :, first:end], visible, scaling, softcap)
            out[:, row:row + rows] = done.view(1, n_kv_heads, rows, group, -1).transpose(1, 2)
        return out.view(1, n_query, n_heads, -1)

    def _mask(self, reach: int, window: int | None, group: int, query: torch.Tensor) -> torch.Tensor:
        """Return what is added to logits, 0 or -inf: [TILE * group, reach + TILE], each row `group` times.

        Column `reach` is the key of a tile's first row. A tile with fewer keys before it takes the last columns.
        """
        kind = (reach, window, group, query.dtype, query.device)
        if kind not in self._masks:
            rows = torch.arange(TILE, device=query.device).repeat_interleave(group)[:, None] + reach
            keys = torch.arange(reach + TILE, device=query.device)[None]
            hidden = keys > rows
            if window is not None:
                hidden |= keys <= rows - window
            mask = torch.zeros(hidden.shape, dtype=query.dtype, device=query.device)
            self._masks[kind] = mask.masked_fill_(hidden, float('-inf'))
        return self._masks[kind]


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float,
            softcap: float | None) -> torch.Tensor:
    """Compute attention: query [1, H, R, D], key and value [1, H, K, D], mask [R, K] -> [1, H, R, D]."""
    if softcap is None:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    logits = softcap * torch.tanh((query @ key.transpose(2, 3)).float() * (scaling / softcap)) + mask
    return logits.softmax(dim=-1).to(value.dtype) @ value
