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

"""The step through the model's own modules: right for every model, and what every other kind is compared with."""
from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator

import torch
from torch import nn
from transformers.cache_utils import Cache

from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.steps.interface import Step


def forward_options(model: nn.Module) -> dict:
    """Return keywords of the model's forward that spare work: logits of the last token only, where it can do that."""
    return {'logits_to_keep': 1} if 'logits_to_keep' in inspect.signature(model.forward).parameters else {}


@contextlib.contextmanager
def head_inputs(model: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collect what enters the model's head inside: a tensor [1, L, H] for each time that the head is called."""
    seen: list[torch.Tensor] = []
    head = model.get_output_embeddings()
    if head is None:
        yield seen
        return
    hook = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


def forward(model: nn.Module, ids: torch.Tensor, positions: torch.Tensor, cache: Cache, options: dict,
            visible: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Append ids to the cache: ids and positions [1, L] -> (logits [V], hidden [H]) of the last one.

    `visible`, bool [1, 1, 1, K], True where the one token may look; None: everything that the cache shows.
    """
    with head_inputs(model) as seen:
        logits = model(input_ids=ids, position_ids=positions, past_key_values=cache, attention_mask=visible,
                       use_cache=True, **options).logits
    return logits[0, -1], seen[-1][0, -1] if seen else None


class ModuleStep(Step):
    """Runs a model's modules on `cache`. Takes any number of tokens, so prefill goes through it too."""

    kind = 'modules'

    def __init__(self, model: nn.Module, cache: SlotCache):
        self.model, self.cache = model, cache
        self._options = forward_options(model)

    def __call__(self, token, position):
        """Append tokens, ids and positions [1, L], L >= 1; see `Step`."""
        return forward(self.model, token, position, self.cache, self._options)
