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

"""A KV cache that is allocated once. New states are written after the filled slots; readers get views of those.

SlotCache is a subclass of transformers' Cache, so models use it like any other. Nothing is concatenated or grown while
decoding. After eviction, a layer's length is smaller than the position of the next token: positions are passed to the
model explicitly.
"""
from __future__ import annotations

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values, [1, H_kv, capacity + 1, D]; slots 0 .. length-1 are filled, the last one is spare.

    A sliding-window layer stores every token too, but shows only the slots that its window reaches. `dtype`: what is
    stored; None: as the first states come.
    """

    is_compileable = False

    def __init__(self, capacity: int, sliding_window: int | None = None, dtype: torch.dtype | None = None):
        super().__init__()
        self.is_initialized = False  # older transformers do not set it
        self.capacity = capacity
        self.sliding_window = sliding_window
        self.is_sliding = sliding_window is not None
        self.length = 0
        self._dtype = dtype
        self.clears = False  # whether `reset` clears slots, see SlotCache
        self._touched = 0  # slots that were written since they were clear

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor | None = None) -> None:
        value_states = key_states if value_states is None else value_states
        _, heads, _, k_dim = key_states.shape
        with torch.inference_mode(False):  # tensors made in inference mode cannot be traced
            # One spare slot: a trace of the filled slots must not take them for the whole buffer (steps/compiling.py).
            self.keys = key_states.new_zeros(1, heads, self.capacity + 1, k_dim, dtype=self._dtype)
            self.values = value_states.new_zeros(1, value_states.shape[1], self.capacity + 1, value_states.shape[3],
                                                 dtype=self._dtype)
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        """Append states [1, H_kv, L, D]; return views of the slots that this step attends to, the new ones last.

        ValueError where they do not fit.
        """
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
        self._touched = max(self._touched, end)
        first = max(0, end - n_new - self.sliding_window + 1) if self.is_sliding else 0
        return self.keys[:, :, first:end], self.values[:, :, first:end]

    def filled(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return views of the filled slots: keys and values, [1, H_kv, length, D] each."""
        return self.keys[:, :, :self.length], self.values[:, :, :self.length]

    def refill(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Count the first `n` slots as filled; return views of keys and values, [1, H_kv, n, D], to write them to.

        Not before the first update.
        """
        self.length = n
        self._touched = max(self._touched, n)
        return self.filled()

    def keep(self, indices: torch.Tensor) -> None:
        """Compact to the slots `indices`, [H_kv, n_keep] and ascending per head; every head keeps the same count."""
        n_keep = indices.shape[1]
        for states in (self.keys, self.values):
            # Both ways make a copy first, so reading and writing the same buffer is safe.
            if states.device.type == 'cpu':  # rows are copied whole, 3 to 10 times as quick as number by number
                for head, index in zip(states[0], indices, strict=True):
                    head[:n_keep] = head.index_select(0, index)
            else:
                states[:, :, :n_keep] = states.gather(2, indices[None, :, :, None].expand(-1, -1, -1, states.shape[3]))
        self.length = n_keep

    def snapshot(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy the filled slots for `restore`: keys and values, [1, H_kv, length, D] each.

        Not before the first update.
        """
        keys, values = self.filled()
        return keys.clone(), values.clone()

    def restore(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Go back to a snapshot of this layer. The snapshot can be restored again."""
        to_keys, to_values = self.refill(keys.shape[2])
        to_keys[:] = keys
        to_values[:] = values

    def get_mask_sizes(self, query) -> tuple[int, int]:
        """Return (number of keys, offset of the first) for transformers' own masks.

        `query` is a number of tokens or, before transformers 5.3, their positions.
        """
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
        if self.clears and self.is_initialized:
            self.keys[:, :, :self._touched] = 0.0
            self.values[:, :, :self._touched] = 0.0
            self._touched = 0
        self.length = 0


class SlotCache(Cache):
    """One SlotLayer per decoder layer. `windows[i]` is layer i's sliding window, None for full attention.

    A layer whose window is at least as long as the cache counts as full attention: it is evicted like the others, and
    its length stays theirs.

    Steps of fixed size (steps/step_module.py) read slots that are not filled, with weight 0. Zero times NaN is NaN, so
    one request whose entries became NaN would spoil all later ones. With `clear_on_reset`, every request starts from
    clear slots.
    """

    def __init__(self, capacity: int, windows: list[int | None], dtype: torch.dtype | None = None):
        super().__init__(layers=[SlotLayer(capacity, window if window is not None and window < capacity else None,
                                           dtype) for window in windows])
        self.capacity = capacity

    @classmethod
    def of(cls, keys: list[torch.Tensor], values: list[torch.Tensor], lengths: list[int]) -> SlotCache:
        """Build a cache around existing tensors.

        `keys[i]`, `values[i]`: [1, H_kv, slots, D]; `lengths[i]` slots of layer i are filled. No layer slides: each
        attends to all the slots that it is given.
        """
        cache = cls(keys[0].shape[2], [None] * len(keys))
        for layer, layer.keys, layer.values, layer.length in zip(cache.layers, keys, values, lengths, strict=True):
            layer.capacity, layer.is_initialized = layer.keys.shape[2], True
        return cache

    @property
    def device(self) -> torch.device:
        """Where the slots are; not before the first update."""
        return self.layers[0].keys.device

    @property
    def lengths(self) -> list[int]:
        """Filled slots of each layer. A shorter length hides the last slots; the former length shows them again."""
        return [layer.length for layer in self.layers]

    @lengths.setter
    def lengths(self, lengths: list[int]) -> None:
        for layer, length in zip(self.layers, lengths, strict=True):
            layer.length = length

    def clear_on_reset(self) -> None:
        """Have `reset` clear the slots that were written, and clear the slots that are not filled now."""
        for layer in self.layers:
            layer.clears, layer._touched = True, layer.length
            if layer.is_initialized:
                layer.keys[:, :, layer.length:] = 0.0
                layer.values[:, :, layer.length:] = 0.0

    def advance(self) -> None:
        """Count one more filled slot in every layer, after a step that wrote to the slots itself."""
        for layer in self.layers:
            layer.length += 1
            layer._touched = max(layer._touched, layer.length)

    def evictable_layers(self) -> list[int]:
        """Return the indices of the full-attention layers. Layers with a sliding window keep their own rule."""
        return [index for index, layer in enumerate(self.layers) if not layer.is_sliding]

    def check(self) -> None:
        """Check the invariants that everything else relies on; ValueError names the layer that breaks one.

        Not for the token loop: the worker calls this between goals, and so do tests.
        """
        for index, layer in enumerate(self.layers):
            if not 0 <= layer.length <= self.capacity:
                raise ValueError(f'layer {index} holds {layer.length} entries in {self.capacity} slots')
            if not layer.is_initialized:
                if layer.length:
                    raise ValueError(f'layer {index} holds {layer.length} entries and has no slots')
                continue
            for name, states in (('keys', layer.keys), ('values', layer.values)):
                if states.shape[0] != 1 or states.shape[2] != self.capacity + 1:  # the spare slot
                    raise ValueError(f'layer {index} has {name} of shape {list(states.shape)} for one sequence of '
                                     f'{self.capacity} tokens')
            if layer.keys.shape[1] != layer.values.shape[1] or layer.keys.device != layer.values.device:
                raise ValueError(f'layer {index} has keys of shape {list(layer.keys.shape)} on {layer.keys.device} and '
                                 f'values of shape {list(layer.values.shape)} on {layer.values.device}')
        lengths = {self.layers[index].length for index in self.evictable_layers()}
        if len(lengths) > 1:
            raise ValueError(f'full-attention layers hold different numbers of entries: {sorted(lengths)}')
        sliding = [layer.length for layer in self.layers if layer.is_sliding]
        if lengths and any(length < max(lengths) for length in sliding):
            raise ValueError(f'layers with a sliding window hold {sliding} entries, others {max(lengths)}: only the '
                             'others are evicted')
