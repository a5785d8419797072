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

"""The embedded model before training: its architecture, and first weights from which in-context lookup emerges soon."""

import torch
from torch import nn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def build_model(shape: dict, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Build a Llama with biased attention, first weights as `initialize` gives, and tied embeddings.

    shape: the section "model" of the training's configuration.
    """
    shape = dict(shape)
    theta = shape.pop('rope_theta')
    config = LlamaConfig(
        vocab_size=len(tokenizer), tie_word_embeddings=True, use_cache=True, attention_bias=True,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        rope_parameters={'rope_type': 'default', 'rope_theta': theta}, **shape,
    )
    model = LlamaForCausalLM(config)
    initialize(model)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False)
    return model


@torch.no_grad()
def initialize(model: LlamaForCausalLM) -> None:
    """Set first weights from which lookup emerges soon.

    transformers' standard deviation of 0.02 suits wide models; at this width attention would start out flat. So
    projections that read the residual stream start at unit gain (standard deviation width^-0.5). Those that write to
    it start small beside the embeddings, so that a token's identity is not drowned. The first layer's heads 0 and 1
    start as attention to the previous token and to the one before it, which every lookup builds on.
    """
    width = model.config.hidden_size
    nn.init.normal_(model.get_input_embeddings().weight, std=0.1)
    for name, weight in model.named_parameters():
        if name.endswith(('o_proj.weight', 'down_proj.weight')):
            nn.init.normal_(weight, std=0.02)
        elif name.endswith('_proj.weight'):
            nn.init.normal_(weight, std=width ** -0.5)
    attention = model.model.layers[0].self_attn
    head_dim = attention.head_dim
    half = head_dim // 2
    # The rotary pair (i, i + half) turns by angle[i] per token. With constant queries and keys, the score at distance d
    # is proportional to gain^2 * sum(cos((d - offset) * angle)): a sharp peak at d = offset, due to the fastest pairs.
    fast = half * 3 // 8
    angle = model.config.rope_parameters['rope_theta'] ** (-torch.arange(fast) / half)
    gain = head_dim ** 0.25 * 6 ** 0.5 / (1 - angle.cos()).sum() ** 0.5  # the peak is 6 nats above its neighbours
    attention.k_proj.bias[:fast] = gain
    attention.k_proj.weight[:head_dim] *= 0.1
    for head, offset in ((0, 1), (1, 2)):  # both share the first key head
        first = head * head_dim
        attention.q_proj.bias[first:first + fast] = gain * (offset * angle).cos()
        attention.q_proj.bias[first + half:first + half + fast] = -gain * (offset * angle).sin()
        attention.q_proj.weight[first:first + head_dim] *= 0.1
