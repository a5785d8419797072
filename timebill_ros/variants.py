"""The same model with weights of another precision, to decode with where time is short.

A variant shares the KV cache, the tokenizer and the prefill of the model it was made from; only decode steps go
through it. Which one, if any, is the planner's choice (knobs.py), from what was measured on this device.
"""
from __future__ import annotations

import copy
import warnings

import torch
from torch import nn

VARIANTS = ('int8', 'int4')


def parse(names: str) -> list[str]:
    """'int8, int4' -> ['int8', 'int4']. ValueError naming what is not a variant."""
    found = [name.strip() for name in names.split(',') if name.strip()]
    for name in found:
        if name not in VARIANTS:
            raise ValueError(f'variant {name!r} is none of {", ".join(VARIANTS)}')
    return list(dict.fromkeys(found))


def make(model: nn.Module, variant: str, device: torch.device) -> nn.Module:
    """A copy of `model` with its linear layers in int8 or int4. ValueError where this device or torch cannot.

    CPU: PyTorch's dynamic quantization (int8 weights, activations quantized per call). CUDA: weight-only by torchao.
    """
    if device.type == 'cpu':
        if variant != 'int8':
            raise ValueError(f'variant {variant} is not available on a CPU, only int8')
        return _dynamic_int8(model)
    return _weight_only(model, variant)


def _dynamic_int8(model: nn.Module) -> nn.Module:
    if model.dtype != torch.float32:
        raise ValueError(f'variant int8 needs float32 activations on a CPU, and this model runs in {model.dtype}')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # deprecated in favour of torchao, which is an optional package
            return torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8).eval()
    except (AttributeError, RuntimeError) as error:
        raise ValueError(f'this PyTorch cannot quantize to int8: {error}') from error


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
