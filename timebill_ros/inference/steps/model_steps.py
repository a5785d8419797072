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

"""The steps of all the weights that a model can decode with, chosen while it is loaded."""
from __future__ import annotations

from pathlib import Path

import torch

from timebill_ros.inference.devices import device_name, library_versions
from timebill_ros.inference.eviction import MAX_WINDOW
from timebill_ros.inference.start_progress import STEPS, this_start
from timebill_ros.inference.steps import choice


def choose_steps(model, token: torch.Tensor, position: torch.Tensor, directory: Path | None) -> None:
    """Replace the steps of each variant of a CausalLM by the fastest kind that computes the same.

    `token`, `position`, `directory`: see choice.choose.
    """
    # Varied tokens: after equal ones all values are equal, and wrong attention or positions would not show.
    n_tokens = model.model.get_input_embeddings().num_embeddings
    ids = [(11 + 37 * i) % n_tokens for i in range(MAX_WINDOW + 2)]
    for name, modules in model.steps.items():
        this_start.begin(STEPS, name)
        facts = [model.fingerprint, name, str(model.dtype), device_name(model.device), *library_versions().values()]
        model.reset()
        model.prefill(ids, chunk_tokens=len(ids))
        model.steps[name] = choice.choose(modules, token, position, name=f'{model.name} in {name}', facts=facts,
                                          directory=directory)
        if model.steps[name] is not modules:
            model.use_variant(name)
            model.step(token.fill_(ids[0]), len(ids))  # the first call of what was loaded
    model.use_variant(model.variant)
    model.reset()
