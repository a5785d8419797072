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

"""The tokenizer that a GGUF file describes, rebuilt from its own tokens, merges, scores, types and special ids.

transformers 5.2 builds another one: for SmolLM2 a tokenizer of the class CodeLlama with five tokens too many, for
Gemma one without merges. llama.cpp's tokenizers are the reference here, and the tests compare ids with theirs.
"""
from __future__ import annotations

from enum import IntEnum

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from timebill_ros.inference.gguf_files.gguf_file import GgufFile
from timebill_ros.inference.gguf_files.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer
from timebill_ros.inference.model_directory import ModelError

LONGEST_TEMPLATE = 1 << 20  # characters
SPACE = '\u2581'  # what SentencePiece writes for a space


class TokenType(IntEnum):
    """`tokenizer.ggml.token_type`, as the GGUF format numbers them."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


def rebuild_tokenizer(file: GgufFile) -> PreTrainedTokenizerFast:
    """Return the file's tokenizer, with its chat template. ModelError for a kind that is not known here."""
    kind = file.get('tokenizer.ggml.model', '')
    tokens = file.get('tokenizer.ggml.tokens', [])
    if kind not in ('gpt2', 'llama') or not tokens:
        raise ModelError(f'the tokenizer of {file.path} is of the kind {kind or "none"!r}; those that can be rebuilt '
                         'are gpt2 (byte-level BPE) and llama (SentencePiece). Name a directory with a tokenizer.json')
    types = file.get('tokenizer.ggml.token_type') or [TokenType.NORMAL] * len(tokens)
    if len(types) != len(tokens):
        raise ModelError(f'{file.path} is damaged: it has {len(tokens)} tokens and {len(types)} types of tokens')
    if kind == 'gpt2':
        pre_tokenizer = _pre_tokenizer(file)
        backend, adds_bos = _byte_level(file, tokens, pre_tokenizer), pre_tokenizer.adds_bos
    else:
        backend, adds_bos = _sentencepiece(file, tokens, types), True
    special = _special_tokens(file, tokens)
    _add_tokens(backend, file, tokens, types, special)
    adds_bos = file.get('tokenizer.ggml.add_bos_token', adds_bos) and 'bos_token' in special
    adds_eos = file.get('tokenizer.ggml.add_eos_token', False) and 'eos_token' in special
    _add_around(backend, special['bos_token'] if adds_bos else '', special['eos_token'] if adds_eos else '')
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **special)
    template = file.get('tokenizer.chat_template')
    if template and len(template) > LONGEST_TEMPLATE:
        raise ModelError(f'the chat template of {file.path} has {len(template)} characters, more than the '
                         f'{LONGEST_TEMPLATE} that are read')
    tokenizer.chat_template = template
    return tokenizer


def end_ids(file: GgufFile) -> list[int]:
    """Return the tokens that end an answer or a turn, as the file names them."""
    ids = [file.get(f'tokenizer.ggml.{name}_token_id') for name in ('eos', 'eot', 'eom')]
    return sorted({i for i in ids if i is not None})


def _pre_tokenizer(file: GgufFile) -> PreTokenizer:
    name = file.get('tokenizer.ggml.pre', '')
    if name not in PRE_TOKENIZERS:
        raise ModelError(f'the tokenizer of {file.path} cuts words in the way {name!r} (tokenizer.ggml.pre), which is '
                         f'not known here; known are {", ".join(sorted(PRE_TOKENIZERS))}. Name a directory with a '
                         'tokenizer.json')
    return PRE_TOKENIZERS[name]


def _byte_level(file: GgufFile, tokens: list[str], pre_tokenizer: PreTokenizer) -> Tokenizer:
    """Return a BPE tokenizer whose tokens are bytes, written as GPT-2 writes them."""
    vocabulary = {token: i for i, token in enumerate(tokens)}
    cuts = [(merge, merge.find(' ', 1)) for merge in file.get('tokenizer.ggml.merges', [])]  # a space may be the first
    merges = [(merge[:cut], merge[cut + 1:]) for merge, cut in cuts]
    merges = [(left, right) for left, right in merges if {left, right, left + right} <= vocabulary.keys()]
    if not merges:
        raise ModelError(f'{file.path} is damaged: its byte-level BPE tokenizer has no merges')
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=pre_tokenizer.ignore_merges))
    backend.pre_tokenizer = pre_tokenizer.build()
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(file: GgufFile, tokens: list[str], types: list[int]) -> Tokenizer:
    """Return a tokenizer that merges as SentencePiece's BPE does: whichever neighbours make the token of best score.

    Characters that are no token become tokens of one byte. Unlike in SentencePiece, spaces are turned by a normalizer,
    as in the tokenizer.json files of these models.
    """
    scores = file.get('tokenizer.ggml.scores', [])
    if len(scores) != len(tokens):
        raise ModelError(f'{file.path} is damaged: it has {len(tokens)} tokens and {len(scores)} scores')
    vocabulary = {token: i for i, token in enumerate(tokens)}
    unknown = tokens[file.get('tokenizer.ggml.unknown_token_id', 0)]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=_merges(vocabulary, tokens, scores, types), fuse_unk=True,
                                   unk_token=unknown, byte_fallback=True))
    spaces = normalizers.Replace(' ', SPACE)
    adds_space = file.get('tokenizer.ggml.add_space_prefix', True)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if adds_space else spaces
    steps = [decoders.Replace(SPACE, ' '), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(' ', 1, 0)] if adds_space else steps)
    return backend


def _merges(vocabulary: dict[str, int], tokens: list[str], scores: list[float], types: list[int]
            ) -> list[tuple[str, str]]:
    """Return the pairs of tokens that make another token, that with the best score first."""
    plain = {token for token, kind in zip(tokens, types, strict=True)
             if kind in (TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNUSED)}
    ranked = []
    for token, score, kind in zip(tokens, scores, types, strict=True):
        if kind == TokenType.NORMAL:
            ranked += [(-score, vocabulary[token], cut, token) for cut in range(1, len(token))
                       if token[:cut] in plain and token[cut:] in plain]
    return [(token[:cut], token[cut:]) for _, _, cut, token in sorted(ranked)]


def _special_tokens(file: GgufFile, tokens: list[str]) -> dict[str, str]:
    """Return the special tokens that the file names, under transformers' names for them."""
    named = {}
    for ours, name in (('bos_token', 'bos'), ('eos_token', 'eos'), ('unk_token', 'unknown'), ('pad_token', 'padding')):
        i = file.get(f'tokenizer.ggml.{name}_token_id')
        if i is not None:
            if not 0 <= i < len(tokens):
                raise ModelError(f'{file.path} is damaged: its {name} token has the id {i} of {len(tokens)}')
            named[ours] = tokens[i]
    return named


def _add_tokens(backend: Tokenizer, file: GgufFile, tokens: list[str], types: list[int], special: dict[str, str]
                ) -> None:
    """Have control and user-defined tokens found in text before it is cut into words. Control tokens are special."""
    # Phi 3 was trained without the line ends that its template writes after its markers. No key of the file says so.
    strips = file.architecture == 'phi3' and file.get('tokenizer.ggml.model') == 'llama'
    named = set(special.values())
    added = []
    for token, kind in zip(tokens, types, strict=True):
        is_special = kind == TokenType.CONTROL or kind == TokenType.UNKNOWN or token in named
        if (is_special or kind == TokenType.USER_DEFINED) and token:
            added.append(AddedToken(token, special=is_special, normalized=False,
                                    rstrip=strips and kind == TokenType.CONTROL and token != special.get('bos_token')))
    backend.add_tokens(added)


def _add_around(backend: Tokenizer, first: str, last: str) -> None:
    """Have the backend write `first` before and `last` after a text; an empty one is left out."""
    if not first and not last:
        return
    backend.post_processor = processors.TemplateProcessing(
        single=[part for part in (first, '$A', last) if part],
        special_tokens=[(token, backend.token_to_id(token)) for token in {first, last} if token])
