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

"""Reading a prompt: what is known of it is taken from the store, the rest is computed, and the whole is kept.

No torch: the engine reads prompts with this, also where a scripted model has no store.
"""
from __future__ import annotations

from collections.abc import Callable


def read_prompt(model, ids: list[int], *, chunk_tokens: int, should_stop: Callable[[], bool] = lambda: False):
    """Read a prompt -> (logits [V] of the next token, how many tokens were not computed again).

    The logits are None where `should_stop` said so. `model`: a CausalLM or what stands for one; its `prefixes` is a
    PrefixStore, or None where every prompt is read from its beginning.
    """
    model.reset()
    if model.prefixes is None:
        return model.prefill(ids, chunk_tokens=chunk_tokens, should_stop=should_stop), 0
    first = model.prefixes.take(ids)
    logits = model.prefill(ids, chunk_tokens=chunk_tokens, should_stop=should_stop, first=first)
    if logits is not None:
        model.prefixes.put(ids)
    return logits, first


def read_ahead(model, ids: list[int], *, chunk_tokens: int, should_stop: Callable[[], bool] = lambda: False,
               pin: bool = False) -> int:
    """Read a prompt for the store alone; return how many of its tokens are there then, and keep them if `pin`.

    Every chunk is kept as soon as it is read, so a prompt that `should_stop` ends is there in part.
    """
    model.reset()
    end = model.prefixes.take(ids)
    while end < len(ids):
        first, end = end, min(len(ids), (end // chunk_tokens + 1) * chunk_tokens)
        if model.prefill(ids[:end], chunk_tokens=chunk_tokens, should_stop=should_stop, first=first) is None:
            break
        model.prefixes.put(ids[:end], pin=pin)
    model.reset()
    return model.prefixes.held(ids)
