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

"""A GGUF file's metadata, read with the library gguf, and why some files cannot be converted.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from timebill_ros.inference.damaged_files import LFS_POINTER, damaged
from timebill_ros.inference.model_directory import ModelError

MAGIC = b'GGUF'
SUFFIX = '.gguf'
MOST_TOKENS = 1 << 20  # in a vocabulary; the largest that are in use have 262,144
LIBRARIES = {'gguf': 'which reads it', 'accelerate': 'without which transformers does not read its weights'}
INSTALL = 'pip install "gguf>=0.17" "accelerate>=1.1"'


def is_gguf(name: str) -> bool:
    """Whether the parameter `model` names a GGUF file, by its suffix or by its first bytes."""
    path = Path(name).expanduser()
    if name.lower().endswith(SUFFIX):
        return True
    try:
        with path.open('rb') as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def check_libraries(model: str | Path) -> None:
    """Raise ModelError, with what to install, where a library is missing that the GGUF file of `model` takes."""
    for name, what in LIBRARIES.items():
        if importlib.util.find_spec(name) is None:
            raise ModelError(f'model {model} is a GGUF file, and the library {name}, {what}, is not installed for '
                             f'{sys.executable}: {INSTALL}')


def check_begins(path: Path) -> None:
    """Raise ModelError where there is no file, or one that does not begin as a GGUF file does. It takes no library."""
    if not path.is_file():
        raise ModelError(f'model file {path} does not exist')
    with path.open('rb') as file:
        begins = file.read(len(MAGIC))
    why = f'it does not begin with {MAGIC.decode()}'
    if not begins or LFS_POINTER.startswith(begins):
        raise ModelError(damaged(path, ValueError(why)))
    if begins != MAGIC:
        raise ModelError(f'{path} is no GGUF file: {why}')


class GgufFile:
    """An open GGUF file: metadata by key, tensors by name. ModelError, with a sentence, for what cannot be read."""

    def __init__(self, path: Path):
        self.path = path
        check_begins(path)
        check_libraries(path)
        from gguf import GGUFReader
        try:
            self._reader = GGUFReader(path)
        except Exception as error:  # the reader raises whatever a damaged file makes of its arrays
            raise ModelError(self._unreadable(error)) from error
        self.tensors = {tensor.name: tensor for tensor in self._reader.tensors}

    def _unreadable(self, error: Exception) -> str:
        """Return why the reader raised `error`: one of an unknown version, or half of one."""
        if 'version' in str(error):
            return f'{self.path} cannot be read: {error}. A newer library gguf may know it'
        return damaged(self.path, error)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a metadata key, a list for an array; `default` where the file has no such key."""
        field = self._reader.fields.get(key)
        return default if field is None else field.contents()

    def length(self, key: str) -> int:
        """Return how many elements the array `key` has, without reading them; 0 where the file has no such key."""
        field = self._reader.fields.get(key)
        return 0 if field is None else len(field.data)

    @property
    def architecture(self) -> str:
        return str(self.get('general.architecture', ''))

    @property
    def n_elements(self) -> int:
        """Return the number of weights."""
        return sum(int(tensor.n_elements) for tensor in self.tensors.values())

    @property
    def is_float32(self) -> bool:
        """Whether most weights are stored in float32: then nothing was rounded that bfloat16 would still hold."""
        full = sum(int(t.n_elements) for t in self.tensors.values() if t.tensor_type.name == 'F32')
        return 2 * full > self.n_elements

    def check(self) -> None:
        """Raise ModelError, with what to do instead, for a file that is not a whole language model."""
        if not self.architecture:
            raise ModelError(f'{self.path} does not say which architecture its weights have (general.architecture)')
        kind = self.get('general.type', 'model')
        if kind != 'model':
            raise ModelError(f'{self.path} holds no model but a part of one ({kind}): name the file of the model')
        if (parts := self.get('split.count', 0)) > 1:
            raise ModelError(f'{self.path} is one of {parts} parts: join them with llama.cpp\'s '
                             '"llama-gguf-split --merge" first')
        if not self.tensors:
            raise ModelError(f'{self.path} holds no weights, only a vocabulary')
        if (n := self.length('tokenizer.ggml.tokens')) > MOST_TOKENS:
            raise ModelError(f'the vocabulary of {self.path} has {n} tokens, more than the {MOST_TOKENS} that are read')
