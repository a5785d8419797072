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

"""Linear layers with 8 bits a weight and one float32 scale a row; see `of` for which one a layer gets.

Quantization is symmetric and rounds to nearest.
"""
from __future__ import annotations

import functools

import torch
from torch import nn

# With vectors of AVX2, PyTorch's compiler loads bytes through memory, one by one: the loop that it makes read 1.3e9
# weights a second where PyTorch's own product, made for bfloat16, read 15e9 (two cores of an EPYC, 1536 x 576, torch
# 2.13). With AVX512 the compiler's loop reaches the memory's pace, and the product was not tried.
PRODUCT_IS_QUICKER = torch.backends.cpu.get_cpu_capability() == 'AVX2'
MULTIPLE = 32  # rows of a weight, [N, K], that go through the product: K is a multiple of this
MANY = 16  # tokens; for more of them a matrix product of unpacked weights is the quicker one


class Int8Linear(nn.Module):
    """A linear layer, weight int8 [N, K] and scale float32 [N]. Fast for one token where the step is compiled."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight, scale = quantized(linear.weight.detach().to(torch.float32))
        self.register_buffer('weight', weight)
        self.register_buffer('scale', scale)
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self._product(x) * self.scale
        return y if self.bias is None else y + self.bias

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype))


class ProductInt8Linear(Int8Linear):
    """The same layer, which multiplies few tokens by PyTorch's own product for CPUs, `_weight_int8pack_mm`.

    The product is computed in `computes_in`: bfloat16, which is what it is fast for. In float32 it is exact and nine
    times slower.
    """

    computes_in = torch.bfloat16

    def __init__(self, linear: nn.Linear):
        super().__init__(linear)
        # In the place of scales, which would lose three digits. A tensor of its own, as PyTorch's compiler wants it.
        self.register_buffer('ones', torch.ones_like(self.scale, dtype=self.computes_in))

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) > MANY:
            return super()._product(x)
        y = torch.ops.aten._weight_int8pack_mm(rows.to(self.computes_in), self.weight, self.ones.to(self.computes_in))
        return y.to(x.dtype).view(*x.shape[:-1], -1)


def quantized(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize a weight, float32 [N, K]: levels, int8 [N, K], and a scale for every row, float32 [N]."""
    scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale


def of(linear: nn.Linear) -> Int8Linear:
    """Return the layer in int8, of the class that is fast on this processor."""
    quick = PRODUCT_IS_QUICKER and linear.in_features % MULTIPLE == 0 and product_is_available()
    return (ProductInt8Linear if quick else Int8Linear)(linear)


@functools.cache
def product_is_available() -> bool:
    """Whether this version of PyTorch has the product, and it multiplies right on this processor."""
    try:
        generator = torch.Generator().manual_seed(0)
        linear = nn.Linear(4 * MULTIPLE, 24, bias=False).requires_grad_(False)
        linear.weight.copy_(torch.randn(linear.weight.shape, generator=generator))
        x = torch.randn(3, 4 * MULTIPLE, generator=generator)
        with torch.no_grad():
            got, expected = ProductInt8Linear(linear)(x), Int8Linear(linear)(x)
        return bool((got - expected).norm() < 0.02 * expected.norm())
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
