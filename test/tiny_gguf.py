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

"""GGUF files small enough to be written in a test: vocabularies of each kind, and a Llama with random weights."""
import json
from pathlib import Path

import gguf
import numpy as np

HERE = Path(__file__).parent / 'inference' / 'gguf_files'
VOCABULARY = json.loads((HERE / 'vocabulary.json').read_text())  # merges and pieces, see make_llama_ids.py
TEMPLATE = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
CONTROL = ('<|endoftext|>', '<|im_start|>', '<|im_end|>')
USER_DEFINED = ('<tool_call>', '</tool_call>')
UNMERGED = ('Ġlaunch', 'ĠWorld')  # tokens that no merges lead to: some tokenizers take them all the same


def byte_characters() -> list[str]:
    """Return the characters that byte-level vocabularies write for the bytes 0 to 255, as GPT-2 chose them."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in shown else chr(next(others)) for byte in range(256)]


def byte_level(writer: gguf.GGUFWriter, pre: str, **changes) -> None:
    """Add a byte-level BPE vocabulary whose merges cross words, so that it shows how words are cut."""
    merges = VOCABULARY['merges']
    tokens = [*CONTROL, *byte_characters(), *(merge.replace(' ', '') for merge in merges), *UNMERGED,
              *USER_DEFINED]
    tokens = list(dict.fromkeys(tokens))
    types = [gguf.TokenType.CONTROL if token in CONTROL else gguf.TokenType.USER_DEFINED if token in USER_DEFINED
             else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model('gpt2')
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    _special(writer, bos=1, eos=2, unk=0, **changes)


def sentencepiece(writer: gguf.GGUFWriter, *, add_space_prefix: bool = True, **changes) -> None:
    """Add a vocabulary as of Llama 2 or Gemma: pieces with scores, bytes, white space as user-defined tokens."""
    pieces, spaces = VOCABULARY['pieces'], ['\n\n', '\n\n\n', '  ', '   ']
    rows = [('<unk>', 0.0, gguf.TokenType.UNKNOWN), ('<s>', 0.0, gguf.TokenType.CONTROL),
            ('</s>', 0.0, gguf.TokenType.CONTROL), *((f'<0x{b:02X}>', 0.0, gguf.TokenType.BYTE) for b in range(256)),
            *((piece, -float(i), gguf.TokenType.NORMAL) for i, piece in enumerate(pieces) if piece not in spaces),
            *((text, -1000.0, gguf.TokenType.USER_DEFINED) for text in spaces if not add_space_prefix)]
    tokens, scores, types = zip(*rows, strict=True)
    writer.add_tokenizer_model('llama')
    writer.add_token_list(list(tokens))
    writer.add_token_scores(list(scores))
    writer.add_token_types(list(types))
    writer.add_add_space_prefix(add_space_prefix)
    _special(writer, bos=1, eos=2, unk=0, **changes)


def _special(writer: gguf.GGUFWriter, *, bos: int, eos: int, unk: int, add_bos: bool | None = None,
             template: str = TEMPLATE, eot: int | None = None) -> None:
    writer.add_bos_token_id(bos)
    writer.add_eos_token_id(eos)
    writer.add_unk_token_id(unk)
    if add_bos is not None:
        writer.add_add_bos_token(add_bos)
    if eot is not None:
        writer.add_eot_token_id(eot)
    writer.add_chat_template(template)


# Every tokenizer that is compared with llama.cpp's: its name, and how its vocabulary is added.
KINDS = {
    **{pre: (byte_level, {'pre': pre}) for pre in (
        'gpt-2', 'smollm', 'llama-bpe', 'dbrx', 'qwen2', 'gpt-4o', 'tekken', 'falcon', 'deepseek-coder', 'deepseek-v3',
        'bloom', 'viking')},
    'llama': (sentencepiece, {}),
    'gemma': (sentencepiece, {'add_space_prefix': False}),
}


def vocabulary_only(path: Path, kind: str) -> Path:
    """Write a GGUF file that holds the vocabulary of one of KINDS and no weights."""
    writer = gguf.GGUFWriter(path, 'llama')
    add, options = KINDS[kind]
    add(writer, **options)
    return _written(writer, path)


def original_llama(*, tied: bool = True, **changes):
    """Return a transformers Llama with random weights, to be written as a GGUF file. `tied`: its two embeddings are."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(5)
    usual = dict(vocab_size=900, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.2, rms_norm_eps=1e-5,
                 bos_token_id=1, eos_token_id=2)
    return LlamaForCausalLM(LlamaConfig(**{**usual, 'tie_word_embeddings': tied, **changes})).eval()


def llama(path: Path, model, *, kind: str = 'smollm', precision: str = 'F32', metadata: dict | None = None,
          tensors: dict | None = None, **options) -> Path:
    """Write a transformers Llama as a GGUF file, as llama.cpp's converter does. `precision`: F32, F16, Q8_0 or Q4_1.

    `metadata`: more keys, floats or strings; `tensors`: more arrays.
    """
    config = model.config
    writer = gguf.GGUFWriter(path, 'llama')
    writer.add_name('tiny')
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    for key, value in (metadata or {}).items():
        (writer.add_string if isinstance(value, str) else writer.add_float32)(key, value)
    add, usual = KINDS[kind]
    add(writer, **{**usual, **options})
    heads = {'q': config.num_attention_heads, 'k': config.num_key_value_heads}
    for name, weight in model.state_dict().items():
        array = weight.float().numpy()
        for part, n in heads.items():
            if name.endswith(f'{part}_proj.weight'):  # llama.cpp turns pairs of neighbours, transformers halves
                array = array.reshape(n, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        if name == 'lm_head.weight' and config.tie_word_embeddings:
            continue
        if array.ndim == 1 or precision == 'F32':
            writer.add_tensor(_name(name), array)
        elif precision == 'F16':
            writer.add_tensor(_name(name), array.astype(np.float16))
        else:
            kind_of = gguf.GGMLQuantizationType[precision]
            writer.add_tensor(_name(name), gguf.quants.quantize(array, kind_of), raw_dtype=kind_of)
    for name, array in (tensors or {}).items():
        writer.add_tensor(name, array)
    return _written(writer, path)


_PARTS = {'self_attn.q_proj': 'attn_q', 'self_attn.k_proj': 'attn_k', 'self_attn.v_proj': 'attn_v',
          'self_attn.o_proj': 'attn_output', 'mlp.gate_proj': 'ffn_gate', 'mlp.up_proj': 'ffn_up',
          'mlp.down_proj': 'ffn_down', 'input_layernorm': 'attn_norm', 'post_attention_layernorm': 'ffn_norm'}


def _name(name: str) -> str:
    """Return what GGUF files call a tensor of a transformers Llama."""
    whole = {'model.embed_tokens.weight': 'token_embd.weight', 'model.norm.weight': 'output_norm.weight',
             'lm_head.weight': 'output.weight'}
    if name in whole:
        return whole[name]
    _, _, layer, part = name.removesuffix('.weight').split('.', 3)
    return f'blk.{layer}.{_PARTS[part]}.weight'


def _written(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
