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

"""The language model: prefill a prompt in chunks, decode one step, evict. `model_loading.py` reads its files.

Any Hugging Face causal LM goes through here unchanged: its own class, safetensors weights, its own tokenizer and chat
template. Batch size is 1 throughout; token ids are int64.
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from timebill_ros.inference import attention, foreign_cache, generation_config, variants
from timebill_ros.inference.answer_state import AnswerState, WatchedChain
from timebill_ros.inference.asides import Asides
from timebill_ros.inference.chunks import read_in_chunks, to_border
from timebill_ros.inference.devices import choose_device
from timebill_ros.inference.eviction import MAX_WINDOW, SCORERS, Scorer, evict
from timebill_ros.inference.grammars.no_grammars import NoGrammars
from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.layer_stop import Stopped, stop_before_layers
from timebill_ros.inference.memory import is_out_of_memory
from timebill_ros.inference.model_directory import ModelError, eos_ids, layout_refusal, sliding_windows
from timebill_ros.inference.model_loading import ModelFiles, explained
from timebill_ros.inference.prefix_store import PrefixStore
from timebill_ros.inference.prompt import PromptEncoder
from timebill_ros.inference.prompt_state import PromptState
from timebill_ros.inference.prompt_tiles import PromptTiles
from timebill_ros.inference.query_recorder import QueryRecorder, recording
from timebill_ros.inference.sampling import Sampler, drawing
from timebill_ros.inference.snapshot import Snapshot
from timebill_ros.inference.steps.interface import Step
from timebill_ros.inference.steps.model_steps import choose_steps
from timebill_ros.inference.steps.modules import ModuleStep
from timebill_ros.inference.streams import stream_on
from timebill_ros.inference.threads import for_decoding
from timebill_ros.inference.token_chain import Arrivals, StepChain, TokenChain
from timebill_ros.request import Request, Sampling

log = logging.getLogger(__name__)


class CausalLM:
    """A loaded model with its tokenizer and one preallocated KV cache.

    `supports_eviction` is false, and `eviction_refusal` says why, for models whose cache is not one full-attention
    key and value per token. Models that SlotCache does not fit run on their own cache and attention, some of them
    without chunks in prefill. `compiled_steps`: folder of compiled decode steps; None: steps run through the modules.
    Without `compiles`, none are compiled, and CUDA graphs are those of the modules.

    `stream`: where requests put their work, which goes before the length predictor's. Whoever times something enters
    it, as the engine does.
    """

    def __init__(self, name: str, *, device: str = 'auto', dtype: str = 'auto', threads: int = 0,
                 max_context_tokens: int = 0, scorer: str = 'snapkv', trust_remote_code: bool = False,
                 allow_unsafe_weights: bool = False, other_variants: str = '', compiled_steps: Path | None = None,
                 compiles: bool = True, revision: str = '', template_args: str = ''):
        self.name = name
        self.device = choose_device(device)
        self.stream = stream_on(self.device, urgent=True)
        if self.device.type == 'cuda':
            attention.avoid_plans_for_each_length()
        self._requested_threads = threads
        self.prompt_state: PromptState | None = None  # where prefill leaves its last state; None: nowhere
        self.prefixes: PrefixStore | None = None  # what was read before; None: nothing is kept
        self.asides: Asides | None = None  # where sequences that give way are; None: none can
        self.grammars = NoGrammars('none were prepared')  # or Grammars: what gives answers a form
        self.answer_state: AnswerState | None = None  # where steps leave theirs; None: nowhere
        self.scorer: Scorer = SCORERS[scorer]()
        files = ModelFiles(name, self.device, dtype, trust_remote_code=trust_remote_code,
                           allow_unsafe_weights=allow_unsafe_weights, revision=revision, template_args=template_args)
        self.dtype, self.tokenizer, self.fingerprint = files.dtype, files.tokenizer, files.fingerprint
        self.max_context = files.max_context(max_context_tokens, other_variants)
        with explained(name, lambda error: files.does_not_fit(error, self.max_context)):
            self._prompts = PromptEncoder(name, self.tokenizer, self.max_context)
            self.chat = self._prompts.chat
            self.eviction_refusal = layout_refusal(files.text_config)
            self._load(files)
            if not self.eviction_refusal and not self.cache.evictable_layers():
                self.eviction_refusal = 'all its layers have a sliding window, which bounds their cache already'
            # How decoding names these weights: other precisions are beside it, see `variants`.
            self.variant = files.quantize_to or str(self.dtype).removeprefix('torch.')
            self._add_variants(other_variants)
        if compiled_steps is not None and self._foreign is None:
            with self.stream.entered():
                choose_steps(self, self._token, self._position, compiled_steps if compiles else None)
        self.eos_ids = eos_ids(self.model, self.tokenizer)
        self.sampling = generation_config.sampling(name, getattr(self.model, 'generation_config', None))

    # -- loading -------------------------------------------------------------------------------------------------

    def _load(self, files: ModelFiles) -> None:
        config = files.text_config
        if not self.eviction_refusal:
            model = files.read_weights(attention.NAME)
            try:
                self._prepare(model, config)
                self._warm_up()
                return
            except Exception as error:  # a model that does not fit fails in its own way; it runs on its own cache
                if is_out_of_memory(error):
                    raise  # another cache would take as much, and eviction could not be had
                self.eviction_refusal = f'its attention does not go through the common interface ({error})'
        if files.quantize_to:
            raise ModelError(f'dtype {files.quantize_to} needs a cache of ours, but {self.eviction_refusal}')
        log.warning('KV eviction is off for %s: %s', self.name, self.eviction_refusal)
        # Let go of the weights read first, so that they are not held twice.
        self.model = self.cache = self._reader = self._step = model = None
        self._attentions = {}
        # PyTorch's SDPA, transformers' default, leaves soft-capping out.
        self._prepare(files.read_weights('eager' if getattr(config, 'attn_logit_softcapping', None) else ''), config)
        self._warm_up()

    def _prepare(self, model, config) -> None:
        self.model = (model if model.timebill_quantized else model.to(self.device)).eval()
        # Entries of the prompt in the cache, which what was generated follows; tokens that a stopped prefill has read
        self._n_prompt = self.n_read = 0
        self.threads = self.prefill_threads = for_decoding(self._requested_threads, sum(
            p.numel() * p.element_size() for p in model.parameters()))
        self._use_threads(self.threads)
        self._token, self._position = (torch.zeros(1, 1, dtype=torch.long, device=self.device) for _ in range(2))
        self._arrivals = Arrivals(self.device) if self.device.type == 'cuda' else None
        self.hidden: torch.Tensor | None = None  # [H], the last hidden state of the latest step or prefill
        self._attentions: dict[int, torch.nn.Module] = {}  # by layer; those that call our attention function
        self._recorders: dict[int, QueryRecorder] = {}
        self.tiles: PromptTiles | None = None
        self._foreign: foreign_cache.ForeignCache | None = None
        if self.eviction_refusal:
            ids = torch.arange(MAX_WINDOW + 2, device=self.device)[None] % config.vocab_size
            self._foreign = self._reader = self._step = foreign_cache.choose(model, config, ids)
            return
        self.cache = SlotCache(self.max_context, sliding_windows(config), self.dtype)
        # Prefill goes through the modules, whatever decode steps go through later.
        self._reader = self._step = ModuleStep(self.model, self.cache)
        for module in model.modules():
            index = getattr(module, 'layer_idx', None)
            if index is not None and hasattr(module, 'is_causal'):
                self._attentions[index] = module
                self._recorders[index] = module.timebill_recorder = QueryRecorder(MAX_WINDOW)

    def _warm_up(self) -> None:
        """Run everything that a request runs, so that no request pays for first calls.

        ValueError where a layer that is to be evicted did not call our attention function.
        """
        ids = [self.tokenizer.eos_token_id or 0] * (MAX_WINDOW + 2)
        with self.stream.entered():  # libraries keep their workspaces for each stream
            self.reset()
            self.prefill(ids, chunk_tokens=len(ids) // 2)
            missing = [] if self.eviction_refusal else [i for i in self.cache.evictable_layers() if i not in
                                                        self._recorders or self._recorders[i].queries is None]
            if missing:
                raise ValueError(f'layers {missing} did not call it')
            if self.supports_eviction:
                self.evict(MAX_WINDOW)
            self.step(self._token.fill_(ids[0]), len(ids))
            self.reset()

    def _add_variants(self, names: str) -> None:
        self.variants = {self.variant: self.model}
        self.steps: dict[str, Step] = {self.variant: self._reader}
        try:
            wanted = variants.parse(names)
            if wanted and self._foreign:
                raise ValueError(f'variants need a cache of ours, but {self.eviction_refusal}')
            for name in wanted:
                self.variants[name] = variants.make(self.model, name, self.device)
                self.steps[name] = ModuleStep(self.variants[name], self.cache)
                self.use_variant(name)
                self._warm_up()
        except ValueError as error:
            raise ModelError(f'model {self.name}: {error}') from error
        self.use_variant(self.variant)

    def use_variant(self, name: str) -> None:
        """Decode with the weights of this precision from now on; prefill keeps the model's own."""
        self._step, self.in_use = self.steps[name], name

    # -- what it can do ------------------------------------------------------------------------------------------

    @property
    def supports_eviction(self) -> bool:
        return not self.eviction_refusal

    @property
    def fast_steps(self) -> dict[str, Step]:
        """The steps, by variant, that do not go through the model's modules."""
        return {name: step for name, step in self.steps.items() if step.kind != 'modules'}

    @property
    def chunked_prefill(self) -> bool:
        """Whether prefill can stop between chunks."""
        return self._foreign is None or self._foreign.chunked

    @property
    def looks_per_chunk(self) -> int:
        """How often prefill of one chunk asks whether to stop, at about equal intervals.

        Only on a CPU does the question before a layer come when that layer is due. A GPU computes later than it is
        asked to, and there the question between chunks counts.
        """
        return max(1, len(self._attentions)) if self.device.type == 'cpu' else 1

    @property
    def chunks_queued(self) -> int:
        """How many chunks the device has yet to compute, at most, when prefill asks between them whether to stop.

        The end of prefill is waited for with as many.
        """
        return 1 if self.device.type == 'cpu' else 2

    # -- text ----------------------------------------------------------------------------------------------------

    def render(self, request: Request) -> str:
        """See PromptEncoder."""
        return self._prompts.render(request)

    def tokenize(self, text: str, *, is_chat: bool, should_stop: Callable[[], bool] = lambda: False
                 ) -> list[int] | None:
        """See PromptEncoder."""
        return self._prompts.tokenize(text, is_chat=is_chat, should_stop=should_stop)

    # -- inference -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def reset(self) -> None:
        """Forget the previous sequence."""
        (self._foreign or self.cache).reset()
        self._n_prompt = 0
        for recorder in self._recorders.values():
            recorder.clear()

    def use_tiles(self, tiles: PromptTiles | None) -> None:
        """Read prompts with the attention of `tiles` from now on; None: with PyTorch's. See prefix_check.py."""
        self.tiles = tiles
        for module in self._attentions.values():
            module.timebill_tiles = tiles

    @torch.inference_mode()
    def prefill(self, ids: list[int], *, chunk_tokens: int, should_stop: Callable[[], bool] = lambda: False,
                first: int = 0) -> torch.Tensor | None:
        """Fill the cache with the prompt; return the logits [V] of the next token, or None where `should_stop` said so.

        `should_stop` is asked between chunks and, on our cache and attention, before each layer of them. After None the
        cache holds the chunks that were read, `n_read` tokens of the prompt. It may hold the `first` already.
        """
        if not self.chunked_prefill:
            chunk_tokens = len(ids)
        self._use_threads(self.prefill_threads)
        tiles = self.tiles.reading(first, chunk_tokens) if self.tiles else nullcontext()
        around_last = self.prompt_state.reading() if self.prompt_state else nullcontext()
        try:
            with recording(self._recorders.values()), tiles, stop_before_layers(self._attentions.values(), should_stop):
                logits, self.hidden = read_in_chunks(
                    self._reader, ids, self.device, self.stream, chunk_tokens=chunk_tokens, should_stop=should_stop,
                    around_last=around_last, first=first)
        except Stopped:
            self.n_read = to_border(self._foreign or self.cache, self._recorders)
            return None
        finally:
            self._use_threads(self.threads)
        self._n_prompt = len(ids)
        return logits

    def _use_threads(self, n: int) -> None:
        if self.device.type == 'cpu' and n != torch.get_num_threads():
            torch.set_num_threads(n)

    @torch.inference_mode()
    def step(self, token: torch.Tensor, position: int) -> torch.Tensor:
        """Decode one step: token id (on the device, any shape of one element) at `position` -> logits [V].

        NOT_A_TOKEN counts as token 0: a step that was started ahead may be given it, and nobody reads what comes of it.
        Positions go on from the original prompt length after eviction. No host synchronisation. The logits, and the
        last hidden state in `hidden`, are valid until the next step.
        """
        torch.clamp(token.view(1, 1), min=0, out=self._token)
        self._position.fill_(position)
        logits, self.hidden = self._step(self._token, self._position)
        return logits

    def drawing(self, sampling: Sampling, ids: list[int]) -> AbstractContextManager[Sampler]:
        """See sampling.drawing; `ids`: the prompt."""
        return drawing(sampling, self.device, ids)

    def chain(self, sampler: Sampler) -> TokenChain:
        """Return what draws the tokens of one answer, with the weights in use now. `hidden` stays what it is."""
        own = self._step.chain(sampler)
        chain = own or StepChain(self.step, sampler, self._arrivals)
        watch = self.answer_state
        return chain if watch is None else WatchedChain(chain, watch, lambda: (own or self).hidden)

    @torch.inference_mode()
    def evict(self, n_keep: int, told: list[torch.Tensor] | None = None) -> None:
        """Keep `n_keep` prompt entries per KV head in every full-attention layer, as the scorer chooses.

        This may be called while decoding, and again: generated entries stay. `told` gets the scores, layer by layer.
        """
        for i in self.cache.evictable_layers():
            seen = self._recorders[i]
            evict(self.cache.layers[i], self.scorer, seen.queries, seen.scaling, n_keep, self._n_prompt, told)
        self._n_prompt = min(n_keep, self._n_prompt)

    @torch.inference_mode()
    def snapshot(self, *, states: bool = True) -> Snapshot:
        """Copy the sequence for `restore`, or only what is beside its `states`. ModelError for a cache not of ours."""
        if self._foreign:
            raise ModelError(f'model {self.name} runs on a cache of its own ({self.eviction_refusal}), '
                             'of which there are no snapshots')
        return Snapshot([layer.snapshot() for layer in self.cache.layers if states],
                        {index: recorder.queries for index, recorder in self._recorders.items()}, self._n_prompt)

    @torch.inference_mode()
    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot, whatever was prefilled, evicted or decoded since. It can be restored again."""
        for layer, (keys, values) in zip(self.cache.layers, snapshot.states, strict=False):
            layer.restore(keys, values)
        self._n_prompt = snapshot.n_prompt
        for index, queries in snapshot.queries.items():
            self._recorders[index].queries = queries

    def check(self) -> None:
        """Check the cache's invariants, between goals. ValueError with a sentence where one is broken."""
        if self._foreign is None:
            self.cache.check()
            if self.prefixes is not None:
                self.prefixes.check()
            if self._n_prompt > max(self.cache.lengths):
                raise ValueError(f'the cache holds {max(self.cache.lengths)} entries, {self._n_prompt} of the prompt')

    def synchronize(self) -> None:
        """Wait until the device has done what this thread has asked it for; the length predictor may go on."""
        self.stream.wait()
