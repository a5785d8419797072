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

from timebill_ros.inference import hub, memory_budget, quantized, variants
from timebill_ros.inference.chat_options import set_template_args
from timebill_ros.inference.context_length import choose_context, settle_longrope
from timebill_ros.inference.damaged_files import find_damage
from timebill_ros.inference.devices import choose_dtype
from timebill_ros.inference.free_memory import free_bytes
from timebill_ros.inference.memory import cache_bytes_per_token, does_not_fit, is_out_of_memory
from timebill_ros.inference.model_directory import ModelError, check_directory, fingerprint, layout_refusal
from timebill_ros.inference.tokenizer import load_tokenizer
from timebill_ros.inference.weight_placement import WeightPlacement

log = logging.getLogger(__name__)

HALVES = tuple(getattr(torch, name) for name in variants.HALVES)


class ModelFiles:
    """The files of a model directory or hub id. ModelError, with a sentence, for what cannot be loaded.

    `dtype`: the parameter of that name; 'auto' leaves it to the config and the device. `revision` (model_revision) and
    `template_args` (chat_template_args): empty for none.
    """

    def __init__(self, name: str, device: torch.device, dtype: str, *, trust_remote_code: bool,
                 allow_unsafe_weights: bool, revision: str = '', template_args: str = ''):
        if trust_remote_code:
            log.warning('trust_remote_code is on: code that ships with %s will run', name)
        if allow_unsafe_weights:
            log.warning('allow_unsafe_weights is on: loading pickled weights of %s can run code', name)
        check_directory(name, allow_unsafe_weights=allow_unsafe_weights)
        self._placement = WeightPlacement(device)
        if revision and Path(name).exists():
            raise ModelError(f'model_revision is {revision!r}, but model {name} is a directory: only hub ids have '
                             'revisions')
        self.name, self._device, self._revision, self._n_tokens = name, device, revision, 0
        self._decodes_as_stored = False
        source = {'trust_remote_code': trust_remote_code, **({'revision': revision} if revision else {})}
        with explained(name):
            self.config = AutoConfig.from_pretrained(name, **source)
            self.text_config = self.config.get_text_config(decoder=True)
            stored = getattr(self.config, 'dtype', None)
            # int8 and int4 are of weights; all else is in the precision that 'auto' chooses.
            self.quantize_to, dtype = (dtype, 'auto') if dtype in variants.QUANTIZED else ('', dtype)
            # The kernels of quantised weights are made for the precision that these were stored for.
            keeps = dtype == 'auto' and stored and quantized.method_of(self.config)[0]
            self.dtype = stored if keeps else choose_dtype(dtype, device, stored)
            self._kept_in = stored if device.type == 'cpu' else None  # by the files
            self._stored = self._kept_in if dtype == 'auto' else None
            self.quantization = quantized.check(name, self.config, device, self.dtype)
            self.tokenizer = load_tokenizer(name, trust_remote_code=trust_remote_code, revision=revision)
            set_template_args(name, self.tokenizer, template_args)
        self._options = dict(config=self.config, dtype=self.dtype, use_safetensors=None if allow_unsafe_weights else
                             True, **source, **(self.quantization.options if self.quantization else {}))

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.name, getattr(self.config, '_commit_hash', None))

    def max_context(self, max_context_tokens: int, variant_names: str = '') -> int:
        """Return the context in tokens: as long as the parameter, the model's positions and memory allow.

        0 leaves it to the node. ModelError where model, cache and variants (comma-separated) do not fit into memory.
        """
        self._n_tokens = choose_context(self.name, self.text_config, max_context_tokens)
        with explained(self.name):
            need, free = self._need(variant_names), free_bytes(self._device)
            if self._stored not in (None, self.dtype):
                need = self._as_stored_if_needed(need, free, variant_names)
            self._n_tokens = memory_budget.fit_context(
                self.name, need, free, self._n_tokens, chosen=not max_context_tokens, device=self._device,
                dtype=self._dtype_name)
            self._decodes_as_stored = self._kept_in in HALVES and self.dtype == torch.float32 and (
                free is None or need.total(self._n_tokens) + self._stored_bytes() <= free)
        return self._n_tokens

    def _as_stored_if_needed(self, need: memory_budget.Need, free: int | None, names: str) -> memory_budget.Need:
        """Stay with the stored precision, though this CPU emulates it, where float32 does not fit."""
        if free is None or need.total(self._n_tokens) <= free:
            log.info('%s is stored in %s, which this CPU has to emulate: it is computed in float32', self.name,
                     str(self._stored).removeprefix('torch.'))
            return need
        self.dtype = self._options['dtype'] = self._stored
        log.warning('this CPU has to emulate %s, and %s does not fit into memory in float32: prefill is several times '
                    'slower. A quantized dtype (int8, int4) or a smaller model is quicker',
                    str(self._stored).removeprefix('torch.'), self.name)
        return self._need(names)

    @property
    def _dtype_name(self) -> str:
        return str(self.dtype).removeprefix('torch.') + (f' ({self.quantization.label})' if self.quantization else '')

    @property
    def _cache_bytes(self) -> int:
        """Bytes of the KV cache for one token; 0 where the model has a cache of its own, which grows."""
        return 0 if layout_refusal(self.text_config) else cache_bytes_per_token(self.text_config, self.dtype.itemsize)

    def _need(self, variant_names: str) -> memory_budget.Need:
        """Work out what the model takes. The weights of a hub id are downloaded for it."""
        weights = self._weights()
        try:
            names = variants.parse(variant_names)
        except ValueError as error:
            raise ModelError(f'model {self.name}: {error}') from error
        kept = memory_budget.quantized_bytes(self.quantize_to, weights, self.dtype) if self.quantize_to else \
            weights.n_bytes
        return memory_budget.Need(kept, memory_budget.variant_bytes(names, weights), self._cache_bytes,
                                  loading=weights.n_bytes)

    def _stored_bytes(self) -> int:
        """Return what a copy of the linear layers takes in the precision that they are stored in."""
        return memory_budget.variant_bytes([str(self._kept_in).removeprefix('torch.')], self._weights())

    def _weights(self) -> memory_budget.Weights:
        root = Path(self.name)
        directory = root if root.is_dir() else hub.download_weights(self.name, self._revision)
        return memory_budget.weights_of(
            memory_budget.weight_files(directory), self.dtype, quantized=self.quantization is not None,
            expanded=self.quantization is not None and self.quantization.expanded,
            bits=self.quantization.bits if self.quantization else 8,
            tied=bool(getattr(self.text_config, 'tie_word_embeddings', False)))

    def read_weights(self, attention: str = ''):
        """Return the model with its weights. `attention`: the implementation to use; empty: transformers' choice.

        Call this after `max_context`. ModelError where the files lack weights, or hold quantised ones that the config
        does not tell of; other exceptions are transformers' own.
        """
        options = {**self._placement.options, **self._options}
        if attention:
            options['attn_implementation'] = attention
        model, info = AutoModelForCausalLM.from_pretrained(self.name, output_loading_info=True, **options)
        quantized.check_loaded(self.name, info['unexpected_keys'])
        if info['missing_keys']:  # transformers fills them with random numbers
            raise ModelError(f'the weights of model {self.name} lack {", ".join(sorted(info["missing_keys"])[:5])}')
        stays = self.quantization is not None and not self.quantization.expanded
        if not stays:  # quantised weights are where they belong, and are no ordinary tensors
            self._placement.complete(model)
        settle_longrope(model, self._n_tokens)
        model.timebill_quantized = self.quantization.label if stays else ''
        model.timebill_stored = self._kept_in if self._decodes_as_stored else None  # see variants.as_stored
        if self.quantize_to:
            variants.quantize(model, self.quantize_to, self._device)
            model.timebill_quantized = self.quantize_to
        return model

    def does_not_fit(self, error: Exception, n_tokens: int) -> str:
        """Return the sentence for a model that memory is too short for, with a context of `n_tokens`."""
        return does_not_fit(f'model {self.name}', error, n_tokens=n_tokens, dtype=self._dtype_name,
                            cache_bytes=self._cache_bytes * (n_tokens + 1),  # the spare slot
                            weight_bytes=self._weights().n_bytes)


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
        reason = find_damage(Path(name)) or f'{type(error).__name__}: {error}'
        raise ModelError(f'model {name} cannot be loaded: {reason}') from error
