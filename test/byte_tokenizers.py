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

"""Small tokenizers of the two kinds that spell bytes, and models with random weights that use them."""
from __future__ import annotations

import json
from pathlib import Path

import tiny_models
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from timebill_ros.inference.token_bytes import byte_alphabet

PIECES = ['":', ' "', '{"', '",', '"}', '  ', 'it', 'ch', 'en']


def byte_level() -> PreTrainedTokenizerFast:
    """One token for each byte in GPT-2's alphabet, and a few merges."""
    spelled = {byte: character for character, byte in byte_alphabet().items()}
    words = {character: i for i, character in enumerate(spelled.values())}
    merges = [tuple(spelled[byte] for byte in piece.encode()) for piece in PIECES]
    words |= {''.join(pair): len(words) + i for i, pair in enumerate(merges)}
    backend = Tokenizer(models.BPE(words, merges))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token='<eos>')


def byte_fallback() -> PreTrainedTokenizerFast:
    """As SentencePiece models with byte fallback (Llama 2, Gemma) are converted."""
    letters = sorted({*''.join(PIECES).replace(' ', '\u2581'), '\u2581'})
    merges = [tuple(piece.replace(' ', '\u2581')) for piece in PIECES]
    words = ['<unk>', '<s>', '</s>', *(f'<0x{byte:02X}>' for byte in range(256)), *letters, *map(''.join, merges)]
    backend = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges, unk_token='<unk>', fuse_unk=True,
                                   byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend('\u2581'), normalizers.Replace(' ', '\u2581')])
    backend.decoder = decoders.Sequence([decoders.Replace('\u2581', ' '), decoders.ByteFallback(), decoders.Fuse(),
                                         decoders.Strip(' ', 1, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token='<unk>', bos_token='<s>', eos_token='</s>')


KINDS = {'byte level': byte_level, 'byte fallback': byte_fallback}


def build(path: Path, kind: str = 'qwen2', tokenizer: str = 'byte level', **changes) -> Path:
    """Write a model of tiny_models' `kind` with a tokenizer of KINDS to `path`; it has some logits of no token."""
    made = KINDS[tokenizer]()
    tiny_models.build(path, kind, vocab_size=len(made) + 5, eos_token_id=made.eos_token_id, **changes)
    made.save_pretrained(path)
    generation = path / 'generation_config.json'
    generation.write_text(json.dumps({**json.loads(generation.read_text()), 'eos_token_id': made.eos_token_id}))
    return path
