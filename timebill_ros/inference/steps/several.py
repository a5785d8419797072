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

"""Tokens that are known before they go through the model: one step for all of them, or one for each."""
from __future__ import annotations

import torch

from timebill_ros.inference.steps.modules import ModuleStep


def append(model, tokens: list[int], position: int) -> torch.Tensor:
    """Append `tokens` to the cache of a CausalLM, the first of them at `position` -> logits [V] after the last one.

    Fewer than `model.wide_from` of them go through the steps that a single token takes, which are compiled or captured.
    A step of several is not, and pays off for more. The engine knows from how many on; without one, all go at once.
    """
    if len(tokens) >= getattr(model, 'wide_from', 2):
        return append_at_once(model, tokens, position)
    return _one_by_one(model, tokens, position)


@torch.inference_mode()
def append_at_once(model, tokens: list[int], position: int) -> torch.Tensor:
    """Append `tokens` in one step; see `append`.

    They go through the modules and the model's own weights, as a prompt does. A model that runs on a cache of its own
    takes them one by one.
    """
    cache = getattr(model, 'cache', None)
    if cache is None:
        return _one_by_one(model, tokens, position)
    ids = torch.tensor([tokens], device=model.device)
    positions = torch.arange(position, position + len(tokens), device=model.device)[None]
    return ModuleStep(model.model, cache)(ids, positions)[0]


def _one_by_one(model, tokens: list[int], position: int) -> torch.Tensor:
    for i, token in enumerate(tokens):
        logits = model.step(torch.tensor(token, device=model.device), position + i)
    return logits
