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

"""Weights in int8 and int4 on CUDA, by torchao: the best kept library that runs on a Jetson Orin and on a large GPU.

int4 goes through the kernel that is part of PyTorch (`_weight_int4pack_mm`, from compute capability 8.0 on). What
torchao packs by default since 0.14 needs another library, which has no kernels for an Orin. int8 is a matrix product
whose conversion of the weights is fused by the compiler, so it is quick where decode steps are compiled.

Written for torchao 0.12 to 0.18, by their sources. int8 of 0.15, 0.17 and 0.18 was tried on a CPU; int4 can be packed
on a GPU only.
"""
from __future__ import annotations

import inspect
import logging

import torch
from torch import nn

log = logging.getLogger(__name__)

GROUP = 64  # weights of a row that share a scale and a zero in int4
LOWEST_CAPABILITY = {'int4': (8, 0), 'int8': (7, 5)}


def quantize(model: nn.Module, variant: str) -> None:
    """Give each linear layer of `model` weights in int8 or int4, one layer after the other.

    Other weights stay the tensors that they are. ValueError, with the reason, where that cannot be had.
    """
    try:
        from torchao.quantization import quantize_
        from torchao.utils import unwrap_tensor_subclass
    except ImportError as error:
        raise ValueError(f'{variant} on CUDA needs the package torchao: {error}') from error
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if reason := _refusal(variant, layers):
        raise ValueError(f'{variant} cannot be made: {reason}')
    try:
        quantize_(model, config(variant))
        left = sum(type(layer.weight) is nn.Parameter for layer in layers)
        # Weights as plain tensors: a tracer takes no others, so steps could not be compiled.
        unwrap_tensor_subclass(model)
    except Exception as error:  # torchao raises many kinds for what a device lacks
        raise ValueError(f'{variant} cannot be made: {type(error).__name__}: {error}') from error
    if left:
        log.info('%d of %d linear layers stay as they are in %s: their rows are no multiples of %d', left, len(layers),
                 variant, GROUP)
    if left == len(layers):
        raise ValueError(f'{variant} cannot be made: no linear layer has rows that are multiples of {GROUP}')


def config(variant: str):
    """Return torchao's description of a variant, in the words of the installed version."""
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig
    kind = Int8WeightOnlyConfig if variant == 'int8' else Int4WeightOnlyConfig
    # Settings of the compiler are those of the whole process, the length predictor's included.
    wanted = {'set_inductor_config': False}
    known = inspect.signature(kind).parameters
    if variant == 'int4':
        wanted['group_size'] = GROUP
        if 'int4_packing_format' in known:  # before, this was the only format
            wanted.update(int4_packing_format='tile_packed_to_4d', version=2)
    return kind(**{name: value for name, value in wanted.items() if name in known})


def _refusal(variant: str, layers: list[nn.Linear]) -> str:
    if not layers:
        return 'the model has no linear layers'
    weight = layers[0].weight
    if variant == 'int4' and weight.dtype != torch.bfloat16:
        return f'its kernel computes in bfloat16, and dtype is {str(weight.dtype).removeprefix("torch.")}'
    if weight.device.type == 'cuda':
        capability, lowest = torch.cuda.get_device_capability(weight.device), LOWEST_CAPABILITY[variant]
        if capability < lowest:
            return (f'{torch.cuda.get_device_name(weight.device)} has compute capability '
                    f'{".".join(map(str, capability))}, and {".".join(map(str, lowest))} is needed')
    return ''
