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

"""Models of public shapes with random weights, as directories that load like any other. For times that is enough.

Dimensions are those of the config.json that Qwen publishes with each model (Qwen2.5, huggingface.co/Qwen).
"""
from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

_QWEN = dict(max_position_embeddings=32768, rope_theta=1e6, rms_norm_eps=1e-6, bos_token_id=None, eos_token_id=0)
SHAPES = {
    'Qwen2.5-7B': dict(_QWEN, vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28,
                       num_attention_heads=28, num_key_value_heads=4, tie_word_embeddings=False),
    'Qwen2.5-1.5B': dict(_QWEN, vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28,
                         num_attention_heads=12, num_key_value_heads=2, tie_word_embeddings=True),
    'Qwen2.5-0.5B': dict(_QWEN, vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
                         num_attention_heads=14, num_key_value_heads=2, tie_word_embeddings=True),
    'tiny': dict(_QWEN, vocab_size=1024, hidden_size=128, intermediate_size=256, num_hidden_layers=4,
                 num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True),
}
WORDS = 1000  # of the tokenizer: enough for random prompts
# Random queries and keys are so much alike that attention is all but uniform and positions hardly matter, which no
# trained model is. So their weights are larger by this factor.
SHARPER = 3.0


def write(directory: Path, shape: str, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Path:
    """Write a model of `shape` with random weights in `dtype`, and a tokenizer of WORDS words; return `directory`."""
    config = Qwen2Config(**SHAPES[shape])
    with torch.device('meta'):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model = model.to_empty(device='cpu')
    generator = torch.Generator().manual_seed(seed)
    # Drawing billions of numbers takes minutes, so one block of them is repeated.
    block = (0.02 * torch.randn(1 << 20, generator=generator)).to(dtype)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.fill_(0.0 if name.endswith('bias') else 1.0)
            else:
                flat = weight.view(-1)
                for start in range(0, len(flat), len(block)):
                    part = flat[start:start + len(block)]
                    part.copy_(block[:len(part)])
                if name.endswith(('q_proj.weight', 'k_proj.weight')):
                    weight.mul_(SHARPER)
    model.tie_weights()
    model.save_pretrained(directory)
    words = {'<eos>': 0, **{f'w{i}': i for i in range(1, WORDS)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token='<eos>'))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.WhitespaceSplit(), decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token='<eos>').save_pretrained(directory)
    return directory
