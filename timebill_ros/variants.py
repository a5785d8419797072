"""The same model with weights of another precision, to decode with where time is short.

A variant shares the KV cache, the tokenizer and the prefill of the model it was made from; only decode steps go
through it. Which one, if any, is the planner's choice (knobs.py), from what was measured on this device.
"""
from __future__ import annotations

import copy

import torch
from torch import nn

HALVES = ('bfloat16', 'float16')
VARIANTS = ('int8', 'int4', *HALVES)


def parse(names: str) -> list[str]:
    """'int8, int4' -> ['int8', 'int4']. ValueError naming what is not a variant."""
    found = [name.strip() for name in names.split(',') if name.strip()]
    for name in found:
        if name not in VARIANTS:
            raise ValueError(f'variant {name!r} is none of {", ".join(VARIANTS)}')
    return list(dict.fromkeys(found))


def make(model: nn.Module, variant: str, device: torch.device) -> nn.Module:
    """A copy of `model` with its linear layers in another precision. ValueError where this device or torch cannot.

    Quantized is the weight only: on CUDA by torchao, on a CPU by the classes below, which share everything else with
    the model and are fast where decode steps are compiled (compiled_step.py). Which is faster is in the profile.
    """
    if variant in HALVES:
        dtype = getattr(torch, variant)
        if model.dtype == dtype:
            raise ValueError(f'the model runs in {variant} already')
        return copy.deepcopy(model).to(dtype).eval()
    if device.type != 'cpu':
        return _weight_only(model, variant)
    return _quantized(model, Int8Linear if variant == 'int8' else Int4Linear)


class Int8Linear(nn.Module):
    """A linear layer, weight [N, K], with 8 bits a weight and one float32 scale a row, symmetric and rounded to
    nearest."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().to(torch.float32)
        scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        self.register_buffer('weight', (weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer('scale', scale)
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # In float32 whatever x is: a compiler was seen to make slow code of int8 by way of bfloat16.
        y = nn.functional.linear(x.to(torch.float32), self.weight.to(torch.float32)) * self.scale
        return (y if self.bias is None else y + self.bias).to(x.dtype)


class Int4Linear(nn.Module):
    """A linear layer, weight [N, K], with 4 bits a weight and a float32 scale for every 32 of a row, symmetric and
    rounded to nearest. K is a multiple of 32.

    A group is every (K / 32)th column, so that the scales of neighbouring columns are neighbours in memory.
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
        if x.numel() == x.shape[-1]:  # one token: nothing is unpacked to memory where this is compiled
            half = x.to(torch.float32).view(2, self.GROUP // 2, -1)
            y = ((low * half[0] + high * half[1]) * self.scale[:, None]).sum((1, 2)).view(*x.shape[:-1], -1)
        else:
            weight = (torch.cat([low, high], dim=1) * self.scale[:, None]).flatten(1)
            y = nn.functional.linear(x.to(torch.float32), weight)
        return (y if self.bias is None else y + self.bias).to(x.dtype)


def _quantized(model: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """`kind` in the place of every linear layer; Int8Linear where the width is no multiple of an int4 group."""
    # Parameters are shared: what is not quantized, as embeddings and norms, is in memory once.
    shared = {id(parameter): parameter for parameter in model.parameters()}
    quantized = copy.deepcopy(model, shared)
    for name, module in list(quantized.named_modules()):
        if isinstance(module, nn.Linear):
            parent, _, leaf = name.rpartition('.')
            fits = kind is Int8Linear or module.in_features % Int4Linear.GROUP == 0
            setattr(quantized.get_submodule(parent), leaf, (kind if fits else Int8Linear)(module))
    return quantized.eval()


def _weight_only(model: nn.Module, variant: str) -> nn.Module:
    try:
        from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise ValueError(f'variant {variant} on CUDA needs the package torchao: {error}') from error
    quantized = copy.deepcopy(model)
    try:
        quantize_(quantized, Int8WeightOnlyConfig() if variant == 'int8' else Int4WeightOnlyConfig())
    except Exception as error:  # torchao raises many kinds for what a device lacks
        raise ValueError(f'variant {variant} cannot be made: {type(error).__name__}: {error}') from error
    return quantized.eval()
