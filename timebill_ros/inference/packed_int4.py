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

"""A linear layer with 4 bits a weight, multiplied by PyTorch's own packed product for CPUs.

The product unpacks in registers, so a step reads a quarter of what half precision reads. PyTorch lays the weights out
as this processor's vector units want them, which is a private matter of the process: packed weights are never saved.
"""
from __future__ import annotations

import functools

import torch
from torch import nn

from timebill_ros.inference import int8_linear

GROUP = 32  # neighbouring weights of a row that share a scale and a zero
TILES = 2  # of PyTorch's layout; any of its choices (2, 4, 8) gives the same numbers
STEPS = (15, 14, 13, 12, 11, 10, 9, 8)  # between the least and the largest weight of a group, as it may have been made
SAMPLE_ROWS = 16
AT_ONCE = 1 << 22  # weights whose levels are looked for at a time
MOST_GROUPS = 0.9  # of a weight that was stored with 4 bits meet their levels, whatever half precision made of some
MET = 0.1  # of a step: weights that lie anywhere are 0.29 of one away from a level, root mean square
MULTIPLE = 64  # rows of the weight, [N, K]: N is a multiple of this on every processor that PyTorch packs for


class PackedInt4Linear(nn.Module):
    """A linear layer, weight [N, K], with 4 bits a weight and a bfloat16 scale and zero for every GROUP of a row.

    A weight is (level - 8) * scale + zero with levels from 0 to 15. See `packs` for the shapes. The product is computed
    in `computes_in`: bfloat16, which is what it is fast for. In float32 it is exact and thirty times slower.
    """

    computes_in = torch.bfloat16

    def __init__(self, linear: nn.Linear, found: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None):
        """Pack the weights of `linear`. `found`: what `quantized` makes of them, where that is known."""
        super().__init__()
        levels, scale, zero = found or quantized(linear.weight.detach().to(torch.float32))
        self.register_buffer('weight', torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels, TILES))
        # [K / GROUP, N, 2], as the product wants it
        self.register_buffer('scales_and_zeros', torch.stack([scale, zero], dim=2).transpose(0, 1).contiguous())
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1]).to(self.computes_in)
        y = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.weight, GROUP,
                                                       self.scales_and_zeros.to(self.computes_in))
        y = y.to(x.dtype).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias


def quantized(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Quantize a weight, float32 [N, K]: levels, int32 [N, K], and scale and zero, bfloat16 [N, K / GROUP] each.

    The levels of a group span its smallest and largest weight, in 15 steps. Weights that were stored with 4 bits and
    one sign in the middle (Q4_0) mostly do not use the highest levels: their groups are spanned in as many steps as
    they were made with.
    """
    return levels_of_grid(weight) or _spanned(weight, STEPS[:1])


def _spanned(weight: torch.Tensor, all_steps: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Quantize as `quantized` does, each group in the first of these numbers of steps that meets its weights.

    Those that none meets are spanned in the first.
    """
    groups, (first, *others) = weight.reshape(-1, GROUP), all_steps
    whole = _in_steps(groups, first)
    left = (~_meets(whole, groups)).nonzero().flatten() if others else None
    for steps in others:
        made = _in_steps(groups[left], steps)
        met = _meets(made, groups[left])
        for all_groups, new in zip(whole, made, strict=True):
            all_groups[left[met]] = new[met]
        left = left[~met]
    levels, scale, zero = whole
    return levels.view_as(weight), scale.view(len(weight), -1), zero.view(len(weight), -1)


def _meets(made: tuple[torch.Tensor, torch.Tensor, torch.Tensor], groups: torch.Tensor) -> torch.Tensor:
    """Return for each group, bool [M], whether its weights lie on its levels, but for what rounding made of them."""
    return (_weights_of(*made) - groups).square().mean(dim=1).sqrt() <= MET * made[1].float()


def _in_steps(groups: torch.Tensor, steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Quantize groups, float32 [M, GROUP]: levels, int32 of that shape, and scale and zero, bfloat16 [M] each."""
    low, high = groups.amin(dim=1), groups.amax(dim=1)
    scale = ((high - low) / steps).clamp(min=torch.finfo(torch.bfloat16).tiny).to(torch.bfloat16)
    zero = (low + 8 * scale.float()).to(torch.bfloat16)
    # By the scale and zero as they are stored, so that their rounding costs nothing more
    levels = ((groups - zero[:, None]) / scale[:, None].float()).round().add(8).clamp(0, 15).to(torch.int32)
    return levels, scale, zero


def _weights_of(levels: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
    return (levels - 8) * scale[..., None].float() + zero[..., None].float()


def dequantized(levels: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
    """Return the float32 weight [N, K] that `quantized` stands for."""
    return _weights_of(levels.view(len(levels), -1, GROUP), scale, zero).flatten(1)


def levels_of_grid(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Return what `quantized` returns where `weight` [N, K] was stored with 4 bits in groups of GROUP; otherwise None.

    So are those of Q4_0 and Q4_1 in GGUF files: their groups have sixteen levels at most, which are found again. Then 4
    bits are nearer to the weights than 8 with one scale a row. K is a multiple of GROUP.
    """
    if not lies_on_grid(weight):
        return None
    found = []
    for rows in weight.detach().split(max(SAMPLE_ROWS, AT_ONCE // weight.shape[1])):  # which bounds the memory
        some = rows.to(torch.float32)
        made = _spanned(some, STEPS)
        if not _is_grid(made, some):
            return None
        found.append(made)
    levels, scale, zero = (torch.cat(parts) for parts in zip(*found, strict=True))
    return levels, scale, zero


def lies_on_grid(weight: torch.Tensor) -> bool:
    """Whether the first rows of `weight` were stored with 4 bits in groups of GROUP, as `levels_of_grid` has it."""
    some = weight[:SAMPLE_ROWS].detach().to(torch.float32)
    return _is_grid(_spanned(some, STEPS), some)


def _is_grid(found: tuple[torch.Tensor, torch.Tensor, torch.Tensor], weight: torch.Tensor) -> bool:
    levels, scale, zero = found
    met = _meets((levels.view(-1, GROUP), scale.flatten(), zero.flatten()), weight.reshape(-1, GROUP))
    # Beside one huge weight a row, 8 bits are far from the others, and so are 4: hence both.
    return float(met.float().mean()) >= MOST_GROUPS and _is_nearer_than_8_bits(found, weight)


def _is_nearer_than_8_bits(found: tuple[torch.Tensor, torch.Tensor, torch.Tensor], weight: torch.Tensor) -> bool:
    levels, scale = int8_linear.quantized(weight)
    return bool((dequantized(*found) - weight).norm() <= (levels * scale[:, None] - weight).norm())


def packs(linear: nn.Linear) -> bool:
    """Whether PackedInt4Linear can take the place of `linear` on this processor, with this version of PyTorch."""
    return linear.in_features % GROUP == 0 and linear.out_features % MULTIPLE == 0 and is_available()


@functools.cache
def is_available() -> bool:
    """Whether this version of PyTorch has the packed product, and it multiplies right on this processor."""
    try:
        weight = torch.randn(MULTIPLE, 4 * GROUP, generator=torch.Generator().manual_seed(0))
        linear = nn.Linear(4 * GROUP, MULTIPLE, bias=False)
        linear.weight = nn.Parameter(weight, requires_grad=False)
        x = weight[:2].to(torch.bfloat16)
        with torch.no_grad():
            got, expected = PackedInt4Linear(linear)(x).float(), x.float() @ dequantized(*quantized(weight)).T
        return bool((got - expected).norm() < 0.02 * expected.norm())
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
