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

"""How long a context the positions of a model allow, where its config scales rotary embeddings (RoPE)."""
from __future__ import annotations

import logging

from torch import nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from timebill_ros.inference.model_directory import ModelError

log = logging.getLogger(__name__)

SHORTEST_TOKENS = 64
DEFAULT_TOKENS = 8192  # where max_context_tokens is left to the node, and model and memory allow as much


def _scaling(config) -> dict:
    """Return the config's RoPE scaling; empty: none. Of several, by kind of layer, that of full attention."""
    scaling = getattr(config, 'rope_parameters', None) or getattr(config, 'rope_scaling', None) or {}
    return scaling.get('full_attention', scaling)


def _kind(scaling: dict) -> str:
    kind = scaling.get('rope_type') or scaling.get('type') or 'default'
    return 'longrope' if kind == 'su' else kind  # its former name


def longest_context(config) -> int | None:
    """Return how many positions the model has; None where its config does not say.

    `yarn` multiplies the positions that the model was first trained on by its factor. The configs of `llama3` and
    `longrope` name the longer context already. `dynamic` changes the frequencies while a sequence grows beyond
    max_position_embeddings, and entries that are cached already would not fit the later ones: it is not used.
    """
    positions = getattr(config, 'max_position_embeddings', None)
    scaling = _scaling(config)
    if positions is None or _kind(scaling) != 'yarn' or not scaling.get('factor'):
        return positions
    return int((_original(config, scaling) or positions) * scaling['factor'])


def _original(config, scaling: dict) -> int | None:
    """Return the context that the model was first trained on, where its config says so."""
    return getattr(config, 'original_max_position_embeddings', None) or scaling.get('original_max_position_embeddings')


def short_context(config) -> int | None:
    """Return up to how many tokens the short factors of `longrope` hold; None for other models."""
    scaling = _scaling(config)
    return _original(config, scaling) if _kind(scaling) == 'longrope' else None


def choose_context(name: str, config, wanted: int) -> int:
    """Return the context in tokens: `wanted` (max_context_tokens), as far as the model's positions reach.

    0 leaves it to the node: DEFAULT_TOKENS, but no more than the short factors of `longrope` hold, because long ones
    are for all prompts or none (see `settle_longrope`). What memory allows is judged later. ModelError for a context
    that is too short to work with.
    """
    if 0 < wanted < SHORTEST_TOKENS:
        raise ModelError(f'max_context_tokens must be 0, or {SHORTEST_TOKENS} at least, got {wanted}')
    longest, short = longest_context(config), short_context(config)
    if not wanted:
        chosen = min([DEFAULT_TOKENS, *(limit for limit in (longest, short) if limit)])
        if short and longest and chosen < min(DEFAULT_TOKENS, longest):
            log.info('the context is %d tokens: with a larger max_context_tokens, up to %d, model %s uses its factors '
                     'for long prompts for all of them', chosen, longest, name)
        return chosen
    if longest and wanted > longest:
        log.warning('max_context_tokens is %d, but the positions of model %s reach %d tokens%s: the context is as long '
                    'as that', wanted, name, longest, _why(_kind(_scaling(config))))
        return longest
    return wanted


def _why(kind: str) -> str:
    return ' (its dynamic RoPE scaling is not used, because it would not fit what the cache holds)' \
        if kind == 'dynamic' else ''


def settle_longrope(model: nn.Module, n_tokens: int) -> None:
    """Have a model with `longrope` use one set of factors for all prompts: the long ones for a long context.

    transformers looks at the latest position in every call. A prompt that is read in chunks, and an answer that passes
    the border, would then mix both sets in one cache. As in vLLM, the context of `n_tokens` decides. Up to the border
    that is what transformers does; beyond it, for prompts that are longer than the border. It saves a wait for the
    device in every step, too.
    """
    for module in model.modules():
        if getattr(module, 'rope_type', None) != 'longrope' or not hasattr(module, 'inv_freq'):
            continue
        border = short_context(module.config)
        if border and n_tokens > border:
            module.inv_freq, module.attention_scaling = ROPE_INIT_FUNCTIONS['longrope'](
                module.config, module.inv_freq.device, seq_len=n_tokens)
        module.rope_type = 'default'  # of the kinds that are not changed while running
