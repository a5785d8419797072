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

"""The language model that a length predictor grows from: a small one of its own, or the first layers of the target.

A predictor that runs beside prefill must not take longer than prefill does. The whole of a small target as its own
predictor takes as long; its first layers read the prompt in a share of that.
"""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.steps.layer_calls import NotSplit, find_layers

USUAL_SHARE = 4  # one layer of so many of the target's


def load_backbone(directory: Path, layers: int | None = None) -> PreTrainedModel:
    """Load a language model in float32, whatever the precision of its stored weights.

    layers:  keep the first so many decoder layers, at most those that there are; None keeps all of them.

    ModelError where the model cannot be cut.
    """
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, use_safetensors=True)
    if layers is not None:
        _keep_first(model, directory, layers)
    return model


def usual_layers(config) -> int:
    """Return how many of the target's layers a predictor takes where nobody says: a quarter of them, at least one."""
    return max(1, round(config.get_text_config(decoder=True).num_hidden_layers / USUAL_SHARE))


def _keep_first(model: PreTrainedModel, directory: Path, layers: int) -> None:
    config = model.config.get_text_config(decoder=True)
    try:
        owner, name = find_layers(model.get_decoder(), config.num_hidden_layers)
    except NotSplit as error:
        raise ModelError(f'{directory} cannot be cut to its first layers ({error}): name a small language model with '
                         '--backbone, or take all of it with --layers 0') from error
    kept: Sequence[nn.Module] = getattr(owner, name)[:layers]
    setattr(owner, name, kept)
    config.num_hidden_layers = len(kept)
    if getattr(config, 'layer_types', None):
        config.layer_types = config.layer_types[:len(kept)]
