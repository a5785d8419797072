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

"""Split a decode step into what comes before the decoder layers, the layers, and what comes after them.

The layers of a model are alike: they run the same code on other weights. So each kind of layer is traced and compiled
once, with its weights as inputs, however many layers there are. Nothing here knows a model's class: a step through the
modules is watched, and what it hands to each layer is noted.
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.steps.layer_calls import (
    NotSplit,
    Numbers,
    all_given,
    character_of,
    described,
    find_layers,
    restored,
    tensors_of,
    watch_layers,
)
from timebill_ros.inference.steps.modules import forward, forward_options

ALIKE = 3  # layers of one kind, on average, that make it worth while to compile kinds


@dataclass(frozen=True)
class LayerCall:
    """How a step calls one layer. Equal `kind`s: the same code serves, with other weights."""

    kind: int
    given: list[int]  # numbers of the tensors that it is given beside the hidden state, see Split
    weights: list[torch.Tensor]  # in the order of the module's names


@dataclass
class Split:
    """A step in parts. `start`(token, position, filled, weights) returns what layers are given, the hidden state first.

    Numbers of tensors: 0 the token, 1 the position, 2 the first layer's hidden state, then what else `start` returns.
    `kinds[k]` is the module to trace for kind k, `examples[k]` the number of a layer of that kind.
    `end`(hidden, token, position, filled, weights) returns (logits [V], hidden [H]).
    """

    start: StartModule
    kinds: list[nn.Module]
    examples: list[int]
    calls: list[LayerCall]
    end: EndModule


def split(model: nn.Module, cache: SlotCache) -> Split:
    """Split a step of `model` on `cache`, which holds two entries of a sequence or more; they stay. NotSplit if not."""
    owner, name = find_layers(model, len(cache.layers))
    layers = list(getattr(owner, name))
    token = torch.zeros(1, 1, dtype=torch.long, device=cache.device)
    position = torch.ones_like(token)
    lengths = cache.lengths
    try:
        seen = watch_layers(model, cache, layers, token, position)
    finally:
        cache.lengths = lengths
    numbers = all_given(seen, token, position, cache)
    kinds: list[nn.Module] = []
    characters: list[tuple] = []
    calls, examples = [], []
    for index, (layer, call) in enumerate(zip(layers, seen, strict=True)):
        given = Numbers([call[0][0]])
        shape, slots = described(call, given, cache), cache.layers[index]
        character = (shape, slots.is_sliding, slots.sliding_window, character_of(layer))
        if character not in characters:
            characters.append(character)
            kinds.append(LayerModule(layer, shape, slots.is_sliding))
            examples.append(index)
        calls.append(LayerCall(characters.index(character), [numbers.of(tensor) for tensor in given.tensors[1:]],
                               [tensor.detach() for _, tensor in tensors_of(layer)]))
    if len(kinds) > len(layers) / ALIKE:
        raise NotSplit(f'its {len(layers)} layers are of {len(kinds)} kinds')
    return Split(StartModule(model, owner, name), kinds, examples, calls, EndModule(model, owner, name))


# -- the parts, as modules to trace ----------------------------------------------------------------------------------

class _Part(nn.Module):
    """What StartModule and EndModule share: the model's forward with stand-ins for its layers. See `installed`."""

    def __init__(self, model: nn.Module, owner: nn.Module, name: str):
        super().__init__()
        # No submodules: a trace would hold their weights.
        self.__dict__.update(_model=model, _place=(owner, name))
        self._options = forward_options(model)
        self._watch = _Watch()
        self.__dict__['_stand_ins'] = [_Watched(layer, self._watch) for layer in getattr(owner, name)]

    def weights(self) -> list[torch.Tensor]:
        """Return the model's tensors outside of its layers, in the order of its names."""
        with self.installed():
            return [tensor.detach() for _, tensor in tensors_of(self.__dict__['_model'])]

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Put the stand-ins into the model inside. `forward` needs that."""
        owner, name = self.__dict__['_place']
        layers = getattr(owner, name)
        setattr(owner, name, nn.ModuleList(self.__dict__['_stand_ins']))
        try:
            yield
        finally:
            setattr(owner, name, layers)

    def _forward(self, token, position, filled, weights):
        model = self.__dict__['_model']
        n_layers = len(self.__dict__['_stand_ins'])
        cache = SlotCache(filled.shape[0], [None] * n_layers)
        cache.lengths = [filled.shape[0] - 1] * n_layers
        named = {name: weight for (name, _), weight in zip(tensors_of(model), weights, strict=True)}
        with with_tensors(model, named):
            return cache, forward(model, token, position, cache, self._options)


class StartModule(_Part):
    """Inputs: token and position, int64 [1, 1], and `filled` [n], see ExactStep; `weights`. Output: see Split."""

    def forward(self, token, position, filled, weights):
        with self._watch.on() as seen:
            cache, _ = self._forward(token, position, filled, weights)
            return tuple(all_given(seen, token, position, cache).tensors[2:])


class EndModule(_Part):
    """Inputs: hidden [1, 1, H] as the last layer leaves it, then those of StartModule. Output: (logits, hidden)."""

    def forward(self, hidden, token, position, filled, weights):
        with self._watch.on(hidden):
            return self._forward(token, position, filled, weights)[1]


class LayerModule(nn.Module):
    """One decoder layer whose weights are inputs.

    Inputs: hidden [1, 1, H]; `filled` [n], and the layer's keys and values, as for ExactStep; `given`, the other
    tensors that the step hands to it; `weights`. Output: hidden [1, 1, H].
    """

    def __init__(self, layer: nn.Module, shape: Any, slides: bool):
        super().__init__()
        # No submodule: a trace would hold this layer's weights.
        self.__dict__['_layer'] = layer
        self._shape, self._slides = shape, slides

    def forward(self, hidden, filled, keys, values, given, weights):
        layer = self.__dict__['_layer']
        cache = _OneLayerCache.of([keys], [values], [(keys if self._slides else filled[None, None]).shape[2] - 1])
        args, kwargs = restored(self._shape, [hidden, *given], cache)
        named = {name: weight for (name, _), weight in zip(tensors_of(layer), weights, strict=True)}
        with with_tensors(layer, named):
            return layer(*args, **kwargs)


@contextlib.contextmanager
def with_tensors(module: nn.Module, tensors: dict[str, torch.Tensor]) -> Iterator[None]:
    """Give `module` other parameters and buffers inside, by name. Tied ones may differ: each name has its own."""
    places = []
    for name, tensor in tensors.items():
        parent, _, leaf = name.rpartition('.')
        owner = module.get_submodule(parent)
        slots = owner._parameters if leaf in owner._parameters else owner._buffers
        places.append((slots, leaf, slots[leaf]))
        slots[leaf] = tensor
    try:
        yield
    finally:
        for slots, leaf, before in places:
            slots[leaf] = before


class _OneLayerCache(SlotCache):
    """The cache of a trace that holds one layer, whatever number this has in the model."""

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        return self.layers[0].update(key_states, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.layers[0].length


class _Watch:
    """What stand-ins share. An object of its own, because torch.export refuses modules whose attributes change."""

    def __init__(self):
        self.seen: list[tuple[tuple, dict]] = []  # what each was given
        self.result: torch.Tensor | None = None  # what each returns; None: the hidden state that it was given

    @contextlib.contextmanager
    def on(self, result: torch.Tensor | None = None) -> Iterator[list[tuple[tuple, dict]]]:
        self.seen, self.result = [], result
        try:
            yield self.seen
        finally:
            self.seen, self.result = [], None


class StandIn(nn.Module):
    """Takes a layer's place in the model, and seems to be it."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.__dict__['_layer'] = layer  # no submodule

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__['_layer'], name)  # such as attention_type, by which models choose masks


class _Watched(StandIn):
    """Notes what it is given, see _Watch."""

    def __init__(self, layer: nn.Module, watch: _Watch):
        super().__init__(layer)
        self.__dict__['_watch'] = watch

    def forward(self, hidden, *args, **kwargs):
        watch = self.__dict__['_watch']
        watch.seen.append(((hidden, *args), kwargs))
        return hidden if watch.result is None else watch.result
