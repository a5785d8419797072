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

"""What a decode step hands to its decoder layers, and which layers run the same code.

Nothing here knows a model's class: a step through the modules is watched.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.steps.modules import forward, forward_options

_PLAIN = (type(None), bool, int, float, str, torch.dtype, torch.device)
_OWN_NAMES = ('layer_idx', 'training', '_is_full_backward_hook')  # may differ between layers that compute the same


class NotSplit(RuntimeError):
    """A model's step cannot be split; the message says why."""


@dataclass(frozen=True)
class _Given:
    """Stands for the tensor of this number among those that a layer is given."""

    number: int


@dataclass(frozen=True)
class _TheCache:
    """Stands for the KV cache in what a layer is given."""


class Numbers:
    """Numbers tensors by identity, in the order in which they are met."""

    def __init__(self, tensors: list[torch.Tensor]):
        self.tensors = list(tensors)

    def of(self, tensor: torch.Tensor) -> int:
        for number, known in enumerate(self.tensors):
            if known is tensor:
                return number
        self.tensors.append(tensor)
        return len(self.tensors) - 1


def find_layers(model: nn.Module, n_layers: int) -> tuple[nn.Module, str]:
    """Return the module that holds the list of decoder layers, and the list's name in it."""
    found = [(owner, name) for owner in model.modules() for name, child in owner.named_children()
             if isinstance(child, nn.ModuleList) and len(child) == n_layers]
    if len(found) != 1:
        raise NotSplit(f'it has {len(found)} lists of {n_layers} layers')
    return found[0]


def watch_layers(model: nn.Module, cache: SlotCache, layers: list[nn.Module], token: torch.Tensor,
                 position: torch.Tensor) -> list[tuple[tuple, dict]]:
    """Run one step and return what each layer was given. NotSplit where the layers do not follow one another."""
    seen: list[tuple[tuple, dict]] = []
    results: list[Any] = []

    def after(module, args, kwargs, result):
        seen.append((args, kwargs))
        results.append(result)

    hooks = [layer.register_forward_hook(after, with_kwargs=True) for layer in layers]
    try:
        with torch.inference_mode(False), torch.no_grad():
            forward(model, token, position, cache, forward_options(model))
    finally:
        for hook in hooks:
            hook.remove()
    if len(seen) != len(layers):
        raise NotSplit(f'it calls {len(seen)} times one of its {len(layers)} layers')
    if not all(isinstance(result, torch.Tensor) for result in results):
        raise NotSplit('its layers return more than a tensor')
    if not seen[0][0] or any(not args or args[0] is not result
                             for (args, _), result in zip(seen[1:], results, strict=False)):
        raise NotSplit('something lies between its layers')
    return seen


def all_given(seen: list[tuple[tuple, dict]], token: torch.Tensor, position: torch.Tensor,
              cache: SlotCache) -> Numbers:
    """Return the tensors that layers are given, numbered as Split says."""
    numbers = Numbers([token, position, seen[0][0][0]])
    for call in seen:
        given = Numbers([call[0][0]])
        described(call, given, cache)
        for tensor in given.tensors[1:]:
            numbers.of(tensor)
    return numbers


def described(value: Any, given: Numbers, cache: SlotCache) -> Any:
    """Return `value` with _Given in the place of tensors and _TheCache in that of the cache."""
    if isinstance(value, torch.Tensor):
        return _Given(given.of(value))
    if value is cache:
        return _TheCache()
    if isinstance(value, (tuple, list)):
        return tuple(described(item, given, cache) for item in value)
    if isinstance(value, dict):
        return {key: described(item, given, cache) for key, item in value.items()}
    if isinstance(value, _PLAIN):
        return value
    raise NotSplit(f'its layers are given a {type(value).__name__}')


def restored(shape: Any, given: list[torch.Tensor], cache: SlotCache) -> Any:
    """Return what `described` has described, with these tensors and this cache."""
    if isinstance(shape, _Given):
        return given[shape.number]
    if isinstance(shape, _TheCache):
        return cache
    if isinstance(shape, tuple):
        return tuple(restored(item, given, cache) for item in shape)
    if isinstance(shape, dict):
        return {key: restored(item, given, cache) for key, item in shape.items()}
    return shape


def tensors_of(layer: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return a layer's parameters and buffers with their names."""
    return [*layer.named_parameters(remove_duplicate=False), *layer.named_buffers(remove_duplicate=False)]


def character_of(layer: nn.Module) -> tuple:
    """Return what two layers must have in common to run the same code: classes, plain attributes, forms of weights."""
    modules = [(name, type(module), sorted((key, value) for key, value in vars(module).items()
                                           if isinstance(value, _PLAIN) and key not in _OWN_NAMES))
               for name, module in layer.named_modules()]
    weights = [(name, tensor.shape, tensor.stride(), tensor.dtype) for name, tensor in tensors_of(layer)]
    return modules, weights
