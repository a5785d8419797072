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

"""llama.cpp on the same shape, to compare times with. It takes the optional packages llama-cpp-python and gguf.

The weights are random: for times, only shape and precision count.
"""
from __future__ import annotations

import ctypes
import logging
import time
from pathlib import Path

import numpy as np

PRECISIONS = {'F16': 1, 'Q8_0': 7, 'Q4_1': 3}  # with llama.cpp's numbers for them (llama_ftype in llama.h)


def is_installed() -> bool:
    """Return whether both packages can be imported."""
    try:
        import gguf  # noqa: F401
        import llama_cpp  # noqa: F401
        return True
    except ImportError:
        return False


def requantize(source: Path, target: Path, precision: str, *, threads: int) -> None:
    """Write the weights of the GGUF file `source` in one of PRECISIONS to `target`. RuntimeError where that fails."""
    import llama_cpp
    logging.getLogger('llama-cpp-python').setLevel(logging.ERROR)  # it prints a line for every tensor
    wanted = llama_cpp.llama_model_quantize_default_params()
    wanted.ftype, wanted.nthread, wanted.allow_requantize = PRECISIONS[precision], threads, True
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(wanted)):
        raise RuntimeError(f'llama.cpp cannot write {source} in {precision}')


def write(path: Path, shape: dict, seed: int = 0) -> None:
    """Write a GGUF file of a Qwen2 model of `shape` (entries of its config) with random weights in float16."""
    import gguf
    rng = np.random.default_rng(seed)
    width, layers, inner = shape['hidden_size'], shape['num_hidden_layers'], shape['intermediate_size']
    heads, kv_heads = shape['num_attention_heads'], shape['num_key_value_heads']
    kv_width = width // heads * kv_heads
    file = gguf.GGUFWriter(path, 'qwen2')
    file.add_context_length(shape['max_position_embeddings'])
    file.add_embedding_length(width)
    file.add_block_count(layers)
    file.add_feed_forward_length(inner)
    file.add_head_count(heads)
    file.add_head_count_kv(kv_heads)
    file.add_rope_freq_base(float(shape['rope_theta']))
    file.add_layer_norm_rms_eps(1e-6)
    file.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    file.add_tokenizer_model('gpt2')
    file.add_tokenizer_pre('qwen2')
    file.add_token_list([f'w{i}' for i in range(shape['vocab_size'])])
    file.add_token_types([gguf.TokenType.NORMAL] * shape['vocab_size'])
    file.add_token_merges(['w 0'])
    file.add_eos_token_id(1)

    def add(name: str, rows: int, columns: int) -> None:
        file.add_tensor(name, (0.02 * rng.standard_normal((rows, columns), dtype=np.float32)).astype(np.float16))

    def add_vector(name: str, n: int, value: float) -> None:
        file.add_tensor(name, np.full(n, value, dtype=np.float32))

    add('token_embd.weight', shape['vocab_size'], width)
    add_vector('output_norm.weight', width, 1.0)
    for i in range(layers):
        add_vector(f'blk.{i}.attn_norm.weight', width, 1.0)
        add_vector(f'blk.{i}.ffn_norm.weight', width, 1.0)
        for name, rows in (('attn_q', width), ('attn_k', kv_width), ('attn_v', kv_width)):
            add(f'blk.{i}.{name}.weight', rows, width)
            add_vector(f'blk.{i}.{name}.bias', rows, 0.0)
        add(f'blk.{i}.attn_output.weight', width, width)
        add(f'blk.{i}.ffn_gate.weight', inner, width)
        add(f'blk.{i}.ffn_up.weight', inner, width)
        add(f'blk.{i}.ffn_down.weight', width, inner)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


class Peer:
    """A loaded GGUF file with one sequence."""

    def __init__(self, path: Path, *, n_context: int, threads: int):
        from llama_cpp import Llama
        self._llama = Llama(str(path), n_ctx=n_context, n_threads=threads, n_threads_batch=threads, verbose=False)

    def prefill(self, ids: list[int]) -> float:
        """Start a new sequence with `ids` and return the seconds that reading them took."""
        self._llama.reset()
        start_s = time.perf_counter()
        self._llama.eval(ids)
        return time.perf_counter() - start_s

    def steps(self, n: int) -> list[float]:
        """Go on with the sequence: return the seconds of `n` decode steps, each with an arg max over its logits."""
        from llama_cpp import llama_get_logits_ith
        vocabulary, seconds, token = self._llama.n_vocab(), [], 5
        for _ in range(n):
            start_s = time.perf_counter()
            self._llama.eval([token])
            logits = np.ctypeslib.as_array(llama_get_logits_ith(self._llama.ctx, -1), (vocabulary,))
            token = int(logits.argmax())
            seconds.append(time.perf_counter() - start_s)
        return seconds


class KeepingPeer(Peer):
    """A peer that reads on from what it knows of a prompt, as a server of llama.cpp with one slot does.

    What its sequence holds already of a prompt's beginning is not read again (`Llama.generate`). `keep` and `take` do
    what `Llama.create_completion` does with a LlamaRAMCache: states are copied to memory, and back.
    """

    def __init__(self, path: Path, *, n_context: int, threads: int):
        super().__init__(path, n_context=n_context, threads=threads)
        self._kept = None

    def first_token(self, ids: list[int]) -> float:
        """Draw the first token of the answer to a prompt; return the seconds that this took."""
        start_s = time.perf_counter()
        next(self._llama.generate(ids, temp=0.0))
        return time.perf_counter() - start_s

    def go_on(self, ids: list[int]) -> None:
        """Append tokens to the sequence, as if they had been generated."""
        if ids:
            self._llama.eval(ids)

    def forget(self) -> None:
        """Know nothing any more."""
        self._llama.reset()

    def keep(self) -> int:
        """Copy the sequence's state to memory; return its bytes."""
        self._kept = self._llama.save_state()
        return self._kept.llama_state_size

    def take(self) -> float:
        """Have the sequence be what was kept; return the seconds that this took."""
        start_s = time.perf_counter()
        self._llama.load_state(self._kept)
        return time.perf_counter() - start_s
