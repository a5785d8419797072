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

"""Small random-weight models of real architectures, as Hugging Face directories with a tokenizer of a few words.

`directory(kind)` builds a kind on first use and keeps it for the rest of the test run; tests must not change it
(`copy_of` gives one that they may).
"""
from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

transformers.utils.logging.disable_progress_bar()

VOCABULARY = 128
CONTEXT = 512
EOS = 1
# Every role but 'user' and 'assistant' is refused, as real templates do.
TEMPLATE = ("{% for m in messages %}{% if m['role'] not in ['user', 'assistant'] %}"
            "{{ raise_exception('role ' + m['role'] + ' is not known') }}{% endif %}"
            "{{ m['role'] + ' : ' + m['content'] + ' ' }}{% endfor %}"
            "{% if add_generation_prompt %}assistant : {% endif %}")

_BASE = dict(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=CONTEXT, bos_token_id=None, eos_token_id=EOS,
             pad_token_id=0)
_MIXED = ['sliding_attention', 'full_attention', 'sliding_attention']
_MAMBA = dict(mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=8, mamba_chunk_size=16)

# kind -> (architecture, config entries)
EVICTABLE = {
    'qwen2': ('Qwen2', {}),
    'llama': ('Llama', dict(num_attention_heads=8, num_key_value_heads=2)),
    'qwen3': ('Qwen3', dict(head_dim=16)),
    'qwen2_sliding': ('Qwen2', dict(use_sliding_window=True, sliding_window=24, layer_types=_MIXED)),
    'gemma3': ('Gemma3', dict(sliding_window=24, layer_types=_MIXED, head_dim=16, query_pre_attn_scalar=16,
                              tie_word_embeddings=False)),
    'gemma2': ('Gemma2', dict(head_dim=8, sliding_window=24, layer_types=_MIXED, query_pre_attn_scalar=8,
                              attn_logit_softcapping=2.0, tie_word_embeddings=False)),
}
# Runs on the same cache and attention, but its windows leave nothing to evict.
SLIDING_ONLY = {'mistral_sliding': ('Mistral', dict(sliding_window=24, head_dim=8))}
# These run on a cache of their own: kind -> (architecture, config entries, what the refusal says).
REFUSED = {
    'deepseek_v3': ('DeepseekV3', dict(num_key_value_heads=4, kv_lora_rank=16, q_lora_rank=16, qk_rope_head_dim=8,
                                       qk_nope_head_dim=8, v_head_dim=8, n_routed_experts=4, num_experts_per_tok=2,
                                       n_group=1, topk_group=1, moe_intermediate_size=16, first_k_dense_replace=1),
                    'latent'),
    'mamba': ('Mamba', dict(state_size=8, conv_kernel=4, expand=2), 'recurrent'),
    'falcon_h1': ('FalconH1', _MAMBA, 'recurrent'),
    'gpt_oss': ('GptOss', dict(head_dim=8, sliding_window=24, num_local_experts=4, num_experts_per_tok=2), 'sinks'),
}
KINDS = {**EVICTABLE, **SLIDING_ONLY, **REFUSED}


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per word: <pad>, <eos>, ':', the roles, then w4, w5, ..."""
    words = ['<pad>', '<eos>', '<unk>', ':', 'user', 'assistant']
    vocabulary = {word: i for i, word in enumerate(words + [f'w{i}' for i in range(len(words), VOCABULARY)])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token='<unk>'))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token='<eos>', pad_token='<pad>', unk_token='<unk>')


def build(path: Path, kind: str, *, seed: int = 0, chat: bool = True, **changes) -> Path:
    """Write a model of `kind` with random weights to `path`; `changes` are config entries."""
    architecture, entries = KINDS[kind][:2]
    names = [architecture + 'TextConfig', architecture + 'Config']
    config = next(getattr(transformers, name) for name in names if hasattr(transformers, name))
    torch.manual_seed(seed)
    base = {k: v for k, v in _BASE.items() if 'heads' not in k} if kind == 'mamba' else _BASE
    config = config(**{**base, **entries, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # transformers' own spread of 0.02 leaves attention nearly uniform, in which errors would not show.
            if weight.dim() >= 2 and 'A_log' not in name:
                weight.normal_(0, 0.6 if 'embed' in name else 1.2 * weight.shape[-1] ** -0.5)
    model.generation_config.eos_token_id = EOS
    model.save_pretrained(path)
    made = tokenizer()
    made.chat_template = TEMPLATE if chat else None
    made.save_pretrained(path)
    return path


@functools.cache
def _root() -> Path:
    root = Path(tempfile.mkdtemp(prefix='timebill_models_'))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


@functools.cache
def directory(kind: str) -> Path:
    """The directory of a model of `kind`, shared by all tests."""
    return build(_root() / kind, kind)


def copy_of(kind: str, path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(directory(kind), path / kind))


def prompt_ids(n: int, seed: int = 0) -> list[int]:
    """`n` random word ids, none of them special."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(6, VOCABULARY, (n,), generator=generator).tolist()


def generate(kind: str, ids: list[int], n: int, dtype: torch.dtype = torch.float32, **options) -> list[int]:
    """What transformers' own greedy generation answers: at most `n` tokens, the end of text included.

    `options`: of its generation config.
    """
    # Eager attention: PyTorch's leaves out the soft-capping that Gemma 2 needs.
    model = transformers.AutoModelForCausalLM.from_pretrained(directory(kind), attn_implementation='eager', dtype=dtype)
    prompt = torch.tensor([ids])
    return model.eval().generate(prompt, max_new_tokens=n, do_sample=False, **options)[0, len(ids):].tolist()


@functools.cache
def predictor_directory() -> Path:
    """The directory of a length predictor with random weights, for responses of up to 64 tokens."""
    from timebill_ros.length.length_distribution import LengthDistribution
    from timebill_ros.length.length_predictor import LengthPredictor

    path = _root() / 'length_predictor'
    backbone = transformers.AutoModel.from_pretrained(directory('qwen2'))
    marginal = LengthDistribution.from_lengths([5, 20, 20, 60], 16, 4)
    LengthPredictor(backbone, tokenizer(), marginal, max_input_tokens=48).save(path)
    return path
