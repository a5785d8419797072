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

"""The compiled step of a model with many layers: each kind of layer is compiled once and called for every layer.

Compiling a whole step takes time in proportion to its layers (two minutes for 30 of them on two cores), and the same
code once for each. Called one by one, a layer costs some microseconds more.
"""
from __future__ import annotations

import logging
import time
from pathlib import Path

import torch

from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.start_progress import this_start
from timebill_ros.inference.steps.compiling import any_length, compile_program, example_slots, trace
from timebill_ros.inference.steps.interface import Step
from timebill_ros.inference.steps.layer_modules import Split
from timebill_ros.inference.steps.program import Program

log = logging.getLogger(__name__)

MANY = 8  # layers from which a step is compiled like this: fewer take little longer to compile, and are called at once


def packages(package: Path, parts: Split) -> list[Path]:
    """Return the files of a step whose whole would be the file `package`: start, each kind of layer, end."""
    names = ['start', *(f'layer{kind}' for kind in range(len(parts.kinds))), 'end']
    return [package.with_name(f'{package.stem}-{name}{package.suffix}') for name in names]


def compile_layers(parts: Split, cache: SlotCache, files: list[Path]) -> None:
    """Compile the parts of a step on `cache` into `files`, see `packages`; those that are there stay.

    `cache` holds two entries of a sequence or more. Tracers and compilers raise errors of many kinds.
    """
    one, length = torch.zeros(1, 1, dtype=torch.long, device=cache.device), cache.layers[0].length
    inputs = one, one.clone(), torch.zeros(length, dtype=torch.long, device=cache.device)
    n = {0: any_length(cache)}
    with parts.start.installed(), torch.no_grad():
        given = [*inputs[:2], *parts.start(*inputs, parts.start.weights())]
    hidden = given[2].clone()

    def program(part: int) -> torch.export.ExportedProgram:
        if part == 0:
            weights = parts.start.weights()
            with parts.start.installed():
                return trace(parts.start, (*inputs, weights), (None, None, n, [None] * len(weights)))
        if part == len(files) - 1:
            weights = parts.end.weights()
            with parts.end.installed():
                return trace(parts.end, (hidden, *inputs, weights), (None, None, None, n, [None] * len(weights)))
        call, layer = parts.calls[parts.examples[part - 1]], cache.layers[parts.examples[part - 1]]
        keys, values, shape = example_slots(layer, length)
        others = [given[number].clone() for number in call.given]
        return trace(parts.kinds[part - 1], (hidden, inputs[2], keys, values, others, call.weights),
                     (None, n, shape, shape, [None] * len(others), [None] * len(call.weights)))

    for part, file in enumerate(files):
        this_start.tell(f'compiling piece {part + 1} of {len(files)}', share=part / len(files))
        if not file.is_file():
            start_s = time.monotonic()
            compile_program(program(part), file)
            log.info('compiled part %d of %d of the decode step in %.1f s', part + 1, len(files),
                     time.monotonic() - start_s)


class LayeredStep(Step):
    """A compiled step of one model on one cache, whose slots are allocated."""

    kind = 'compiled'

    def __init__(self, parts: Split, files: list[Path], cache: SlotCache):
        programs = [Program(file, None, cache.device) for file in files]
        self._start, self._end = programs[0].run, programs[-1].run
        self._start_weights, self._end_weights = parts.start.weights(), parts.end.weights()
        # For each layer: its program, which tensors it is given, its weights, and its slots
        self._layers = [(programs[1 + call.kind].run, call.given, call.weights, layer)
                        for call, layer in zip(parts.calls, cache.layers, strict=True)]
        self._programs, self._cache = programs, cache
        # Layers that do not slide are evicted alike, so they are equally long.
        self._whole = next((layer for layer in cache.layers if not layer.is_sliding), cache.layers[0])
        self._filled = torch.zeros(cache.capacity, dtype=torch.long, device=cache.device)

    def __call__(self, token, position):
        cache = self._cache
        if max(layer.length for layer in cache.layers) >= cache.capacity:
            raise ValueError(f'the cache holds one sequence of {cache.capacity} tokens')
        filled = self._filled[:self._whole.length + 1]
        given = [token, position, *self._start([token, position, filled, *self._start_weights])]
        hidden = given[2]
        for run, numbers, weights, layer in self._layers:
            keys, values = layer.keys, layer.values
            if layer.is_sliding:
                end = layer.length + 1
                start = max(0, end - layer.sliding_window)
                keys, values = keys[:, :, start:end], values[:, :, start:end]
            hidden, = run([hidden, filled, keys, values, *[given[number] for number in numbers], *weights])
        logits, hidden = self._end([hidden, token, position, filled, *self._end_weights])
        cache.advance()
        return logits, hidden
