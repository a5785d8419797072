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

"""A decode step over several tokens at once, where these are known: little slower than over one, on most devices."""
from __future__ import annotations

import torch

from timebill_ros.inference.steps.modules import ModuleStep


@torch.inference_mode()
def append(model, tokens: list[int], position: int) -> torch.Tensor:
    """Append `tokens` to the cache of a CausalLM, the first of them at `position` -> logits [V] after the last one.

    They go through the modules and the model's own weights, as a prompt does. A model that runs on a cache of its own
    takes them one by one.
    """
    cache = getattr(model, 'cache', None)
    if cache is None:
        for i, token in enumerate(tokens):
            logits = model.step(torch.tensor(token, device=model.device), position + i)
        return logits
    ids = torch.tensor([tokens], device=model.device)
    positions = torch.arange(position, position + len(tokens), device=model.device)[None]
    return ModuleStep(model.model, cache)(ids, positions)[0]
