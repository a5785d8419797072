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

"""Scaled rotary position embeddings in a GGUF file: transformers' reader takes the frequency base only."""
from __future__ import annotations

import math

import numpy as np

from timebill_ros.inference.gguf_files.gguf_file import GgufFile
from timebill_ros.inference.model_directory import ModelError

LLAMA3_TABLE = 'rope_freqs.weight'
OTHER_TABLES = ('rope_factors_long.weight', 'rope_factors_short.weight')
# Of Llama 3.1 to 3.3, whatever their size; only `factor` differs (config.json of the models, `rope_scaling`).
LLAMA3 = {'rope_type': 'llama3', 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
          'original_max_position_embeddings': 8192}
TOLERANCE = 1e-4


def rope_scaling(file: GgufFile) -> dict:
    """Return the entries of a config's `rope_parameters` that stretch positions; empty where the file has none.

    ModelError for a kind of stretching that cannot be told to transformers: the model would compute something else.
    """
    if found := [name for name in OTHER_TABLES if name in file.tensors]:
        raise ModelError(f'{file.path} stretches its positions by the table {found[0]}, which cannot be converted. '
                         'Name the directory of the original model')
    if LLAMA3_TABLE in file.tensors:
        return _llama3(file)
    kind = file.get(f'{file.architecture}.rope.scaling.type', 'none')
    factor = file.get(f'{file.architecture}.rope.scaling.factor', 1.0)
    if kind == 'none' or (kind == 'linear' and factor == 1.0):
        return {}
    if kind == 'linear' and not file.architecture.startswith('gemma'):  # which stretches some of its layers only
        return {'rope_type': 'linear', 'factor': float(factor)}
    raise ModelError(f'{file.path} stretches its positions in the way {kind!r} (rope.scaling.type, factor {factor:g}), '
                     'which cannot be converted. Name the directory of the original model')


def _llama3(file: GgufFile) -> dict:
    """Return the parameters that make the file's table of factors: the table is all that the file says of them."""
    table = np.asarray(file.tensors[LLAMA3_TABLE].data, dtype=np.float32).reshape(-1)
    parameters = {**LLAMA3, 'factor': float(table.max())}
    base = float(file.get(f'{file.architecture}.rope.freq_base', 10000.0))
    if not np.allclose(table, llama3_factors(len(table), base, parameters), rtol=TOLERANCE):
        raise ModelError(f'{file.path} stretches its positions by a table ({LLAMA3_TABLE}) that is not that of Llama '
                         '3.1 and cannot be converted. Name the directory of the original model')
    return parameters


def llama3_factors(n: int, base: float, parameters: dict) -> np.ndarray:
    """Return by what Llama 3.1 divides each of its `n` frequencies, [n].

    Source: `_compute_llama3_parameters` of transformers. Long waves are stretched by `factor`, short ones are left, and
    those between are blended.
    """
    low, high = parameters['low_freq_factor'], parameters['high_freq_factor']
    waves = 2 * math.pi * base ** (np.arange(n) / n)  # tokens for one turn
    smooth = np.clip((parameters['original_max_position_embeddings'] / waves - low) / (high - low), 0.0, 1.0)
    return 1.0 / ((1.0 - smooth) / parameters['factor'] + smooth)
