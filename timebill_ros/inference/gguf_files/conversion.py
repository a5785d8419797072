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

"""A GGUF file as an ordinary model directory in the cache: converted once, found again by its content.

The weights go through transformers' reader, which returns them to full precision; they are saved in bfloat16, or in
float32 where the file holds that. So a file of 4-bit weights grows about fourfold. The tokenizer is rebuilt here.
"""
from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import shutil
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM

from timebill_ros import disk_cache
from timebill_ros.inference.free_memory import free_bytes
from timebill_ros.inference.gguf_files.gguf_file import GgufFile
from timebill_ros.inference.gguf_files.gguf_tokenizer import end_ids, rebuild_tokenizer
from timebill_ros.inference.gguf_files.rope_scaling import rope_scaling
from timebill_ros.inference.gguf_files.source import digest_of, find, note
from timebill_ros.inference.memory import size
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.start_progress import this_start

log = logging.getLogger(__name__)

_SHARE = re.compile(r'(\d+)%')
# Seconds for a million weights on two quiet cores of a server, and for 10,000 tokens of a vocabulary.
WEIGHTS_S, TOKENS_S = 0.1, 0.3


def converted(path: Path, models: Path, *, title: str = '') -> Path:
    """Return the directory of the model in the GGUF file `path`, below `models`; it is made now unless it was before.

    `title`: the beginning of the directory's name; empty: the file's name. ModelError where the file cannot be
    converted, with a sentence.
    """
    if not path.is_file():
        raise ModelError(f'model file {path} does not exist')
    digest = digest_of(path, models)
    if found := find(digest, models):
        return found
    file = GgufFile(path)
    file.check()
    directory = models / f'{title or path.stem[:80]}-{digest[:12]}'
    log.info('%s is converted into the directory %s, once: later starts find it there', path, directory)
    started = time.monotonic()
    try:
        with disk_cache.in_making(directory) as partial:
            _convert(file, partial)
            note(partial, path, digest)
    except OSError as error:
        raise ModelError(f'{path} cannot be converted in {models}: {error}') from error
    log.info('converted in %.0f s', time.monotonic() - started)
    return directory


def _convert(file: GgufFile, directory: Path) -> None:
    """Write the model of `file` into the empty `directory`."""
    scaling = rope_scaling(file)
    dtype = torch.float32 if file.is_float32 else torch.bfloat16
    _check_room(file, directory, dtype)
    n_tokens = file.length('tokenizer.ggml.tokens')
    this_start.make(f'converting {file.path.name}: its vocabulary', TOKENS_S * n_tokens / 1e4)
    tokenizer = rebuild_tokenizer(file)
    weights = f'converting {file.path.name}: {file.n_elements / 1e6:.0f} million weights'
    this_start.make(weights, WEIGHTS_S * file.n_elements / 1e6)
    try:
        with contextlib.redirect_stderr(_Shares(weights)):
            model, info = AutoModelForCausalLM.from_pretrained(
                str(file.path.parent), gguf_file=file.path.name, dtype=dtype, output_loading_info=True,
                local_files_only=True, **_unpacked())
    except MemoryError:
        raise
    except Exception as error:  # transformers raises many kinds for what it does not know
        raise ModelError(f'{file.path} (architecture {file.architecture!r}) cannot be converted: '
                         f'{type(error).__name__}: {error}. Name the directory of the original model') from error
    if info['missing_keys']:  # transformers fills them with random numbers
        raise ModelError(f'the weights in {file.path} lack {", ".join(sorted(info["missing_keys"])[:5])}')
    if ids := end_ids(file):
        model.generation_config.eos_token_id = ids if len(ids) > 1 else ids[0]
    this_start.tell(f'writing {size(file.n_elements * dtype.itemsize)}')
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    if scaling:
        _scale_rope(directory / 'config.json', scaling)


def _unpacked() -> dict:
    """Return what makes transformers read the weights as ordinary ones.

    Releases that have GgufConfig keep them in GGUF's blocks otherwise, on a GPU, and cannot write those. Older ones
    know no such argument.
    """
    config = getattr(transformers, 'GgufConfig', None)
    return {} if config is None else {'quantization_config': config(dequantize=True)}


def _scale_rope(path: Path, scaling: dict) -> None:
    """Write `scaling` into a config.json, where its version of transformers looks for it."""
    config = json.loads(path.read_text())
    if 'rope_parameters' in config:  # from version 5 on
        config['rope_parameters'].update(scaling)
    else:
        config['rope_scaling'] = scaling
    path.write_text(json.dumps(config, indent=2) + '\n')


def _check_room(file: GgufFile, directory: Path, dtype: torch.dtype) -> None:
    """Raise ModelError with numbers where memory or disk are too small: weights pass through float32 all at once."""
    needed, there = file.n_elements * (4 + dtype.itemsize), free_bytes(torch.device('cpu'))
    if there is not None and needed > there:
        raise ModelError(f'OUT_OF_MEMORY: converting {file.path} takes {size(needed)} of memory, and {size(there)} are '
                         'free. Convert it on a larger machine with "timebill get-model FILE", and copy the directory')
    needed, there = file.n_elements * dtype.itemsize, shutil.disk_usage(directory).free
    if needed > there:
        raise ModelError(f'converting {file.path} takes {size(needed)} on the disk of {directory.parent}, and '
                         f'{size(there)} are free: see "timebill cache", or name another cache_dir')


class _Shares(io.TextIOBase):
    """Takes what transformers draws on a terminal, and tells how much of the weights it has read."""

    def __init__(self, what: str):
        self._what = what

    def write(self, text: str) -> int:
        if found := _SHARE.findall(text):
            this_start.tell(f'{self._what}, {found[-1]} %', share=int(found[-1]) / 100)
        return len(text)
