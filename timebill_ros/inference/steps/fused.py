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

"""The layers of a step of fixed size as kernels that PyTorch's compiler has fused, to be captured as CUDA graphs.

A step through the modules is some 45 kernels a layer. Most of them are tiny, and each takes about 2 us even in a graph:
on an H100, 100 us a layer, where reading the weights of a 0.5B model takes 15. So each kind of layer is traced and
compiled once, with its weights as inputs, and takes the layers' place while graphs are captured. What comes before and
after the layers runs as it is. Nothing is compiled or called through Python once the graphs are there.
"""
from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache

from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.steps.compiling import any_length, trace
from timebill_ros.inference.steps.interface import Step
from timebill_ros.inference.steps.layer_calls import (
    NotSplit,
    Numbers,
    character_of,
    described,
    find_layers,
    restored,
    tensors_of,
)
from timebill_ros.inference.steps.layer_modules import StandIn, with_tensors
from timebill_ros.inference.steps.step_module import BucketLayer, BucketStep

# (hidden [1, 1, H], slot [1], bucket [b], keys, values, what else the layer is given, its weights) -> hidden [1, 1, H]
Run = Callable[..., torch.Tensor]
Compile = Callable[[nn.Module], Run]


def by_inductor(module: nn.Module) -> Run:
    """Return what runs a trace with fused kernels; they are made at the first call."""
    return torch.compile(module)


class FusedStep(Step):
    """A step of fixed size of one model on one cache, see step_module.BucketStep.

    `compile_layer` is given the trace of each kind of layer; None: `by_inductor`. NotSplit where the layers
    cannot be told apart from the rest of the model.
    """

    kind = 'fused'

    def __init__(self, model: nn.Module, cache: SlotCache, compile_layer: Compile | None = None):
        self._cache, self._compile = cache, compile_layer or by_inductor
        self._owner, self._name = find_layers(model, len(cache.layers))
        self._whole = getattr(self._owner, self._name)
        self._in_place = nn.ModuleList(FusedLayer(layer, index, self._run_for)
                                       for index, layer in enumerate(self._whole))
        self._kinds: list[tuple[tuple, Run]] = []  # what layers of a kind have in common, and what runs them
        self._step = BucketStep(model)
        self._keys, self._values = [layer.keys for layer in cache.layers], [layer.values for layer in cache.layers]
        with torch.inference_mode(False):  # as all other inputs are: each kind of tensor would be compiled for
            self._slot = torch.zeros(1, dtype=torch.long, device=cache.device)
            self._filled = torch.zeros(cache.capacity, dtype=torch.long, device=cache.device)

    def __call__(self, token, position):
        n = self._cache.layers[0].length + 1
        if n > self._cache.capacity:
            raise ValueError(f'the cache holds one sequence of {self._cache.capacity} tokens')
        self._slot.fill_(n - 1)
        outputs = self.run_bucket(token, position, self._slot, n)
        self._cache.advance()
        return outputs

    def run_bucket(self, token: torch.Tensor, position: torch.Tensor, slot: torch.Tensor,
                   n: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run a BucketStep over the first `n` slots -> (logits [V], hidden [H]); no layer's length changes."""
        with self._installed():
            return self._step(token, position, slot, self._filled[:n], self._keys, self._values)

    @contextlib.contextmanager
    def _installed(self) -> Iterator[None]:
        setattr(self._owner, self._name, self._in_place)
        try:
            yield
        finally:
            setattr(self._owner, self._name, self._whole)

    def _run_for(self, layer: nn.Module, shape: Any, inputs: tuple) -> Run:
        """Return what runs layers of this kind; `shape`: how they are called, `inputs`: an example."""
        character = shape, character_of(layer)
        for known, run in self._kinds:
            if known == character:
                return run
        with torch.inference_mode(False):  # what is made in inference mode cannot be traced
            run = self._compile(_traced(_LayerModule(layer, shape), inputs, self._cache))
        self._kinds.append((character, run))
        return run


class FusedLayer(StandIn):
    """Takes the place of one decoder layer. `run_for(layer, how it is called, example)` returns what runs it."""

    def __init__(self, layer: nn.Module, index: int, run_for: Callable[[nn.Module, Any, tuple], Run]):
        super().__init__(layer)
        self.__dict__.update(_index=index, _run_for=run_for,
                             _weights=[tensor.detach() for _, tensor in tensors_of(layer)])

    def forward(self, hidden, *args, **kwargs):
        own = self.__dict__
        cache = next((value for value in (*args, *kwargs.values()) if isinstance(value, Cache)), None)
        if cache is None:
            raise NotSplit('its layers are not given the cache')
        given = Numbers([hidden])
        shape = described(((hidden, *args), kwargs), given, cache)
        slots = cache.layers[own['_index']]
        bucket = slots.keys.new_empty(slots.length + 1, dtype=torch.long)  # its length counts
        inputs = hidden, slots.slot, bucket, slots.keys, slots.values, given.tensors[1:], own['_weights']
        run = own['_run_for'](own['_layer'], shape, inputs)
        from torch._dynamo import maybe_mark_dynamic  # takes a second, and most steps are none of these
        for tensor, dimension in _varying(inputs):
            maybe_mark_dynamic(tensor, dimension)  # one compilation for all buckets
        return run(*inputs)


class _LayerModule(nn.Module):
    """One decoder layer over a bucket of slots, whose weights are inputs. Inputs: see Run."""

    def __init__(self, layer: nn.Module, shape: Any):
        super().__init__()
        # No submodule: a trace would hold this layer's weights.
        self.__dict__['_layer'] = layer
        self._shape = shape

    def forward(self, hidden, slot, bucket, keys, values, given, weights):
        layer = self.__dict__['_layer']
        cache = _OneBucketCache(layers=[BucketLayer(keys, values, slot, bucket.shape[0])])
        args, kwargs = restored(self._shape, [hidden, *given], cache)
        named = {name: weight for (name, _), weight in zip(tensors_of(layer), weights, strict=True)}
        with with_tensors(layer, named):
            out = layer(*args, **kwargs)
        if not isinstance(out, torch.Tensor):
            raise NotSplit('its layers return more than a tensor')
        return out


class _OneBucketCache(Cache):
    """A cache of one layer, whatever number this has in the model."""

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        return self.layers[0].update(key_states, value_states)


def _varying(inputs: tuple) -> Iterator[tuple[torch.Tensor, int]]:
    """Yield (tensor, dimension) for what is as long as the bucket: itself, and masks over it."""
    _, _, bucket, _, _, given, _ = inputs
    yield bucket, 0
    for tensor in given:
        if tensor.dtype == torch.bool and tensor.shape[-1] == len(bucket):
            yield tensor, tensor.dim() - 1


def _traced(module: nn.Module, inputs: tuple, cache: SlotCache) -> nn.Module:
    """Return the trace of a layer, for buckets of any length."""
    n, varying = any_length(cache), list(_varying(inputs))

    def shape(tensor: torch.Tensor) -> dict | None:
        return next(({dimension: n} for one, dimension in varying if one is tensor), None)

    hidden, slot, bucket, keys, values, given, weights = inputs
    copies = (hidden.clone(), slot.clone(), bucket, keys, values, list(given), list(weights))
    program = trace(module, copies, (None, None, shape(bucket), None, None, [shape(tensor) for tensor in given],
                                     [None] * len(weights)))
    # The inputs are those of the trace by construction.
    options = {'check_guards': False} if 'check_guards' in inspect.signature(program.module).parameters else {}
    return program.module(**options)
