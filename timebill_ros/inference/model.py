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

"""The language model: load it, prefill a prompt in chunks, decode one step, evict. The importer of transformers.

Any Hugging Face causal LM goes through here unchanged: its own class, safetensors weights, its own tokenizer and chat
template. Batch size is 1 throughout; token ids are int64.
"""
from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from timebill_ros.inference import attention, foreign_cache, variants
from timebill_ros.inference.devices import choose_device, choose_dtype, device_name, library_versions
from timebill_ros.inference.eviction import MAX_WINDOW, SCORERS, Scorer, evict
from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.model_directory import (
    ModelError,
    check_directory,
    eos_ids,
    fingerprint,
    layout_refusal,
    sliding_windows,
)
from timebill_ros.inference.special_tokens import SpecialTokens
from timebill_ros.inference.steps import captured_step, compiled_step, decode_step
from timebill_ros.inference.threads import for_decoding
from timebill_ros.inference.tokenizer import load_tokenizer
from timebill_ros.request import ErrorCode, GoalError, Request

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """A prefilled prompt: what decoding attends to, and what a scorer chooses by."""

    states: list[tuple[torch.Tensor, torch.Tensor]]  # per layer its filled keys and values, [1, H_kv, N, D] each
    queries: dict[int, torch.Tensor | None]  # layer -> the prompt's last queries, [1, H_q, <= MAX_WINDOW, D]
    n_prompt: int  # entries


class CausalLM:
    """A loaded model with its tokenizer and one preallocated KV cache.

    `supports_eviction` is false, and `eviction_refusal` says why, for models whose cache is not one full-attention
    key and value per token. Those that our cache does not fit run on their own cache and attention, some of them
    without chunks in prefill. `compiled_steps`: folder of compiled decode steps; None: none are wanted.
    """

    def __init__(self, name: str, *, device: str = 'auto', dtype: str = 'auto', threads: int = 0,
                 max_context_tokens: int = 8192, scorer: str = 'snapkv', trust_remote_code: bool = False,
                 allow_unsafe_weights: bool = False, other_variants: str = '', compiled_steps: Path | None = None):
        if trust_remote_code:
            log.warning('trust_remote_code is on: code that ships with %s will run', name)
        if allow_unsafe_weights:
            log.warning('allow_unsafe_weights is on: loading pickled weights of %s can run code', name)
        check_directory(name, allow_unsafe_weights=allow_unsafe_weights)
        self.name = name
        self.device = choose_device(device)
        self._requested_threads = threads
        self.scorer: Scorer = SCORERS[scorer]()
        try:
            config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
            text_config = config.get_text_config(decoder=True)
            self.dtype = choose_dtype(dtype, self.device, getattr(config, 'dtype', None))
            self.tokenizer = load_tokenizer(name, trust_remote_code=trust_remote_code)
            self._special_tokens = SpecialTokens(self.tokenizer)
            self.eviction_refusal = layout_refusal(text_config)
            load = dict(config=config, dtype=self.dtype, trust_remote_code=trust_remote_code,
                        use_safetensors=None if allow_unsafe_weights else True)
            self._load(load, text_config, max_context_tokens)
        except ModelError:
            raise
        except Exception as error:  # transformers raises many kinds for a broken directory
            raise ModelError(f'model {name} cannot be loaded: {type(error).__name__}: {error}') from error
        if not self.eviction_refusal and not self.cache.evictable_layers():
            self.eviction_refusal = 'all its layers have a sliding window, which bounds their cache already'
        self.variant = str(self.dtype).removeprefix('torch.')
        self.fingerprint = fingerprint(name, getattr(config, '_commit_hash', None))
        self._add_variants(other_variants)
        self._compile_steps(compiled_steps)
        self.eos_ids = eos_ids(self.model, self.tokenizer)

    # -- loading -------------------------------------------------------------------------------------------------

    def _load(self, load: dict, config, max_context_tokens: int) -> None:
        self.max_context = min(max_context_tokens, getattr(config, 'max_position_embeddings', max_context_tokens))
        if not self.eviction_refusal:
            model = self._read(attn_implementation=attention.NAME, **load)
            try:
                self._prepare(model, config)
                self._warm_up()
                return
            except Exception as error:  # a model that does not fit fails in its own way; it runs on its own cache
                self.eviction_refusal = f'its attention does not go through the common interface ({error})'
        log.warning('KV eviction is off for %s: %s', self.name, self.eviction_refusal)
        self.model = self.cache = model = None  # so that the weights are not held twice
        if getattr(config, 'attn_logit_softcapping', None):
            load['attn_implementation'] = 'eager'  # PyTorch's SDPA, transformers' default, leaves soft-capping out
        self._prepare(self._read(**load), config)
        self._warm_up()

    def _add_variants(self, names: str) -> None:
        self.variants = {self.variant: self.model}
        try:
            wanted = variants.parse(names)
            if wanted and self._own:
                raise ValueError(f'variants need a cache of ours, but {self.eviction_refusal}')
            for name in wanted:
                self.variants[name] = variants.make(self.model, name, self.device)
                self.use_variant(name)
                self._warm_up()
        except ValueError as error:
            raise ModelError(f'model {self.name}: {error}') from error
        self.use_variant(self.variant)

    def use_variant(self, name: str) -> None:
        """Decode with the weights of this precision from now on; prefill keeps the model's own."""
        self._decoder, self._compiled = self.variants[name], self.compiled.get(name)

    def _compile_steps(self, directory: Path | None) -> None:
        """Steps of each variant as one compiled program, and on CUDA as graphs, where that can be had and is faster.
        """
        if directory is None or self._own:
            return
        ids = [self.tokenizer.eos_token_id or 0] * (MAX_WINDOW + 2)
        for name, model in self.variants.items():
            facts = [self.fingerprint, name, str(self.dtype), device_name(self.device), *library_versions().values()]
            self.reset()
            self.prefill(ids, chunk_tokens=len(ids))
            step = None
            try:
                step = compiled_step.prepare(model, self.cache, self._options, facts, directory)
            except compiled_step.NotCompiled as error:
                log.info('decode steps of %s in %s run through its modules: %s', self.name, name, error)
            if decode_step.uses_buckets(self.cache):
                try:
                    step = captured_step.prepare(model, self.cache, self._options, step, self._token, self._position)
                except captured_step.NotCaptured as error:
                    log.info('decode steps of %s in %s are no CUDA graphs: %s', self.name, name, error)
            if step is None:
                continue
            self.compiled[name] = step
            self.use_variant(name)
            self.step(torch.tensor(ids[0]), len(ids))  # the first call of what was loaded
        self.use_variant(self.variant)
        self.reset()

    def _read(self, **load):
        model, info = AutoModelForCausalLM.from_pretrained(self.name, output_loading_info=True, **load)
        if info['missing_keys']:  # transformers fills them with random numbers
            raise ModelError(f'the weights of model {self.name} lack {", ".join(sorted(info["missing_keys"])[:5])}')
        return model

    def _prepare(self, model, config) -> None:
        self.model = self._decoder = model.to(self.device).eval()
        # By variant, and that of the one in use.
        self.compiled: dict[str, compiled_step.CompiledStep | captured_step.CapturedStep] = {}
        self._compiled: compiled_step.CompiledStep | captured_step.CapturedStep | None = None
        self._n_prompt = 0  # entries of the prompt in the cache; what was generated follows them
        self.threads = self.prefill_threads = for_decoding(self._requested_threads, sum(
            p.numel() * p.element_size() for p in model.parameters()))
        self._use_threads(self.threads)
        self._options = {'logits_to_keep': 1} if 'logits_to_keep' in inspect.signature(model.forward).parameters else {}
        self._windows: dict[int, attention.QueryWindow] = {}
        self._token = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        self._position = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        self._own: foreign_cache.OwnCache | None = None
        if self.eviction_refusal:
            ids = torch.arange(MAX_WINDOW + 2, device=self.device)[None] % config.vocab_size
            self._own = foreign_cache.choose(model, config, ids)
            return
        self.cache = SlotCache(self.max_context, sliding_windows(config))
        for module in model.modules():
            index = getattr(module, 'layer_idx', None)
            if index is not None and hasattr(module, 'is_causal'):
                self._windows[index] = module.timebill_window = attention.QueryWindow(MAX_WINDOW)

    def _warm_up(self) -> None:
        """Run everything a request runs, so that none pays for first calls; ValueError where parts are missing."""
        ids = [self.tokenizer.eos_token_id or 0] * (MAX_WINDOW + 2)
        self.reset()
        self.prefill(ids, chunk_tokens=len(ids) // 2)
        missing = [] if self.eviction_refusal else \
            [i for i in self.cache.evictable_layers() if i not in self._windows or self._windows[i].queries is None]
        if missing:
            raise ValueError(f'layers {missing} did not call it')
        if self.supports_eviction:
            self.evict(MAX_WINDOW)
        self.step(torch.tensor(ids[0]), len(ids))
        self.reset()

    @property
    def supports_eviction(self) -> bool:
        return not self.eviction_refusal

    @property
    def chunked_prefill(self) -> bool:
        """Whether prefill can stop between chunks."""
        return self._own is None or self._own.chunked

    @property
    def looks_per_chunk(self) -> int:
        """How often prefill of one chunk asks whether to stop, at about equal intervals.

        A GPU computes later than it is asked to, so that on one only the look before a chunk that has been waited for
        would say something.
        """
        return max(1, len(self._windows)) if self.device.type == 'cpu' else 1

    # -- text ----------------------------------------------------------------------------------------------------

    def render(self, request: Request) -> str:
        """The text the model sees: the raw prompt, or the messages through the model's chat template, as text."""
        if not request.messages:
            return request.prompt
        if not getattr(self.tokenizer, 'chat_template', None):
            raise GoalError(ErrorCode.INVALID_GOAL, f'model {self.name} has no chat template; send prompt instead')
        messages = [{**message, 'content': self._special_tokens.as_text(message['content'])}
                    for message in request.messages]
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # templates raise jinja errors of their own for roles they refuse
            raise GoalError(ErrorCode.INVALID_GOAL,
                            f'the chat template refuses the messages: {str(error)[:200]}') from error

    def tokenize(self, text: str, *, is_chat: bool) -> list[int]:
        """Token ids; a chat template has already written the special tokens. GoalError where none or too many."""
        ids = self.tokenizer(text, add_special_tokens=not is_chat, verbose=False)['input_ids']
        if not ids:
            raise GoalError(ErrorCode.INVALID_GOAL, 'the prompt holds no tokens')
        if len(ids) >= self.max_context:
            raise GoalError(ErrorCode.PROMPT_TOO_LONG, f'the prompt has {len(ids)} tokens; with room for one more, '
                            f'at most {self.max_context - 1} fit the context of {self.max_context}')
        return ids

    # -- inference -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def reset(self) -> None:
        """Forget the previous sequence."""
        (self._own or self.cache).reset()
        for window in self._windows.values():
            window.clear()

    @torch.inference_mode()
    def prefill(self, ids: list[int], *, chunk_tokens: int,
                should_stop: Callable[[], bool] = lambda: False) -> torch.Tensor | None:
        """Fill the cache with the prompt; logits [V] of the next token, or None if `should_stop`.

        That is asked between chunks and, on our cache and attention, before each layer of them. After None the cache
        holds nothing of use until `reset`.
        """
        if not self.chunked_prefill:
            chunk_tokens = len(ids)
        prompt = torch.tensor([ids], dtype=torch.long).to(self.device)
        positions = torch.arange(len(ids), device=self.device)[None]
        for window in self._windows.values():
            window.recording, window.should_stop = True, should_stop
        self._use_threads(self.prefill_threads)
        try:
            logits = None
            for start in range(0, len(ids), chunk_tokens):
                if start and should_stop():
                    return None
                end = start + chunk_tokens
                logits = self._forward(self.model, prompt[:, start:end], positions[:, start:end])
            self._n_prompt = len(ids)
            return logits
        except attention.Stopped:
            return None
        finally:
            self._use_threads(self.threads)
            for window in self._windows.values():
                window.recording, window.should_stop = False, bool

    def _use_threads(self, n: int) -> None:
        if self.device.type == 'cpu' and n != torch.get_num_threads():
            torch.set_num_threads(n)

    @torch.inference_mode()
    def step(self, token: torch.Tensor, position: int) -> torch.Tensor:
        """Decode one step: token id (on the device, any shape of one element) at `position` -> logits [V].

        Positions go on from the original prompt length after eviction. No host synchronisation. The logits are valid
        until the next step.
        """
        self._token.copy_(token.view(1, 1))
        self._position.fill_(position)
        if self._compiled is not None:
            return self._compiled(self._token, self._position)
        return self._forward(self._decoder, self._token, self._position)

    def _forward(self, model, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        if self._own:
            return self._own.forward(ids, positions)
        return decode_step.forward(model, ids, positions, self.cache, self._options)

    @torch.inference_mode()
    def evict(self, n_keep: int) -> None:
        """Keep `n_keep` prompt entries per KV head in every full-attention layer, by the scorer's choice.

        While decoding too, and again: what was generated stays.
        """
        for index in self.cache.evictable_layers():
            window = self._windows[index]
            evict(self.cache.layers[index], self.scorer, window.queries, window.scaling, n_keep, self._n_prompt)
        self._n_prompt = min(n_keep, self._n_prompt)

    @torch.inference_mode()
    def snapshot(self) -> Snapshot:
        """The prompt as prefill left it, for any number of restores. ModelError for a model on a cache of its own."""
        if self._own:
            raise ModelError(f'model {self.name} runs on a cache of its own ({self.eviction_refusal}), '
                             'of which there are no snapshots')
        return Snapshot([layer.snapshot() for layer in self.cache.layers],
                        {index: window.queries for index, window in self._windows.items()}, self._n_prompt)

    @torch.inference_mode()
    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot, whatever was prefilled, evicted or decoded since. The snapshot stays as it is."""
        for layer, (keys, values) in zip(self.cache.layers, snapshot.states, strict=True):
            layer.restore(keys, values)
        self._n_prompt = snapshot.n_prompt
        for index, queries in snapshot.queries.items():
            self._windows[index].queries = queries

    def synchronize(self) -> None:
        """Wait for the device: a time that was not preceded by this is not a time."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
