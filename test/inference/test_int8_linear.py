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

"""Linear layers of 8 bits a weight: what they multiply by, and PyTorch's own product where it is the quicker one."""
import pytest
import torch

from timebill_ros.inference import int8_linear
from timebill_ros.inference.int8_linear import MANY, Int8Linear, ProductInt8Linear

KINDS = [Int8Linear, pytest.param(ProductInt8Linear, marks=pytest.mark.skipif(
    not int8_linear.product_is_available(), reason='this PyTorch has no product of int8 for CPUs'))]


def linear(k: int, n: int = 8, bias: bool = True) -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(k, n, bias=bias).requires_grad_(False)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('k', [32, 96, 4 * 5024])
def test_one_token_and_several_are_multiplied_by_the_levels(k, bias, kind):
    layer = linear(k, bias=bias)
    quantized = kind(layer)
    weight = quantized.weight * quantized.scale[:, None]
    assert quantized.weight.dtype == torch.int8
    assert (weight - layer.weight).abs().max() <= 0.51 * quantized.scale.max()
    for shape in ((k,), (1, 1, k), (1, 3, k), (1, MANY, k), (1, MANY + 1, k)):
        x = torch.randn(shape)
        expected = x @ weight.T + (layer.bias if bias else 0.0)
        got = quantized(x)
        assert got.shape == expected.shape and got.dtype == torch.float32
        assert (got - expected).norm() < 0.01 * expected.norm()
        if kind is ProductInt8Linear:
            quantized.computes_in = torch.float32
            got = quantized(x)
            del quantized.computes_in
            assert quantized.computes_in == torch.bfloat16
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_each_row_is_rounded_by_its_own_scale():
    layer = torch.nn.Linear(3, 2).requires_grad_(False)
    layer.weight.copy_(torch.tensor([[127.0, -63.6, 0.4], [0.0, 0.0, 0.0]]))
    quantized = Int8Linear(layer)
    assert quantized.weight.tolist() == [[127, -64, 0], [0, 0, 0]] and quantized.scale[0] == 1.0
    x = torch.tensor([[1.0, 2.0, 3.0]])
    torch.testing.assert_close(quantized(x), torch.tensor([[127.0 - 128.0, 0.0]]) + layer.bias)


def test_the_product_is_taken_where_it_is_quicker_and_can_be_had(monkeypatch):
    available = int8_linear.product_is_available()
    for quicker in (True, False):
        monkeypatch.setattr(int8_linear, 'PRODUCT_IS_QUICKER', quicker)
        assert type(int8_linear.of(linear(64))) is (ProductInt8Linear if quicker and available else Int8Linear)
        assert type(int8_linear.of(linear(33))) is Int8Linear


def test_without_the_product_no_layer_asks_for_it(monkeypatch):
    def missing(*arguments):
        raise AttributeError('no such operator')

    monkeypatch.setattr(int8_linear, 'PRODUCT_IS_QUICKER', True)
    monkeypatch.setattr(ProductInt8Linear, '_product', missing)
    int8_linear.product_is_available.cache_clear()
    try:
        assert type(int8_linear.of(linear(64))) is Int8Linear
    finally:
        monkeypatch.undo()
        int8_linear.product_is_available.cache_clear()
