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

"""One decode step as a module that takes tensors only: what is traced for compiling and captured as a CUDA graph.

Nothing in it depends on a number that the host knows. ExactStep reads as many cache slots as are filled; BucketStep
reads a fixed number of slots and hides those that are not filled, because a CUDA graph repeats kernels with the
arguments that they were captured with.
"""
from __future__ import annotations

import torch
from torch import nn
from transformers.cache_utils import Cache

from timebill_ros.inference.kv_cache import SlotCache, SlotLayer
from timebill_ros.inference.steps.modules import forward, forward_options


class ExactStep(nn.Module):
    """A step over exactly the slots that are filled, for any number of them.

    Inputs: token and position, int64 [1, 1]; `filled` [n], whose length says that slots 0 .. n - 1 are attended to and
    whose content is ignored; `keys` and `values`, one [1, H_kv, slots, D] for each layer. The new token's keys and
    values go into slot n - 1. A layer with a sliding window is given only the w slots that its window reaches,
    [1, H_kv, w, D], the last of which is the new token's. Output: (logits [V], hidden [H]).
    """

    def __init__(self, model: nn.Module, sliding: list[bool]):
        super().__init__()
        self.model, self._sliding, self._options = model, sliding, forward_options(model)

    def forward(self, token, position, filled, keys, values):
        lengths = [key.shape[2] - 1 if slides else filled.shape[0] - 1
                   for key, slides in zip(keys, self._sliding, strict=True)]
        return forward(self.model, token, position, SlotCache.of(keys, values, lengths), self._options)


class BucketStep(nn.Module):
    """A step over the first b slots, whatever they hold; those after the new token's are hidden.

    Inputs: token, position, keys and values as for ExactStep; `slot`, int64 [1], where the new token's keys and values
    go, which only the device knows; `bucket` [b], whose length is used and whose content is ignored. No layer has a
    sliding window. Output: (logits [V], hidden [H]).
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self._options = model, forward_options(model)

    def forward(self, token, position, slot, bucket, keys, values):
        n = bucket.shape[0]
        visible = (torch.arange(n, device=slot.device) <= slot)[None, None, None]
        cache = Cache(layers=[BucketLayer(key, value, slot, n) for key, value in zip(keys, values, strict=True)])
        return forward(self.model, token, position, cache, self._options, visible)


class BucketLayer(SlotLayer):
    """A view of one layer's slots for BucketStep: writes where the device says, and always shows `bucket` slots."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, slot: torch.Tensor, bucket: int):
        super().__init__(keys.shape[2])
        self.keys, self.values, self.slot, self.length = keys, values, slot, bucket - 1
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        """Store states of one token, [1, H_kv, 1, D]; return views of the bucket, [1, H_kv, b, D]."""
        self.keys.index_copy_(2, self.slot, key_states)
        self.values.index_copy_(2, self.slot, value_states)
        bucket = self.length + 1
        return self.keys[:, :, :bucket], self.values[:, :, :bucket]
