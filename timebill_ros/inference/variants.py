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

from timebill_ros.inference import torchao_weights

HALVES = ('bfloat16', 'float16')
VARIANTS = ('int8', 'int4', *HALVES)


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
        return _with_linears(model, LINEARS[variant])
    if variant in HALVES:
        return _in_half(model, getattr(torch, variant))
    return _quantized_by_torchao(_sharing_copy(model), variant)


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


class Int8Linear(nn.Module):
    """A linear layer, weight [N, K], with 8 bits a weight and one float32 scale a row.

    Quantization is symmetric and rounds to nearest.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().to(torch.float32)
        scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        self.register_buffer('weight', (weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer('scale', scale)
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.linear(x, self.weight.to(x.dtype)) * self.scale
        return y if self.bias is None else y + self.bias


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
        self.embedding = embedding

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


LINEARS = {
    'int8': Int8Linear,
    'int4': lambda linear: (Int8Linear if linear.in_features % Int4Linear.GROUP else Int4Linear)(linear),
    **{name: functools.partial(HalfLinear, dtype=getattr(torch, name)) for name in HALVES},
}


def _with_linears(model: nn.Module, make_linear: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """Return a copy of the model with other linear layers, and with activations in float32."""
    made = _sharing_copy(model)
    for name, module in list(made.named_modules()):
        if isinstance(module, nn.Linear):
            parent, _, leaf = name.rpartition('.')
            setattr(made.get_submodule(parent), leaf, make_linear(module))
    if model.dtype != torch.float32:
        made.set_input_embeddings(_InFloat32(made.get_input_embeddings()))
        for module in made.modules():  # norms and biases
            for name, parameter in list(module.named_parameters(recurse=False)):
                if parameter.dim() == 1:
                    setattr(module, name, nn.Parameter(parameter.to(torch.float32), requires_grad=False))
    return made.eval()


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
