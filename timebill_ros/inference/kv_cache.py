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

"""A KV cache allocated once: it writes at its own length and hands out views of the filled slots.

A subclass of transformers' Cache, so models use it like any other. Nothing is concatenated or grown while decoding.
After eviction its length says how many slots are filled, which is less than the position of the next token: positions
are passed to the model explicitly.
"""
from __future__ import annotations

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values, [1, H_kv, capacity, D]; slots 0 .. length-1 are filled.

    A sliding-window layer stores all slots too, but shows only those that its window reaches.
    """

    is_compileable = False

    def __init__(self, capacity: int, sliding_window: int | None = None):
        super().__init__()
        self.is_initialized = False  # older transformers do not set it
        self.capacity = capacity
        self.sliding_window = sliding_window
        self.is_sliding = sliding_window is not None
        self.length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor | None = None) -> None:
        value_states = key_states if value_states is None else value_states
        _, heads, _, k_dim = key_states.shape
        with torch.inference_mode(False):  # so that they may be traced
            # One slot to spare: a trace of filled slots must not take them for the whole buffer (compiled_step.py).
            self.keys = key_states.new_zeros(1, heads, self.capacity + 1, k_dim)
            self.values = value_states.new_zeros(1, value_states.shape[1], self.capacity + 1, value_states.shape[3])
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        """Append [1, H_kv, L, D] states; returns views of the slots that this step attends to, the new ones last."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        n_new = key_states.shape[2]
        end = self.length + n_new
        if key_states.shape[0] != 1 or end > self.capacity:
            raise ValueError(f'the cache holds one sequence of {self.capacity} tokens; a batch of '
                             f'{key_states.shape[0]} would fill {end}')
        self.keys[:, :, self.length:end] = key_states
        self.values[:, :, self.length:end] = value_states
        self.length = end
        first = max(0, end - n_new - self.sliding_window + 1) if self.is_sliding else 0
        return self.keys[:, :, first:end], self.values[:, :, first:end]

    def filled(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Views of the filled slots, [1, H_kv, length, D] each."""
        return self.keys[:, :, :self.length], self.values[:, :, :self.length]

    def keep(self, indices: torch.Tensor) -> None:
        """Compact to the slots `indices`, [H_kv, n_keep] and ascending per head; every head keeps the same count."""
        n_keep = indices.shape[1]
        for states in (self.keys, self.values):
            index = indices[None, :, :, None].expand(-1, -1, -1, states.shape[3])
            # gather makes a copy first, so reading and writing the same buffer is safe.
            states[:, :, :n_keep] = states.gather(2, index)
        self.length = n_keep

    def snapshot(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of the filled slots, [1, H_kv, length, D] each, for `restore`. Not before the first update."""
        keys, values = self.filled()
        return keys.clone(), values.clone()

    def restore(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Hold what a snapshot of this layer holds, and nothing that came after it. The snapshot stays as it is."""
        self.length = keys.shape[2]
        self.keys[:, :, :self.length] = keys
        self.values[:, :, :self.length] = values

    def get_mask_sizes(self, query) -> tuple[int, int]:
        """(number of keys, their offset) for transformers' own masks; `query` is a length or, before 5.3, positions."""
        n_query = query if isinstance(query, int) else query.shape[0]
        first = max(0, self.length - self.sliding_window + 1) if self.is_sliding else 0
        return self.length + n_query - first, first

    def get_seq_length(self, *args) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.capacity

    get_max_cache_shape = get_max_length  # its name in older transformers

    def reset(self) -> None:
        """Forget the content; the slots stay allocated."""
        self.length = 0


class BucketLayer(SlotLayer):
    """A view of one layer's slots: the next states go to where `slot` [1] says on the device, and `bucket` slots are
    shown whatever they hold. See decode_step.BucketStep.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, slot: torch.Tensor, bucket: int):
        super().__init__(keys.shape[2])
        self.keys, self.values, self._slot, self.length = keys, values, slot, bucket - 1
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        """Store states of one token, [1, H_kv, 1, D]; returns views of the bucket."""
        self.keys.index_copy_(2, self._slot, key_states)
        self.values.index_copy_(2, self._slot, value_states)
        bucket = self.length + 1
        return self.keys[:, :, :bucket], self.values[:, :, :bucket]


class SlotCache(Cache):
    """One SlotLayer per decoder layer. `windows[i]` is layer i's sliding window, None for full attention.

    A window that the cache cannot outgrow is full attention: such layers are evicted like the others, and stay as long.
    """

    def __init__(self, capacity: int, windows: list[int | None]):
        super().__init__(layers=[SlotLayer(capacity, window if window is not None and window < capacity else None)
                                 for window in windows])
        self.capacity = capacity

    @classmethod
    def of(cls, keys: list[torch.Tensor], values: list[torch.Tensor], lengths: list[int]) -> SlotCache:
        """A cache over slots that there are, [1, H_kv, slots, D] for each layer, so many of them filled. No layer of it
        has a window of its own: the slots are what each attends to.
        """
        cache = cls(keys[0].shape[2], [None] * len(keys))
        for layer, layer.keys, layer.values, layer.length in zip(cache.layers, keys, values, lengths, strict=True):
            layer.capacity, layer.is_initialized = layer.keys.shape[2], True
        return cache

    @property
    def device(self) -> torch.device:
        """Of the slots; not before the first update."""
        return self.layers[0].keys.device

    def evictable_layers(self) -> list[int]:
        """Indices of the full-attention layers. Sliding windows keep their own rule."""
        return [index for index, layer in enumerate(self.layers) if not layer.is_sliding]
