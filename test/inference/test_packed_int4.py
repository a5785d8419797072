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

"""Weights of 4 bits: how they are quantized, and that PyTorch's packed product multiplies by what they stand for."""
import pytest
import torch

from timebill_ros.inference import packed_int4
from timebill_ros.inference.int8_linear import Int8Linear
from timebill_ros.inference.packed_int4 import (
    GROUP,
    PackedInt4Linear,
    dequantized,
    levels_of_grid,
    packs,
    quantized,
)
from timebill_ros.inference.variants import Int4Linear, make, would_keep_4_bits

needs_product = pytest.mark.skipif(not packed_int4.is_available(), reason='this PyTorch has no packed product')


def linear(n: int = 64, k: int = 96, bias: bool = True) -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(k, n, bias=bias).requires_grad_(False)


def test_each_weight_takes_the_nearest_level_of_its_group():
    weight = torch.randn(8, 3 * GROUP) + 0.5
    levels, scale, zero = quantized(weight)
    assert levels.dtype == torch.int32 and int(levels.min()) == 0 and int(levels.max()) == 15
    assert scale.shape == zero.shape == (8, 3)
    error = (dequantized(levels, scale, zero) - weight).abs().view(8, 3, GROUP)
    # Half a level, and what bfloat16 makes of the scale and the zero
    assert (error <= 0.5 * scale[..., None].float() + 0.01 * weight.abs().max()).all()


def test_a_group_of_equal_weights_stays_what_it_is():
    weight = torch.full((1, GROUP), 0.5)
    torch.testing.assert_close(dequantized(*quantized(weight)), weight)
    assert not dequantized(*quantized(torch.zeros(1, GROUP))).any()


@needs_product
@pytest.mark.parametrize(('n', 'k'), [(64, 32), (192, 96), (256, 576)])
@pytest.mark.parametrize('bias', [True, False])
def test_the_product_is_that_of_the_quantized_weights(n, k, bias):
    layer = linear(n, k, bias)
    packed, weight = PackedInt4Linear(layer), dequantized(*quantized(layer.weight))
    for shape in ((1, 1, k), (1, 5, k), (k,)):
        x = torch.randn(shape)
        expected = x @ weight.T + (layer.bias if bias else 0.0)
        got = packed(x)
        assert got.dtype == torch.float32 and got.shape == expected.shape
        assert (got - expected).norm() < 0.01 * expected.norm()
        packed.computes_in = torch.float32
        torch.testing.assert_close(packed(x), expected, rtol=1e-4, atol=1e-5)
        del packed.computes_in
        assert packed.computes_in == torch.bfloat16


@needs_product
def test_int4_is_packed_where_the_shape_allows_and_otherwise_not():
    def made(layer: torch.nn.Linear) -> type:
        model = torch.nn.Sequential(layer)
        model.dtype = torch.float32
        return type(make(model, 'int4', torch.device('cpu'))[0])

    assert made(linear(64, 96)) is PackedInt4Linear
    assert made(linear(65, 96)) is Int4Linear and issubclass(made(linear(64, 97)), Int8Linear)


def test_without_the_product_nothing_is_packed(monkeypatch):
    def missing(*arguments):
        raise AttributeError('no such operator')

    monkeypatch.setattr(packed_int4, 'PackedInt4Linear', missing)
    packed_int4.is_available.cache_clear()
    try:
        assert not packs(linear())
    finally:
        monkeypatch.undo()
        packed_int4.is_available.cache_clear()


def stored_with_4_bits(n: int, k: int, kind: str) -> torch.Tensor:
    """A weight as it comes from a GGUF file, in half precision: groups of 32 with a scale, and a least weight in Q4_1.

    In Q4_0 the weight of a group that is farthest from 0 gets the lowest level, and the others those that are nearest.
    """
    generator = torch.Generator().manual_seed(1)
    groups = torch.randn(n, k // GROUP, GROUP, generator=generator)
    if kind == 'Q4_0':
        farthest = groups.gather(2, groups.abs().argmax(dim=2, keepdim=True))
        scale = farthest / -8
        return ((groups / scale).round().clamp(-8, 7) * scale).flatten(1).to(torch.bfloat16)
    low = groups.amin(dim=2, keepdim=True)
    scale = (groups.amax(dim=2, keepdim=True) - low) / 15
    return (((groups - low) / scale).round() * scale + low).flatten(1).to(torch.bfloat16)


@needs_product
@pytest.mark.parametrize('rows', [64, 192])
@pytest.mark.parametrize('kind', ['Q4_0', 'Q4_1'])
def test_weights_that_were_stored_with_4_bits_keep_them_in_int8_too(kind, rows):
    layer, other = linear(rows, 96), linear(rows, 96)
    layer.weight.copy_(stored_with_4_bits(rows, 96, kind))
    other.weight.copy_(layer.weight)
    other.weight[20:] = torch.randn(rows - 20, 96)  # another kind of weights behind the first rows
    model = torch.nn.Sequential(layer, other, linear(rows, 96))
    model.dtype = torch.float32
    made = make(model, 'int8', torch.device('cpu'))
    kept, *others = made
    assert not made.timebill_of_4_bits, 'most of it does not'
    assert isinstance(kept, PackedInt4Linear) and not any(isinstance(m, PackedInt4Linear) for m in others)
    x = torch.randn(3, 96)
    kept.computes_in = torch.float32  # what bfloat16 makes of x is the same for any weights
    error = {kind: float((made(x) - layer(x)).norm() / layer(x).norm())
             for kind, made in (('4 bits', kept), ('8 bits', Int8Linear(layer)))}
    alone = torch.nn.Sequential(layer)
    alone.dtype, alone.timebill_quantized = torch.float32, ''
    assert would_keep_4_bits(alone) and not would_keep_4_bits(torch.nn.Sequential(linear(rows, 96)))
    alone.timebill_quantized = 'bitsandbytes'
    assert not would_keep_4_bits(alone), 'they may be laid out in any way'
    alone.timebill_quantized = ''
    assert not would_keep_4_bits(torch.nn.Sequential()) and not would_keep_4_bits(torch.nn.Sequential(linear(65, 97)))
    assert make(alone, 'int8', torch.device('cpu')).timebill_of_4_bits
    assert not make(alone, 'int4', torch.device('cpu')).timebill_of_4_bits, 'a table has its own curve for int4'
    assert error['4 bits'] < 0.01 and error['4 bits'] < error['8 bits']


@needs_product
def test_one_huge_weight_a_row_makes_no_grid_of_the_others():
    layer = linear(64, 576)
    layer.weight.copy_(torch.randn(64, 576, generator=torch.Generator().manual_seed(2)))
    layer.weight[:, 5] = 2000.0
    assert levels_of_grid(layer.weight) is None
    model = torch.nn.Sequential(layer)
    model.dtype = torch.float32
    made = make(model, 'int8', torch.device('cpu'))
    assert isinstance(made[0], Int8Linear) and not made.timebill_of_4_bits


def test_levels_are_looked_for_in_parts_and_are_the_same(monkeypatch):
    weight = stored_with_4_bits(100, 64, 'Q4_0').float()
    whole = levels_of_grid(weight)
    monkeypatch.setattr(packed_int4, 'AT_ONCE', 20 * 64)
    parts = levels_of_grid(weight)
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))
    weight[90:] = torch.randn(10, 64)
    assert levels_of_grid(weight) is None
