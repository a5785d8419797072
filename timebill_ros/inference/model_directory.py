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

"""What a model's files say before its weights are loaded: whether it can be loaded, which one it is, how it caches."""
from __future__ import annotations

import hashlib
import logging
from pathlib import Path

log = logging.getLogger(__name__)


class ModelError(RuntimeError):
    """A model that cannot be loaded; the sentence says why."""


def fingerprint(name: str, commit: str | None = None) -> str:
    """Identify a model by its config files and by the sizes and first 64 KiB of its weight files.

    Gigabytes are not read. A model on a hub is identified by its name and `commit`.
    """
    root = Path(name)
    if not root.is_dir():
        return f'{name}@{commit or "unknown"}'
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob('*') if p.name in ('config.json', 'length_predictor.json')
                       or p.suffix in ('.safetensors', '.bin')):
        digest.update(f'{path.relative_to(root)} {path.stat().st_size}'.encode())
        with path.open('rb') as file:
            digest.update(file.read(65536))
    return digest.hexdigest()[:16]


def check_directory(name: str, *, allow_unsafe_weights: bool) -> None:
    """Raise ModelError naming the file that a local model directory lacks. Hub ids are left to transformers."""
    root = Path(name)
    if not root.exists():
        if root.is_absolute() or name.startswith('.') or name.count('/') != 1:
            raise ModelError(f'model {name!r} is neither a directory nor a hub id (owner/name)')
        return
    if not (root / 'config.json').is_file():
        raise ModelError(f'model directory {name} lacks config.json')
    if not any(root.glob('*.safetensors')) and not (allow_unsafe_weights and any(root.glob('*.bin'))):
        raise ModelError(f'model directory {name} lacks *.safetensors weights (other formats can run code when loaded; '
                         'see the parameter allow_unsafe_weights)')
    if not any((root / file).is_file() for file in ('tokenizer.json', 'tokenizer.model', 'vocab.json', 'vocab.txt',
                                                    'tokenizer_config.json')):
        raise ModelError(f'model directory {name} lacks tokenizer files (tokenizer.json)')


# Config entries of state-space and other recurrent layers, which a model may have beside attention layers.
_RECURRENT = ('state_size', 'ssm_state_size', 'mamba_d_state', 'lru_width', 'linear_conv_kernel_dim', 'conv_L_cache')


def layout_refusal(config) -> str:
    """Return why the cache of this architecture cannot be evicted; empty where it can."""
    if getattr(config, 'kv_lora_rank', None):
        return 'its cache is compressed (multi-head latent attention)'
    if not hasattr(config, 'num_attention_heads') or any(hasattr(config, name) for name in _RECURRENT):
        return 'it has a recurrent state'
    kinds = set(getattr(config, 'layer_types', None) or ['full_attention'])
    if not kinds <= {'full_attention', 'sliding_attention'}:
        return f'it has layers of the kinds {", ".join(sorted(kinds - {"full_attention", "sliding_attention"}))}'
    return ''


def sliding_windows(config) -> list[int | None]:
    """Return the sliding window of each decoder layer, in tokens; None for full attention."""
    window = getattr(config, 'sliding_window', None)
    kinds = getattr(config, 'layer_types', None)
    if kinds is None:
        kinds = ['sliding_attention' if window else 'full_attention'] * config.num_hidden_layers
    return [window if kind == 'sliding_attention' else None for kind in kinds]


def eos_ids(model, tokenizer) -> frozenset[int]:
    """Return the tokens that end an answer.

    These are the ones of the generation config, the tokenizer's, and the one that the chat template writes after an
    assistant's turn. A log line says when the last is not among the others, or when there is text in its place.
    """
    ids = getattr(model.generation_config, 'eos_token_id', None)
    ids = ids if isinstance(ids, (list, tuple)) else [ids]
    found = {i for i in [*ids, tokenizer.eos_token_id] if i is not None}
    after = _after_turn(tokenizer)
    added = [token.content for token in getattr(tokenizer, 'added_tokens_decoder', {}).values()]
    # A plain word or a colon among the added tokens is no marker.
    ends = [text for text in added if len(text) > 2 and not text.isalnum() and after.startswith(text)]
    if ends:
        text = max(ends, key=len)
        if (end := tokenizer.convert_tokens_to_ids(text)) not in found:
            log.info('%r ends an answer too: the chat template writes it after a turn', text)
            found.add(end)
    elif after:
        log.warning('the chat template writes %r after a turn, which is no token of its own: answers may run on. '
                    'Name it among the stop strings of goals', after[:64])
    return frozenset(found)


def _after_turn(tokenizer) -> str:
    """Return what the chat template writes after an assistant's turn, without white space around it."""
    if not getattr(tokenizer, 'chat_template', None):
        return ''
    probe = 'answer'
    try:
        turns = [{'role': 'user', 'content': '-'}, {'role': 'assistant', 'content': probe}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)
    except Exception:  # templates raise jinja errors of their own
        log.debug('the chat template refuses a question and its answer')
        return ''
    return text[text.rindex(probe) + len(probe):].strip() if probe in text else ''
