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

"""Out of memory: recognised whatever library raises it, and told with numbers. This file does not import torch."""
from __future__ import annotations

import errno
import resource

# What libraries write that have no exception of their own for it. torch's CPU allocator raises a plain RuntimeError.
_WORDS = ("can't allocate memory", 'Cannot allocate memory', '(os error 12)', 'std::bad_alloc',
          "can't start new thread", 'CUDA out of memory', 'CUDA error: out of memory', 'STATUS_ALLOC_FAILED')


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether `error`, or what it was raised from, says that memory is short. A thread that cannot start counts.

    A thread needs an address range for its stack, and systems limit threads and memory alike.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        # torch.OutOfMemoryError, by its name
        if isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError':
            return True
        if getattr(error, 'errno', None) == errno.ENOMEM or any(words in str(error) for words in _WORDS):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def size(n: float) -> str:
    """Return a number of bytes for people."""
    return f'{n / 2 ** 30:.2f} GiB' if n >= 2 ** 30 else f'{n / 2 ** 20:.1f} MiB'


def limit() -> str:
    """Return a clause on the limit of this process's memory; empty where there is none."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return '' if soft == resource.RLIM_INFINITY else f'; the process may take {size(soft)} (RLIMIT_AS)'


def cache_bytes_per_token(config, item_bytes: int) -> int:
    """Return what the KV cache takes for one token in all layers; 0 where the config does not say."""
    layers, heads = getattr(config, 'num_hidden_layers', 0) or 0, getattr(config, 'num_attention_heads', 0) or 0
    kv_heads = getattr(config, 'num_key_value_heads', None) or heads
    width = getattr(config, 'head_dim', None) or (getattr(config, 'hidden_size', 0) // heads if heads else 0)
    return 2 * layers * kv_heads * width * item_bytes


def does_not_fit(what: str, error: BaseException, *, cache_bytes: int, n_tokens: int, weight_bytes: float,
                 dtype: str) -> str:
    """Return the sentence for a model that cannot be loaded: its sizes, the limit, and what to change.

    `cache_bytes`: of the KV cache for `n_tokens`; `weight_bytes`: of the weights in `dtype`. 0 where unknown.
    """
    sizes = []
    if cache_bytes:
        sizes.append(f'the KV cache for {n_tokens} tokens (max_context_tokens) takes {size(cache_bytes)}')
    if weight_bytes:
        sizes.append(f'the weights take {size(weight_bytes)}')
    return (f'OUT_OF_MEMORY: {what} does not fit into memory: {" and ".join(sizes) or "its sizes are not known"}, in '
            f'{dtype}{limit()}. Lower max_context_tokens, or choose a smaller dtype or model ({_said(error)})')


def goal_sentence(error: BaseException, n_tokens: int = 0) -> str:
    """Return the sentence for a goal that memory was too short for. `n_tokens`: of its prompt; 0: not known yet."""
    prompt = f', with a prompt of {n_tokens} tokens' if n_tokens else ''
    return (f'memory is too short for this goal{prompt}{limit()}: a shorter prompt needs less, and so does a lower '
            f'max_context_tokens or a smaller dtype ({_said(error)})')


def loading_sentence(error: BaseException) -> str:
    """Return the sentence for what ended a configure, with what to change where memory was too short."""
    if is_out_of_memory(error) and 'OUT_OF_MEMORY' not in str(error):
        return (f'OUT_OF_MEMORY: memory is too short{limit()}. Lower max_context_tokens, or choose a smaller dtype or '
                f'model ({_said(error)})')
    return f'{type(error).__name__}: {error}'


def _said(error: BaseException) -> str:
    return f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'
