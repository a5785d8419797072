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

"""Several answers decoded side by side: a step reads the weights once for all of them.

This is for work that no deadline waits for, such as labels of lengths. Each answer has a cache of its own. So attention
is computed for one answer after the other, over what that answer has seen, by the function that computes it in a single
step; everything else is computed for all answers at once. An answer that is over gives its place to the next one.

Answers are greedy. A product of several rows may round otherwise than that of one row, and where two tokens are about
equally likely, the answer then goes on with the other one.
"""
from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from timebill_ros.inference.kv_cache import SlotCache, SlotLayer
from timebill_ros.inference.memory import is_out_of_memory
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.steps.modules import forward_options, head_inputs

log = logging.getLogger(__name__)

ROWS = 32  # answers at once; more of them hardly make a token cheaper on a CPU


@dataclass
class Row:
    """One answer. `item`: whatever the caller knows it by; `cap`: tokens at most.

    position:  of the newest token.
    tokens:    drawn so far; an answer that ended by itself has its end token too.
    """

    item: Any
    cache: SlotCache
    position: int
    cap: int
    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    is_finite: bool = True  # False: the model computed NaN or infinity, and the answer is none

    @property
    def is_over(self) -> bool:
        return self.ended or not self.is_finite or len(self.tokens) >= self.cap


# Called after a step with the answers that took part and the states that entered the model's head, [rows, H]; None for
# a model whose head is no module of its own. The tensor is valid until the next step.
AfterStep = Callable[[list[Row], 'torch.Tensor | None'], None]


class SideBySide:
    """Answers that one model decodes together. It reads their prompts: `begin` takes over what prefill left.

    rows:        answers at once, at most. Together they take no more cache slots than the model's own cache has.
    after_step:  see AfterStep.

    The caller enters the model's stream, as the engine does. ValueError for a model on a cache of its own.
    """

    def __init__(self, model: CausalLM, *, rows: int = ROWS, after_step: AfterStep = lambda rows, hidden: None):
        if not isinstance(getattr(model, 'cache', None), SlotCache):
            raise ValueError(f'model {model.name} runs on a cache of its own, which holds one answer')
        self.rows: list[Row] = []
        self.logits: torch.Tensor | None = None  # [rows, V] of the newest step
        self._model, self._most, self._after_step = model, rows, after_step
        self._attentions = [module for module in model.model.modules() if hasattr(module, 'timebill_recorder')]
        self._layers = [_RowsLayer() for _ in model.cache.layers]
        self._cache = Cache(layers=self._layers)
        self._options = forward_options(model.model)

    def has_room(self, n_tokens: int) -> bool:
        """Tell whether an answer may begin that takes `n_tokens` slots in the end; one always may where none is."""
        taken = sum(row.cache.capacity for row in self.rows)
        return not self.rows or (len(self.rows) < self._most and taken + n_tokens <= self._model.max_context)

    @torch.inference_mode()
    def begin(self, item: Any, logits: torch.Tensor, n_prompt: int, cap: int) -> Row:
        """Begin an answer to the prompt of `n_prompt` tokens that the model has read, whose `logits` [V] are these.

        The answer may be over with its first token.
        """
        cache = _copied(self._model.cache, n_prompt + cap)
        row = Row(item, cache, n_prompt, cap)
        self._take([row], logits[None])
        if not row.is_over:
            self.rows.append(row)
        return row

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Draw one more token of every answer; return those that are over with it, which leave."""
        rows, device = self.rows, self._model.device
        tokens = torch.tensor([[row.tokens[-1]] for row in rows], device=device)
        positions = torch.tensor([[row.position] for row in rows], device=device)
        for index, layer in enumerate(self._layers):
            layer.rows = [row.cache.layers[index] for row in rows]
        with self._attending(), head_inputs(self._model.model) as seen:
            self.logits = self._model.model(input_ids=tokens, position_ids=positions, past_key_values=self._cache,
                                            use_cache=True, **self._options).logits[:, -1]
        for row in rows:
            row.position += 1
        self._take(rows, self.logits)
        self._after_step(rows, seen[-1][:, -1] if seen else None)
        self.rows = [row for row in rows if not row.is_over]
        return [row for row in rows if row.is_over]

    def _take(self, rows: list[Row], logits: torch.Tensor) -> None:
        """Draw the next token of each answer from logits [rows, V], as `sampling.Sampler` does greedily."""
        best, tokens = logits.max(dim=-1)
        # The one wait for the device per step: it makes EOS possible.
        for row, token, finite in zip(rows, tokens.tolist(), best.isfinite().tolist(), strict=True):
            row.tokens.append(token)
            row.ended, row.is_finite = token in self._model.eos_ids, finite

    @contextlib.contextmanager
    def _attending(self) -> Iterator[None]:
        """Have the attention function take the answers one after the other inside."""
        for module in self._attentions:
            module.timebill_rows = self._layers[module.layer_idx]
        try:
            yield
        finally:
            for module in self._attentions:
                del module.timebill_rows


class _RowsLayer(CacheLayerMixin):
    """One layer of all answers. `views`: keys and values of each, [1, H_kv, K, D], for the attention that follows."""

    is_compileable = False
    is_sliding = False

    def __init__(self):
        super().__init__()
        self.is_initialized = True
        self.rows: list[SlotLayer] = []
        self.views: list[tuple[torch.Tensor, torch.Tensor]] = []

    def lazy_initialization(self, *args) -> None:
        pass

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        """Append states [rows, H_kv, 1, D], one slot to each answer; return them, in the place of the views."""
        self.views = [layer.update(key_states[i:i + 1], value_states[i:i + 1]) for i, layer in enumerate(self.rows)]
        return key_states, value_states

    def get_mask_sizes(self, query) -> tuple[int, int]:
        return self.get_seq_length() + 1, 0

    def get_seq_length(self, *args) -> int:
        return max(layer.length for layer in self.rows)

    def get_max_length(self) -> int:
        return max(layer.capacity for layer in self.rows)

    get_max_cache_shape = get_max_length  # its name in older transformers


def _copied(cache: SlotCache, capacity: int) -> SlotCache:
    """Return a cache of `capacity` slots that holds what `cache` holds."""
    copy = SlotCache(capacity, [layer.sliding_window for layer in cache.layers], cache.layers[0].keys.dtype)
    for ours, theirs in zip(copy.layers, cache.layers, strict=True):
        keys, values = theirs.filled()
        ours.lazy_initialization(keys, values)
        ours.restore(keys, values)
    return copy


@torch.inference_mode()
def is_possible(model: CausalLM) -> bool:
    """Tell whether this model computes side by side what it computes alone; the log says why not.

    Not every model takes a batch as this needs it: some have a cache of their own, some route the tokens of a batch
    together. So a step of two answers of different length is compared with two single steps.
    """
    # Varied tokens: after equal ones all values are equal, and wrong attention or positions would not show.
    n_tokens = model.model.get_input_embeddings().num_embeddings
    prompts = [[(11 + 37 * i + 5 * k) % n_tokens for i in range(n)] for k, n in enumerate((29, 40))]
    alone = []
    try:
        both = SideBySide(model)
        for ids in prompts:
            model.reset()
            model.prefill(ids, chunk_tokens=len(ids))
            both.rows.append(Row(None, _copied(model.cache, len(ids) + 1), len(ids), cap=2, tokens=[ids[0]]))
            alone.append(model.step(torch.tensor(ids[0], device=model.device), len(ids)).clone())
        both.step()
    except Exception as error:  # each kind of model fails in its own way when given what it does not take
        if is_out_of_memory(error):
            raise
        log.info('%s answers one prompt after the other: %s', model.name, error)
        return False
    finally:
        model.reset()
    expected = torch.stack(alone).float()
    # Rounding differs between one row and several; a wrong cache, mask or position makes far more.
    allowed = torch.finfo(model.dtype).eps ** 0.5 * expected.norm(dim=-1)
    if bool(((both.logits.float() - expected).norm(dim=-1) > allowed).any()):
        log.info('%s answers one prompt after the other: a step of two answers computes otherwise', model.name)
        return False
    return True
