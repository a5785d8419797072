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

"""Whether a model fits into memory, judged before its weights are read: what it needs against what is free."""
from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from timebill_ros.inference.damaged_files import damaged
from timebill_ros.inference.memory import size
from timebill_ros.inference.model_directory import ModelError

log = logging.getLogger(__name__)

# Contexts to fall back on where memory is too short for the one that the node would choose. There are few of them, so
# that a start with a little less free memory finds the profile and the compiled steps of the one before.
CONTEXTS = (8192, 6144, 4096, 3072, 2048, 1536, 1024, 512)
SLACK_BYTES, SLACK_SHARE = 64 << 20, 0.03  # activations, logits and what an allocator loses, besides the weights

# Bytes of a number in a safetensors file, and the kinds that are floating point.
_BYTES = {'F64': 8, 'F32': 4, 'F16': 2, 'BF16': 2, 'I64': 8, 'I32': 4, 'I16': 2, 'U64': 8, 'U32': 4, 'U16': 2}
_FLOATS = ('F64', 'F32', 'F16', 'BF16')
_EACH = {'int8': 1.0, 'int4': 0.625, 'bfloat16': 2.0, 'float16': 2.0}  # bytes of a weight with its scale, by variant
_PACKS = ('U8', 'I32')  # hold several numbers each: bytes always two of 4 bits


@dataclass(frozen=True)
class Weights:
    """Sizes of a model's weights in memory: bytes of all of them, and numbers in matrices.

    `layers`: those in matrices but for the embedding. `linear`: those that a copy in another precision has, for which a
    head that is the embedding too counts.
    """

    n_bytes: int
    layers: int
    linear: int


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files of a directory that transformers reads: one, or those that an index names."""
    single, index = directory / 'model.safetensors', directory / 'model.safetensors.index.json'
    if single.is_file():
        return [single]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())['weight_map'].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f'{index} is no index of weights: {type(error).__name__}: {error}') from error
        if missing := [name for name in names if not (directory / name).is_file()]:
            raise ModelError(f'model directory {directory} lacks {", ".join(missing[:3])}, of the {len(names)} files '
                             f'that {index.name} names')
        return [directory / name for name in names]
    return sorted(directory.glob('*.safetensors'))


def weights_of(files: Iterable[Path], dtype: torch.dtype, *, quantized: bool, expanded: bool, tied: bool,
               bits: int = 8) -> Weights:
    """Return the sizes of the weights in `files` once they are loaded in `dtype`; only headers are read.

    `quantized`: numbers of other kinds than floating point stay as they are stored. `expanded`: each becomes a number
    in `dtype`, and an integer as many as it holds numbers of `bits`. `tied`: the head is the embedding, also where both
    are stored.
    """
    n_bytes = layers = embedding = 0
    for name, kind, shape in _tensors(files):
        n = math.prod(shape)
        if tied and name == 'lm_head.weight':
            continue
        if expanded and kind not in _FLOATS:
            packed = 8 * _BYTES.get(kind, 1) // (4 if kind == 'U8' else bits) if kind in _PACKS else 1
            n_bytes += n * packed * dtype.itemsize
        elif kind in _FLOATS or not quantized and kind.startswith('F'):
            n_bytes += n * dtype.itemsize
        else:
            n_bytes += n * _BYTES.get(kind, 1)
        if len(shape) == 2 and 'embed' in name:
            embedding += n
        elif len(shape) == 2:
            layers += n
    return Weights(n_bytes, layers, layers + (embedding if tied else 0))


def _tensors(files: Iterable[Path]) -> Iterator[tuple[str, str, list[int]]]:
    """Yield (name, kind, shape) of every tensor in the files. ModelError for one that is not whole."""
    for file in files:
        try:
            opened = safe_open(file, framework='pt')
        except SafetensorError as error:
            raise ModelError(damaged(file, error)) from error
        with opened as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping)
                part = tensors.get_slice(name)
                yield name, part.get_dtype(), part.get_shape()


def variant_bytes(names: Iterable[str], weights: Weights) -> int:
    """Return what further precisions of the weights take: their linear layers, all else is shared (variants.py)."""
    return int(sum(_EACH[name] * weights.linear for name in names))


def quantized_bytes(precision: str, weights: Weights, dtype: torch.dtype) -> int:
    """Return what is left of weights in `dtype` once their matrices are in `precision`, int8 or int4."""
    return int(weights.n_bytes - weights.layers * dtype.itemsize + _EACH[precision] * weights.linear)


@dataclass(frozen=True)
class Need:
    """What a model takes, in bytes. `cache`: for one token in all layers; 0 for a cache that is not allocated once.

    `loading`: what weights take while they are read, where they take less later; the cache comes after that.
    """

    weights: int
    variants: int
    cache: int
    loading: int = 0

    def total(self, n_tokens: int) -> int:
        """Return what the model takes with a context of `n_tokens`."""
        later = self.weights + self.variants + self.cache * (n_tokens + 1)  # the cache has a spare slot
        return max(self.loading, later) + self._slack

    @property
    def _slack(self) -> int:
        return SLACK_BYTES + int(SLACK_SHARE * max(self.weights, self.loading))

    def context_within(self, free: int) -> int:
        """Return the longest context that `free` bytes hold; negative where not even the weights fit."""
        if free < self.total(0):
            return -1
        left = free - self.weights - self.variants - self._slack
        return left // self.cache - 1 if self.cache else 1 << 30


def fit_context(name: str, need: Need, free: int | None, n_tokens: int, *, chosen: bool, device: torch.device,
                dtype: str) -> int:
    """Return the context in tokens that memory holds: `n_tokens`, or fewer where the node has `chosen` it.

    ModelError, with the numbers and what to change, where the model does not fit.
    """
    if free is None or need.total(n_tokens) <= free:
        return n_tokens
    fitting = need.context_within(free)
    if chosen and (shorter := next((n for n in CONTEXTS if n <= min(fitting, n_tokens)), 0)):
        log.warning('the context of model %s is %d tokens instead of %d, because %s are free on %s; set '
                    'max_context_tokens to have another', name, shorter, n_tokens, size(free), device)
        return shorter
    parts = [f'the weights take {size(need.weights)} in {dtype}']
    if need.variants:
        parts.append(f'variants {size(need.variants)}')
    if need.cache:
        parts.append(f'the KV cache for {n_tokens} tokens (max_context_tokens) {size(need.cache * (n_tokens + 1))}')
    remedy = f'Lower max_context_tokens to {fitting} at most, or free memory' if fitting >= CONTEXTS[-1] else \
        f'Choose a smaller model or dtype{", or fewer variants" if need.variants else ""}, or free memory'
    raise ModelError(f'OUT_OF_MEMORY: model {name} does not fit into memory: {", ".join(parts)}, with working memory '
                     f'{size(need.total(n_tokens))} in all, and {size(free)} are free on {device}. {remedy}')
