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

"""Reading a model's files: its config and tokenizer at once, its weights when they are asked for."""
from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from timebill_ros.inference.devices import choose_dtype
from timebill_ros.inference.memory import cache_bytes_per_token, does_not_fit, is_out_of_memory
from timebill_ros.inference.model_directory import ModelError, check_directory, fingerprint
from timebill_ros.inference.tokenizer import load_tokenizer
from timebill_ros.inference.weight_placement import WeightPlacement

log = logging.getLogger(__name__)


class ModelFiles:
    """The files of a model directory or hub id. ModelError, with a sentence, for what cannot be loaded.

    `dtype`: the parameter of that name; 'auto' leaves it to the config and the device.
    """

    def __init__(self, name: str, device: torch.device, dtype: str, *, trust_remote_code: bool,
                 allow_unsafe_weights: bool):
        if trust_remote_code:
            log.warning('trust_remote_code is on: code that ships with %s will run', name)
        if allow_unsafe_weights:
            log.warning('allow_unsafe_weights is on: loading pickled weights of %s can run code', name)
        check_directory(name, allow_unsafe_weights=allow_unsafe_weights)
        self._placement = WeightPlacement(device)
        self.name = name
        with explained(name):
            self.config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
            self.text_config = self.config.get_text_config(decoder=True)
            self.dtype = choose_dtype(dtype, device, getattr(self.config, 'dtype', None))
            self.tokenizer = load_tokenizer(name, trust_remote_code=trust_remote_code)
        self._options = dict(config=self.config, dtype=self.dtype, trust_remote_code=trust_remote_code,
                             use_safetensors=None if allow_unsafe_weights else True)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.name, getattr(self.config, '_commit_hash', None))

    def max_context(self, max_context_tokens: int) -> int:
        """Return the context in tokens: as long as the parameter and the model's positions allow."""
        return min(max_context_tokens, getattr(self.text_config, 'max_position_embeddings', max_context_tokens))

    def read_weights(self, attention: str = ''):
        """Return the model with its weights. `attention`: the implementation to use; empty: transformers' choice.

        ModelError where the files lack weights; other exceptions are transformers' own.
        """
        options = {**self._placement.options, **self._options}
        if attention:
            options['attn_implementation'] = attention
        model, info = AutoModelForCausalLM.from_pretrained(self.name, output_loading_info=True, **options)
        if info['missing_keys']:  # transformers fills them with random numbers
            raise ModelError(f'the weights of model {self.name} lack {", ".join(sorted(info["missing_keys"])[:5])}')
        self._placement.complete(model)
        return model


    def does_not_fit(self, error: Exception, n_tokens: int) -> str:
        """Return the sentence for a model that memory is too short for, with a context of `n_tokens`."""
        stored = getattr(self.config, 'dtype', None) or self.dtype
        weights = sum(path.stat().st_size for path in Path(self.name).glob('*.safetensors'))  # none for a hub id
        return does_not_fit(
            f'model {self.name}', error, n_tokens=n_tokens, dtype=str(self.dtype).removeprefix('torch.'),
            cache_bytes=cache_bytes_per_token(self.text_config, self.dtype.itemsize) * (n_tokens + 1),  # the spare slot
            weight_bytes=weights * self.dtype.itemsize / getattr(stored, 'itemsize', self.dtype.itemsize))


@contextlib.contextmanager
def explained(name: str, does_not_fit: Callable[[Exception], str] | None = None) -> Iterator[None]:
    """Turn what is raised inside into a ModelError: transformers raises many kinds for a broken directory.

    `does_not_fit` gives the sentence where memory is too short.
    """
    try:
        yield
    except Exception as error:
        if does_not_fit is not None and is_out_of_memory(error):
            raise ModelError(does_not_fit(error)) from error
        if isinstance(error, ModelError):
            raise
        raise ModelError(f'model {name} cannot be loaded: {type(error).__name__}: {error}') from error
