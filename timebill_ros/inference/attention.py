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

"""The attention that models run here: PyTorch SDPA over the filled cache slots, remembering the last queries.

Registered with transformers' public AttentionInterface, so every model class that uses it takes this function without
a change of its own. No mask function is registered under the same name: transformers then builds no mask, and
causality is applied here, aligned to the end of the keys. That is right for one sequence without padding whatever
part of its cache has been evicted. SnapKV needs the queries of the prompt's last tokens; they pass through here.
"""
from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

log = logging.getLogger(__name__)

NAME = 'timebill'


class Stopped(Exception):
    """A layer was asked to stop, and the forward that it belongs to is left half done."""


class QueryWindow:
    """The last `size` prompt queries of one layer, [1, H_q, <= size, D], kept across prefill chunks.

    `recording` while a prompt is read, and `should_stop` is asked before each layer of each chunk then. `hidden`, bool
    [K], is of the cache slots that a step of fixed size must not see (decode_step.py).
    """

    def __init__(self, size: int):
        self.size = size
        self.recording = False
        self.should_stop: Callable[[], bool] = bool
        self.hidden: torch.Tensor | None = None
        self.queries: torch.Tensor | None = None
        self.scaling = 1.0

    def push(self, query: torch.Tensor, scaling: float) -> None:
        """Take over a chunk's queries, [1, H_q, L, D], rotary embedding applied."""
        tail = query[:, :, -self.size:]
        if tail.shape[2] < self.size and self.queries is not None:
            tail = torch.cat([self.queries, tail], dim=2)[:, :, -self.size:]
        # A copy: a view would hold the whole chunk in memory.
        self.queries, self.scaling = tail.clone(), scaling

    def clear(self) -> None:
        self.queries = None


class _CausalMasks:
    """The mask of the current chunk, built once and used by all layers."""

    def __init__(self):
        self._key, self._mask = None, None

    def get(self, n_query: int, n_key: int, window: int | None, device: torch.device) -> torch.Tensor:
        """[L, K] bool, True where query i (position K - L + i) may look at key j."""
        key = (n_query, n_key, window, device)
        if key != self._key:
            position = torch.arange(n_key - n_query, n_key, device=device)[:, None]
            keys = torch.arange(n_key, device=device)[None, :]
            mask = keys <= position
            if window is not None:
                mask &= keys > position - window
            self._key, self._mask = key, mask
        return self._mask


_masks = _CausalMasks()


# Types of device with fused kernels for queries that stand at the end of the keys: no mask is read there.
_aligns_to_end = {'cuda'}


def _aligned_to_end(query, key, value, scaling: float, gqa: dict) -> torch.Tensor:
    """Causal attention of a chunk that follows others; by a mask from now on where PyTorch cannot do without."""
    n_query, n_key = query.shape[2], key.shape[2]
    try:
        return scaled_dot_product_attention(query, key, value, attn_mask=causal_lower_right(n_query, n_key),
                                            scale=scaling, **gqa)
    except torch.OutOfMemoryError:  # a RuntimeError too, which says nothing of the kernels
        raise
    except (RuntimeError, TypeError) as error:
        log.info('chunks of prefill after the first are masked (%s: %s)', type(error).__name__, error)
        _aligns_to_end.discard(query.device.type)
        return _masked(query, key, value, None, scaling, gqa)


def _masked(query, key, value, window: int | None, scaling: float, gqa: dict) -> torch.Tensor:
    mask = _masks.get(query.shape[2], key.shape[2], window, query.device)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling, **gqa)


def attention(module, query, key, value, attention_mask, dropout=0.0, scaling=None, sliding_window=None, **kwargs):
    """Query [1, H_q, L, D], key and value [1, H_kv, K, D] -> ([1, L, H_q, D], None).

    ValueError for variants that it does not compute (soft-capped logits, attention sinks, prepared masks), so that a
    model which needs them is never answered with something else. The arguments stand in the order of transformers'
    own SDPA function, because some libraries pass the first of them by position.
    """
    if attention_mask is not None or kwargs.get('softcap') is not None or kwargs.get('s_aux') is not None:
        raise ValueError('this model wants an attention mask, soft-capped logits or attention sinks')
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    window = getattr(module, 'timebill_window', None)
    if window is not None and window.recording:
        if window.should_stop():
            raise Stopped
        window.push(query, scaling)
    computed_in = query.dtype
    query = query.to(key.dtype)  # weights of another precision than the cache's: see variants.py
    _, n_heads, n_query, head_dim = query.shape
    n_kv_heads, n_key = key.shape[1], key.shape[2]
    if n_query == 1:
        # Decoding: the query group of a KV head takes the place of the query length, which needs neither repeated
        # keys nor a mask. The cache layer has already cut a sliding window to size.
        query = query.view(1, n_kv_heads, -1, head_dim)
        if window is not None and window.hidden is not None:
            # PyTorch's fused kernels with a mask do not share the keys of one head out; matrix products do.
            scores = (query @ key.transpose(2, 3)).to(torch.float32) * scaling
            out = scores.masked_fill(window.hidden, float('-inf')).softmax(dim=-1).to(value.dtype) @ value
        else:
            out = scaled_dot_product_attention(query, key, value, scale=scaling)
        return out.reshape(1, 1, n_heads, -1).to(computed_in), None
    gqa = {'enable_gqa': True} if n_heads != n_kv_heads else {}
    limit = sliding_window if sliding_window is not None and n_key > sliding_window else None
    if n_key == n_query and limit is None:
        out = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, **gqa)
    elif limit is None and query.device.type in _aligns_to_end:
        out = _aligned_to_end(query, key, value, scaling, gqa)
    else:
        out = _masked(query, key, value, limit, scaling, gqa)
    return out.transpose(1, 2).contiguous().to(computed_in), None


AttentionInterface.register(NAME, attention)
