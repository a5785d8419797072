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

"""Variants: the same model with weights of another precision, to decode with where time is short.

A variant shares the KV cache, the tokenizer and the prefill of the model that it was made from; only decode steps go
through it. It also shares the weights that it leaves as they are, such as embeddings: these are in memory once. The
planner chooses one (planning/knobs.py), or none, by what was measured on this device.
"""
from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import torch
from torch import nn

from timebill_ros.inference import int8_linear, torchao_weights
from timebill_ros.inference.packed_int4 import PackedInt4Linear, levels_of_grid, lies_on_grid, packs

HALVES = ('bfloat16', 'float16')
QUANTIZED = ('int8', 'int4')
VARIANTS = (*QUANTIZED, *HALVES)


def parse(names: str) -> list[str]:
    """Split 'int8, int4' into ['int8', 'int4']. ValueError naming what is not a variant."""
    found = [name.strip() for name in names.split(',') if name.strip()]
    for name in found:
        if name not in VARIANTS:
            raise ValueError(f'variant {name!r} is none of {", ".join(VARIANTS)}')
    return list(dict.fromkeys(found))


def make(model: nn.Module, variant: str, device: torch.device) -> nn.Module:
    """Return a copy of `model` in another precision. ValueError where this device or torch cannot have it.

    On a CPU, only the weights of linear layers are in that precision, in the classes below. Everything else is shared
    with the model. These classes are fast where decode steps are compiled (steps/compiled.py); activations are in
    float32, which keeps more of the quality and costs nothing there. On CUDA, half precision applies to the whole
    model but its embedding, of which a step reads one row, and torchao quantizes the weights of linear layers to int8
    and int4. The profile tells which variant is faster.
    """
    if label := getattr(model, 'timebill_quantized', ''):
        raise ValueError(f'variants are made of weights that are not quantised yet, and these are ({label})')
    if variant in HALVES and model.dtype == getattr(torch, variant):
        raise ValueError(f'the model runs in {variant} already')
    if device.type == 'cpu':
        return _with_linears(_sharing_copy(model), LINEARS[variant])
    if variant in HALVES:
        return _in_half(model, getattr(torch, variant))
    return _quantized_by_torchao(_sharing_copy(model), variant)


def quantize(model: nn.Module, precision: str, device: torch.device) -> nn.Module:
    """Give `model` itself weights in one of QUANTIZED, layer by layer: the others are let go of. See `make`."""
    if label := getattr(model, 'timebill_quantized', ''):
        raise ValueError(f'dtype {precision} is for weights that are not quantised yet, and these are ({label})')
    if device.type == 'cpu':
        return _with_linears(model, LINEARS[precision])
    return _quantized_by_torchao(model, precision)


def would_keep_4_bits(model: nn.Module) -> bool:
    """Whether `make(model, 'int8')` would keep the 4 bits of most layers, as the first rows of a few of them tell."""
    if getattr(model, 'timebill_quantized', ''):  # other libraries' weights, which no variant is made of
        return False
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    some = linears[::max(1, len(linears) // 5)]
    found = [packs(linear) and lies_on_grid(linear.weight) for linear in some]
    return 2 * sum(found) > len(found)


def as_stored(model: nn.Module) -> tuple[nn.Module, str]:
    """Return (model, precision) for decode steps that read weights as they were stored, in half precision.

    A model that is stored in half precision and computed in float32 (model_loading.py) need not read four bytes a
    weight at every step: the two that were stored are the same number. `timebill_stored` is that precision, where there
    is memory for such a copy; prefill keeps its own weights. (model itself, '') where nothing can be had this way.
    """
    stored = getattr(model, 'timebill_stored', None)

    def same(linear: nn.Linear) -> bool:
        return linear.weight.dtype == torch.float32 and torch.equal(linear.weight.to(stored).to(torch.float32),
                                                                    linear.weight)

    if stored is None or not any(same(module) for module in model.modules() if isinstance(module, nn.Linear)):
        return model, ''
    made = _with_linears(_sharing_copy(model), lambda linear: HalfLinear(linear, stored) if same(linear) else linear)
    return made, str(stored).removeprefix('torch.')


def _sharing_copy(model: nn.Module) -> nn.Module:
    """Return a copy whose modules are its own and whose tensors are the model's, ready to be replaced one by one."""
    shared = {id(tensor): tensor for tensors in (model.parameters(), model.buffers()) for tensor in tensors}
    return copy.deepcopy(model, shared)


class HalfLinear(nn.Module):
    """A linear layer, weight [N, K], with 16 bits a weight."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype):
        super().__init__()
        self.register_buffer('weight', linear.weight.detach().to(dtype))
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype), self.bias)


class Int4Linear(nn.Module):
    """A linear layer, weight [N, K], with 4 bits a weight and one float32 scale for every 32 weights of a row.

    Quantization is symmetric and rounds to nearest. K is a multiple of 32. A group is every (K / 32)th column, so that
    the scales of neighbouring columns are neighbours in memory.
    """

    GROUP = 32

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().to(torch.float32)
        weight = weight.view(len(weight), self.GROUP, -1)
        scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 7
        levels = (weight / scale[:, None]).round().clamp(-8, 7).to(torch.int16) + 8
        low, high = levels[:, :self.GROUP // 2], levels[:, self.GROUP // 2:]
        self.register_buffer('weight', (low | high << 4).to(torch.uint8))  # [N, 16, K / 32]
        self.register_buffer('scale', scale)  # [N, K / 32]
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low = (self.weight & 15).to(torch.float32) - 8
        high = (self.weight >> 4).to(torch.float32) - 8
        if x.numel() == x.shape[-1]:  # one token: once compiled, this unpacks no weights to memory
            half = x.view(2, self.GROUP // 2, -1)
            y = ((low * half[0] + high * half[1]) * self.scale[:, None]).sum((1, 2)).view(*x.shape[:-1], -1)
        else:
            weight = (torch.cat([low, high], dim=1) * self.scale[:, None]).flatten(1)
            y = nn.functional.linear(x, weight)
        return y if self.bias is None else y + self.bias


class _InFloat32(nn.Module):
    """An embedding whose rows come out in float32, so that all activations after it are in float32 too."""

    def __init__(self, embedding: nn.Module):
        super().__init__()
        self.embedding, self.num_embeddings = embedding, embedding.num_embeddings

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.embedding(ids).to(torch.float32)


class _InHalf(_InFloat32):
    """An embedding whose rows come out in half precision, or in float32 while a comparison takes weights there."""

    def __init__(self, embedding: nn.Module, dtype: torch.dtype, device: torch.device):
        super().__init__(embedding)
        # A weight of no numbers: steps/comparison.py takes the weights of each module to float32.
        self.like = nn.Parameter(torch.empty(0, dtype=dtype, device=device), requires_grad=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.embedding(ids).to(self.like.dtype)


def _in_int4(linear: nn.Linear) -> nn.Module:
    """Return a layer in int4: with PyTorch's own product where it can be had; with 8 bits where rows do not fit."""
    if packs(linear):
        return PackedInt4Linear(linear)
    return int8_linear.of(linear) if linear.in_features % Int4Linear.GROUP else Int4Linear(linear)


def _in_int8(linear: nn.Linear) -> nn.Module:
    """Return a layer in int8; in int4 where its weights were stored with 4 bits, which is nearer to them and quicker.

    Eight bits with one scale a row miss the levels that such weights lie on; int4 finds them again.
    """
    found = levels_of_grid(linear.weight) if packs(linear) else None
    return PackedInt4Linear(linear, found) if found else int8_linear.of(linear)


LINEARS = {
    'int8': _in_int8,
    'int4': _in_int4,
    **{name: functools.partial(HalfLinear, dtype=getattr(torch, name)) for name in HALVES},
}


def _with_linears(model: nn.Module, make_linear: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """Give the model other linear layers, and activations in float32."""
    was_float32, of_4_bits, total = model.dtype == torch.float32, 0, 0
    for name in [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]:
        parent, _, leaf = name.rpartition('.')
        linear = model.get_submodule(name)
        made, n = make_linear(linear), linear.weight.numel()
        setattr(model.get_submodule(parent), leaf, made)
        total, of_4_bits = total + n, of_4_bits + n * isinstance(made, PackedInt4Linear)
    # Planning asks: int8 costs no quality then. The output layer is often stored with more bits than the others.
    model.timebill_of_4_bits = make_linear is _in_int8 and of_4_bits > total / 2
    if not was_float32:
        model.set_input_embeddings(_InFloat32(model.get_input_embeddings()))
        for module in model.modules():  # norms and biases
            for name, parameter in list(module.named_parameters(recurse=False)):
                if parameter.dim() == 1:
                    setattr(module, name, nn.Parameter(parameter.to(torch.float32), requires_grad=False))
    return model.eval()


def _in_half(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of the model that computes in half precision, from the same embedding.

    Buffers are shared too: those of positions lose too much in half precision.
    """
    made, embedding = _sharing_copy(model), model.get_input_embeddings()
    halves: dict[int, nn.Parameter] = {}  # tied weights stay tied
    for module in made.modules():
        if module is made.get_input_embeddings():
            continue
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_floating_point():
                if id(parameter) not in halves:
                    halves[id(parameter)] = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
                setattr(module, name, halves[id(parameter)])
    made.set_input_embeddings(_InHalf(made.get_input_embeddings(), dtype, embedding.weight.device))
    return made.eval()


def _quantized_by_torchao(model: nn.Module, precision: str) -> nn.Module:
    """Give the linear layers of `model` weights in that precision; torchao gives each a new tensor."""
    torchao_weights.quantize(model, precision)
    return model.eval()
