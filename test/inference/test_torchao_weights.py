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

"""Weights that torchao makes: asked for in the words of each version, shared where they stay, refused with a reason."""
from __future__ import annotations

import dataclasses
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from timebill_ros.inference import torchao_weights
from timebill_ros.inference.torchao_weights import GROUP, config, quantize


class Packed(torch.Tensor):
    """Stands for a class of weights of torchao's."""

    @staticmethod
    def __new__(cls, weight):
        return torch.Tensor._make_subclass(cls, weight)


@dataclasses.dataclass
class Int8Of012:
    group_size: int | None = None
    set_inductor_config: bool = True


@dataclasses.dataclass
class Int4Of012:
    group_size: int = 128
    layout: str = 'tensor core tiled'
    use_hqq: bool = False
    set_inductor_config: bool = True


@dataclasses.dataclass
class Int8Of018:
    group_size: int | None = None
    granularity: str = 'row'
    set_inductor_config: bool = True
    version: int = 2


@dataclasses.dataclass
class Int4Of018:
    group_size: int = 128
    set_inductor_config: bool = True
    int4_packing_format: str = 'plain'
    int4_choose_qparams_algorithm: str = 'tinygemm'
    int4_tile_packed_ntile: int = 8
    version: int = 2


@pytest.fixture
def torchao(monkeypatch):
    """A torchao whose classes have the fields of some version; it packs weights whose rows suit it."""
    def install(int8, int4, fails=None):
        def quantize_(model, wanted):
            if fails:
                raise fails
            for module in model.modules():
                if isinstance(module, nn.Linear) and module.in_features % (getattr(wanted, 'group_size', 0) or 1) == 0:
                    module.weight = nn.Parameter(Packed(module.weight.detach().clone()), requires_grad=False)
            asked.append(wanted)

        asked = []
        modules = {'torchao': ModuleType('torchao'), 'torchao.quantization': ModuleType('torchao.quantization'),
                   'torchao.utils': ModuleType('torchao.utils')}
        quantization = modules['torchao.quantization']
        quantization.Int8WeightOnlyConfig, quantization.Int4WeightOnlyConfig = int8, int4
        quantization.quantize_ = quantize_
        modules['torchao.utils'].unwrap_tensor_subclass = lambda model: asked.append('unwrapped')
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        return asked
    return install


@pytest.mark.parametrize(('int8', 'int4', 'expected'), [
    (Int8Of012, Int4Of012, Int4Of012(GROUP, set_inductor_config=False)),
    (Int8Of018, Int4Of018, Int4Of018(GROUP, False, 'tile_packed_to_4d', version=2)),
], ids=['0.12', '0.18'])
def test_each_version_is_asked_in_its_own_words(torchao, int8, int4, expected):
    """The format that torchao 0.18 takes by default has no kernels for an Orin."""
    torchao(int8, int4)
    assert config('int4') == expected
    assert config('int8') == int8(set_inductor_config=False)


def model_of(*widths, dtype=torch.bfloat16):
    linears = [nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)]
    return nn.Sequential(nn.Embedding(8, widths[0]), *linears).to(dtype)


def test_linear_layers_are_packed_and_the_rest_stays(torchao):
    asked, model = torchao(Int8Of018, Int4Of018), model_of(GROUP, GROUP, GROUP)
    model[2].weight = model[1].weight  # tied, as embedding and head are
    rest = [model[0].weight, model[1].bias]
    quantize(model, 'int4')
    assert [type(module.weight) for module in model] == [nn.Parameter, Packed, Packed]
    assert model[0].weight is rest[0] and model[1].bias is rest[1] and asked[1:] == ['unwrapped']


def test_layers_whose_rows_do_not_fit_are_told(torchao, caplog):
    torchao(Int8Of018, Int4Of018)
    with caplog.at_level('INFO'):
        quantize(model_of(GROUP, GROUP + 1, GROUP), 'int4')
    assert f'1 of 2 linear layers stay as they are in int4: their rows are no multiples of {GROUP}' in caplog.text
    with pytest.raises(ValueError, match='int4 cannot be made: no linear layer has rows'):
        quantize(model_of(GROUP + 1, 3), 'int4')


@pytest.mark.parametrize(('variant', 'dtype', 'capability', 'sentence'), [
    ('int4', torch.float16, (8, 7), 'computes in bfloat16, and dtype is float16'),
    ('int4', torch.bfloat16, (7, 5), 'a GPU has compute capability 7.5, and 8.0 is needed'),
    ('int8', torch.float16, (7, 0), 'a GPU has compute capability 7.0, and 7.5 is needed'),
    ('int4', torch.bfloat16, (8, 7), ''), ('int4', torch.bfloat16, (9, 0), ''), ('int8', torch.float16, (7, 5), ''),
])
def test_what_a_gpu_cannot_run_is_refused_with_the_reason(monkeypatch, variant, dtype, capability, sentence):
    class OnCuda:
        """A layer whose weight seems to be on a GPU."""

        weight = type('Weight', (), {'dtype': dtype, 'device': torch.device('cuda:0')})

    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'a GPU')
    said = torchao_weights._refusal(variant, [OnCuda])
    assert sentence in said and bool(said) == bool(sentence)


def test_what_torchao_raises_is_told(torchao):
    torchao(Int8Of018, Int4Of018, fails=NotImplementedError('no kernel for the test'))
    with pytest.raises(ValueError, match='int8 cannot be made: NotImplementedError: no kernel for the test'):
        quantize(model_of(GROUP, 3), 'int8')
    with pytest.raises(ValueError, match='the model has no linear layers'):
        quantize(nn.Sequential(nn.Embedding(3, 4)), 'int8')


def test_without_torchao_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torchao.quantization', None)
    with pytest.raises(ValueError, match='int8 on CUDA needs the package torchao'):
        quantize(model_of(GROUP, 3), 'int8')


@pytest.mark.slow
def test_the_installed_torchao_packs_int8_on_a_cpu_too():
    pytest.importorskip('torchao')
    model = model_of(GROUP, GROUP, 7)
    x = torch.tensor([[1, 5]])
    expected = model(x)
    names = dict(model.named_parameters())
    quantize(model, 'int8')
    assert model[0].weight is names['0.weight']
    torch.testing.assert_close(model(x), expected, rtol=0.05, atol=0.05)
    with torch.no_grad():
        program = torch.export.export(model, (x,), strict=False).run_decompositions()
        assert torch.equal(program.module()(x), model(x))
    kept = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    assert set(program.state_dict) <= kept, 'compiled steps find their weights by the names of the trace'
