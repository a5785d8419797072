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

"""Running a model on the cache that the model makes itself, for architectures that SlotCache does not fit.

Recurrent states, compressed keys and hybrids of both each have rules of their own on how they may be filled, and a
model that is given the wrong kind of cache may ignore it without a word. So the ways of running a model are tried in
turn, fast ones first, and a way is taken only where its logits equal those of the model without any cache.
"""
from __future__ import annotations

import inspect
import logging
from abc import abstractmethod

import torch
from transformers import DynamicCache

from timebill_ros.inference.memory import is_out_of_memory
from timebill_ros.inference.steps.interface import Step
from timebill_ros.inference.steps.modules import forward_options, head_inputs

log = logging.getLogger(__name__)


class ForeignCache(Step):
    """One way of running a model through its modules. `chunked`: the prompt may come in pieces."""

    kind = 'modules'
    chunked = True

    def __init__(self, model, config):
        self.model, self.config = model, config
        self._accepted = inspect.signature(model.forward).parameters
        self._options = forward_options(model)
        self.reset()

    @abstractmethod
    def reset(self) -> None:
        """Forget the sequence."""

    @abstractmethod
    def forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Append tokens to the sequence: ids and positions [1, L] -> logits [V] after the last one."""

    def __call__(self, token, position):
        """Append tokens, ids and positions [1, L], L >= 1; see `Step`."""
        with head_inputs(self.model) as seen:
            logits = self.forward(token, position)
        return logits, seen[-1][0, -1] if seen else None

    def _call(self, **inputs):
        """Call the model with those of `inputs` that it knows."""
        return self.model(**{name: value for name, value in inputs.items() if name in self._accepted}, **self._options)


class Chunked(ForeignCache):
    """transformers' default cache, filled in chunks."""

    def reset(self):
        self.cache = DynamicCache(config=self.config)

    def forward(self, ids, positions):
        return self._call(input_ids=ids, position_ids=positions, past_key_values=self.cache,
                          use_cache=True).logits[0, -1]


class Whole(ForeignCache):
    """The state that the model's own generation starts with, filled by the whole prompt in one call."""

    chunked = False

    def reset(self):
        self.state = None

    def forward(self, ids, positions):
        inputs = dict(input_ids=ids, position_ids=positions, cache_position=positions[0], use_cache=True)
        if self.state is None:
            made = self.model.prepare_inputs_for_generation(ids, use_cache=True, cache_position=positions[0])
            inputs.update((name, made[name]) for name in ('past_key_values', 'cache_params', 'cache_position')
                          if made.get(name) is not None)
        else:
            inputs.update(self.state)
        out = self._call(**inputs)
        self.state = {name: out[name] for name in ('past_key_values', 'cache_params') if out.get(name) is not None}
        if not self.state:
            raise ValueError('the model returns no state')
        return out.logits[0, -1]


class Recomputed(ForeignCache):
    """No cache: every step reads the sequence so far again. Slow, and right for every model."""

    def reset(self):
        self.ids = None

    def forward(self, ids, positions):
        self.ids = ids.clone() if self.ids is None else torch.cat([self.ids, ids], dim=1)
        return self._call(input_ids=self.ids, use_cache=False).logits[0, -1]


WAYS: tuple[type[ForeignCache], ...] = (Chunked, Whole, Recomputed)


@torch.inference_mode()
def choose(model, config, ids: torch.Tensor) -> ForeignCache:
    """Return the first way whose logits on `ids`, [1, L >= 4], are those of the model without a cache."""
    expected = Recomputed(model, config).forward(ids, None)
    positions = torch.arange(ids.shape[1], device=ids.device)[None]
    # Rounding differs between one pass over a sequence and many; a state that was ignored differs far more.
    tolerance = torch.finfo(expected.dtype).eps ** 0.5 * expected.float().norm()
    for way in WAYS[:-1]:
        foreign, end = way(model, config), ids.shape[1]
        borders = [0, end // 2, end - 2, end - 1, end] if way.chunked else [0, end - 2, end - 1, end]
        try:
            for start, stop in zip(borders, borders[1:], strict=False):
                logits = foreign.forward(ids[:, start:stop], positions[:, start:stop])
        except Exception as error:  # each kind of model fails in its own way when given a cache that it does not know
            if is_out_of_memory(error):
                raise
            log.info('%s does not run %s: %s', type(model).__name__, way.__name__, error)
            continue
        if (logits - expected).float().norm() <= tolerance:
            foreign.reset()
            return foreign
    log.warning('no cache is known to work for %s: every step reads the whole sequence again', type(model).__name__)
    return Recomputed(model, config)
