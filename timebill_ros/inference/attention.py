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

"""The attention that models run here: PyTorch's SDPA over the filled cache slots.

The function is registered with transformers' public AttentionInterface, so every model class that uses that interface
takes it without a change of its own. No mask function is registered under the same name: transformers then builds no
mask, and causality is applied here, with the queries at the end of the keys. For one sequence without padding that is
right, whatever has been evicted from its cache. The queries of the prompt's last tokens, which SnapKV needs, are
recorded here.
"""
from __future__ import annotations

import logging

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from timebill_ros.inference.slot_attention import slot_attention

log = logging.getLogger(__name__)

NAME = 'timebill'


def avoid_plans_for_each_length() -> None:
    """Have PyTorch choose no attention by cuDNN, in this process.

    cuDNN makes a plan for each new length (PyTorch's pull request 155958), and every prompt has one of its own. PyTorch
    prefers it on some GPUs. On an H100 the first prompt of a length took 35 to 55 ms more now and then, for which this
    is the likely cause; without it nothing was measured yet. PyTorch's own flash attention needs no plan.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


class _CausalMasks:
    """The mask of the current chunk, built once and used by all layers."""

    def __init__(self):
        self._key, self._mask = None, None

    def get(self, n_query: int, n_key: int, window: int | None, device: torch.device) -> torch.Tensor:
        """Return the mask, bool [L, K]: True where query i, at position K - L + i, may look at key j."""
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


# Device types with fused kernels for causal attention of queries at the end of the keys, which read no mask from
# memory. A type whose kernels turn out to be missing is taken out.
_aligns_to_end = {'cuda'}


def _aligned_to_end(query, key, value, scaling: float, gqa: dict) -> torch.Tensor:
    """Compute causal attention of a chunk that follows others, without a mask in memory.

    Where PyTorch cannot do that, this call and all later ones on the same type of device use a mask.
    """
    n_query, n_key = query.shape[2], key.shape[2]
    try:
        return scaled_dot_product_attention(query, key, value, attn_mask=causal_lower_right(n_query, n_key),
                                            scale=scaling, **gqa)
    except torch.OutOfMemoryError:  # a RuntimeError too, but no sign of a missing kernel
        raise
    except (RuntimeError, TypeError) as error:
        log.info('chunks of prefill after the first are masked (%s: %s)', type(error).__name__, error)
        _aligns_to_end.discard(query.device.type)
        return _masked(query, key, value, None, scaling, gqa)


def _masked(query, key, value, window: int | None, scaling: float, gqa: dict) -> torch.Tensor:
    mask = _masks.get(query.shape[2], key.shape[2], window, query.device)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling, **gqa)


def _soft_capped(query, key, value, window: int | None, scaling: float, softcap: float,
                 visible: torch.Tensor | None) -> torch.Tensor:
    """Compute causal attention whose logits stay below `softcap`: query [1, H_q, L, D] -> [1, H_q, L, D].

    Gemma 2 has this, and PyTorch's fused kernels do not. `visible`: the mask of a single query, see `attention`.
    """
    n_query, n_kv_heads, n_key = query.shape[2], key.shape[1], key.shape[2]
    grouped = query.reshape(1, n_kv_heads, -1, query.shape[3])  # [1, H_kv, group * L, D]: keys are not repeated
    logits = softcap * torch.tanh((grouped @ key.transpose(2, 3)).to(torch.float32) * (scaling / softcap))
    logits = logits.view(1, n_kv_heads, -1, n_query, n_key)
    if n_query > 1:
        visible = _masks.get(n_query, n_key, window, query.device)
    if visible is not None:
        logits = logits.where(visible, float('-inf'))
    weights = logits.softmax(dim=-1).to(value.dtype).view(1, n_kv_heads, -1, n_key)
    return (weights @ value).view(1, query.shape[1], n_query, -1)


def attention(module, query, key, value, attention_mask, dropout=0.0, scaling=None, sliding_window=None, **kwargs):
    """Compute attention: query [1, H_q, L, D], key and value [1, H_kv, K, D] -> ([1, L, H_q, D], None).

    The queries belong to the last L keys. Without a mask, each looks at the keys up to its own. `attention_mask`, bool
    [1, 1, 1, K], says which slots a single query may look at: decode steps of fixed size show slots that are not
    filled yet (steps/step_module.py). ValueError for what is not computed here (attention sinks, masks that a model
    prepares itself): a model that needs it must not run without. The arguments are in the order of transformers' own
    SDPA function, because some libraries pass the first of them by position.

    Answers that are decoded side by side (side_by_side.py) are taken one after the other: query [rows, H_q, 1, D], and
    each row has keys and values of its own.
    """
    rows = getattr(module, 'timebill_rows', None)
    if rows is None:
        return _of_one(module, query, key, value, attention_mask, scaling, sliding_window, kwargs), None
    return torch.cat([_of_one(module, query[i:i + 1], keys, values, attention_mask, scaling, sliding_window, kwargs)
                      for i, (keys, values) in enumerate(rows.views)]), None


def _of_one(module, query, key, value, attention_mask, scaling, sliding_window, kwargs: dict) -> torch.Tensor:
    """Compute the attention of one sequence -> [1, L, H_q, D]; see `attention`."""
    n_query, n_key = query.shape[2], key.shape[2]
    masked = attention_mask is not None
    if masked and (attention_mask.dtype != torch.bool or attention_mask.shape != (1, 1, 1, n_key) or n_query > 1) or \
            kwargs.get('s_aux') is not None:
        raise ValueError('this model wants an attention mask or attention sinks')
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    recorder = getattr(module, 'timebill_recorder', None)
    if recorder is not None and recorder.recording:
        recorder.push(query.to(key.dtype), scaling)  # scorers compare it with the cache
    computed_in = query.dtype
    query = query.to(key.dtype)  # another precision than the cache's comes with other weights: see variants.py
    tiles = getattr(module, 'timebill_tiles', None)
    if tiles is not None and tiles.is_reading:
        return tiles.attend(query, key, value, sliding_window, scaling, kwargs.get('softcap')).to(computed_in)
    n_heads, n_kv_heads, head_dim = query.shape[1], key.shape[1], query.shape[3]
    if (softcap := kwargs.get('softcap')) is not None:
        out = _soft_capped(query, key, value, sliding_window, scaling, softcap, attention_mask)
        return out.transpose(1, 2).contiguous().to(computed_in)
    if n_query == 1:
        # Decoding: the query group of a KV head takes the place of the query length, so that neither repeated keys nor
        # a causal mask are needed. The cache layer shows no more than a sliding window reaches.
        query = query.view(1, n_kv_heads, -1, head_dim)
        if masked:
            out = slot_attention(query, key, value, attention_mask, scaling)
        else:
            out = scaled_dot_product_attention(query, key, value, scale=scaling)
        return out.reshape(1, 1, n_heads, -1).to(computed_in)
    gqa = {'enable_gqa': True} if n_heads != n_kv_heads else {}
    limit = sliding_window if sliding_window is not None and n_key > sliding_window else None
    if n_key == n_query and limit is None:
        out = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, **gqa)
    elif limit is None and query.device.type in _aligns_to_end:
        out = _aligned_to_end(query, key, value, scaling, gqa)
    else:
        out = _masked(query, key, value, limit, scaling, gqa)
    return out.transpose(1, 2).contiguous().to(computed_in)


AttentionInterface.register(NAME, attention)
