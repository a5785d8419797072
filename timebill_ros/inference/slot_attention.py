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

"""Attention of one token over slots of the cache some of which are hidden, by the kernels that suit this device best.

A kernel that gives each KV head to one processor leaves most processors of a GPU idle: a step has one query and a model
few KV heads. Kernels that split a head's keys among many are quicker over long caches. Which ones do depends on the
GPU and on the version of torch, so steps/attention_choice.py times them and says here which to use from which length.

The choice is hidden behind one operator. A trace of a step holds its name, and the kernels are chosen when it runs:
each CUDA graph has those that are quickest over its own bucket.
"""
from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Callable

import torch
from torch.nn.functional import scaled_dot_product_attention

# query [1, H_kv, G, D], keys and values [1, H_kv, K, D], visible [1, 1, 1, K] bool, scale -> [1, H_kv, G, D]
Way = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]


def by_sdpa(query, key, value, visible, scale):
    """Let PyTorch choose among its own kernels for attention with a mask."""
    return scaled_dot_product_attention(query, key, value, attn_mask=visible, scale=scale)


def by_products(query, key, value, visible, scale):
    """Compute two matrix products with the softmax between them."""
    scores = (query @ key.transpose(2, 3)).to(torch.float32) * scale
    return scores.where(visible, float('-inf')).softmax(dim=-1).to(value.dtype) @ value


def by_flex_decoding(query, key, value, visible, scale):
    """Run the kernel that torch compiles from flex_attention, which splits the keys where there are few queries."""
    return _compiled_flex()(query, key, value, visible.view(-1), scale)


WAYS: dict[str, Way] = {'sdpa': by_sdpa, 'products': by_products, 'flex_decoding': by_flex_decoding}
UNTIMED = 'sdpa'
ON_CUDA = {'flex_decoding'}  # ways whose kernels are for a GPU


@functools.cache
def _compiled_flex() -> Callable:
    from torch.nn.attention.flex_attention import flex_attention

    def over_visible(query, key, value, visible, scale):
        def hide(score, batch, head, at, slot):
            return torch.where(visible[slot], score, -float('inf'))
        return flex_attention(query, key, value, score_mod=hide, scale=scale)

    return torch.compile(over_visible, dynamic=True)  # for every bucket at once


# -- which way -------------------------------------------------------------------------------------------------------

Shape = tuple[torch.device, torch.dtype, int, int, int]  # and H_kv, G, D
_chosen: dict[Shape, tuple[list[int], list[str]]] = {}


def shape_of(query: torch.Tensor) -> Shape:
    """Return what a choice is made for: query [1, H_kv, G, D]."""
    return query.device, query.dtype, query.shape[1], query.shape[2], query.shape[3]


def use(shape: Shape, ways: dict[int, str]) -> None:
    """Use these ways for `shape` from now on: by the number of slots from which on each is used."""
    lengths = sorted(ways)
    _chosen[shape] = lengths, [ways[n] for n in lengths]


def is_timed(shape: Shape) -> bool:
    """Tell whether there is a choice for `shape`."""
    return shape in _chosen


def way_for(shape: Shape, n_slots: int) -> str:
    """Return the name of the way over so many slots; UNTIMED where nothing was timed."""
    lengths, names = _chosen.get(shape, ([], []))
    at = bisect_right(lengths, n_slots)
    return names[at - 1] if at else UNTIMED


# -- the operator ----------------------------------------------------------------------------------------------------

NAME = 'timebill_ros::slot_attention'
torch.library.define(NAME, '(Tensor query, Tensor key, Tensor value, Tensor visible, float scale) -> Tensor')


@torch.library.impl(NAME, 'default')
def _slot_attention(query, key, value, visible, scale):
    return WAYS[way_for(shape_of(query), key.shape[2])](query, key, value, visible, scale).contiguous()


@torch.library.register_fake(NAME)
def _like_the_query(query, key, value, visible, scale):
    return query.new_empty(query.shape)


def slot_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, visible: torch.Tensor,
                   scale: float) -> torch.Tensor:
    """Compute attention of one token whose query heads are grouped by KV head.

    query [1, H_kv, G, D], key and value [1, H_kv, K, D], visible bool [1, 1, 1, K] -> [1, H_kv, G, D]. What hidden
    slots hold must be finite: it counts with weight 0.
    """
    return torch.ops.timebill_ros.slot_attention(query, key, value, visible, scale)
