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

No torch: the engine reads prompts with this, also where a scripted model has no store. `model` is a CausalLM or what
stands for one; its `prefixes` is a PrefixStore, or None where every prompt is read from its beginning.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.inference.history import read
from timebill_ros.request import Request


def _never() -> bool:
    return False


def read_prompt(model, ids: list[int], *, chunk_tokens: int, should_stop: Callable[[], bool] = _never,
                goes_on: Callable[[], bool] = _never, messages: Sequence[dict[str, str]] = ()):
    """Read a prompt -> (logits [V] of the next token, how many tokens were not computed again).

    The logits are None where `should_stop` said so, unless `goes_on` then says that the reading goes on behind the last
    whole chunk: meanwhile the cache may have held something else. `messages`: the conversation that the prompt was made
    of.
    """
    model.reset()
    store = model.prefixes
    first = begin = store.take(ids) if store is not None else 0
    while True:
        known = {'first': begin} if begin else {}
        logits = model.prefill(ids, chunk_tokens=chunk_tokens, should_stop=should_stop, **known)
        if logits is not None:
            break
        begin = model.n_read  # before others run, which may be stopped too
        if not goes_on():
            model.n_read = begin
            break
    if logits is not None and store is not None:
        store.put(ids)
        if not logits.max().isfinite():  # no prompt that begins alike is to go on from what came to nothing
            store.forget(ids)
        if store.turns is not None:
            store.turns.observe(messages, ids, first)
    return logits, first


def keep_part(model, ids: list[int]) -> None:
    """Keep what was read of a prompt whose reading was stopped: the next one may begin alike."""
    if model.prefixes is not None:
        model.prefixes.put(ids[:model.n_read])


def read_ahead(model, request: Request, *, chunk_tokens: int, should_stop: Callable[[], bool] = _never,
               pin: bool = False) -> tuple[int, int]:
    """Read a prompt for the store alone -> (its tokens, how many of them are there then); `pin`: for good.

    Every chunk is kept as soon as it is read, so a prompt that `should_stop` ends is there in part, as is one for which
    the model computes NaN or infinity. Tokens are 0 where a stop came before they were counted. GoalError for a prompt
    that the model cannot take, or where none is kept.
    """
    store = model.prefixes
    if store is None:
        raise GoalError(ErrorCode.INVALID_GOAL, 'no prompt is kept for others: prefix_cache_mib is 0, or the model '
                        'cannot go on after a known beginning, which the log of its start tells')
    found = read(model, request, should_stop)
    if found is None:
        return 0, 0
    ids = found.ids
    with model.stream.entered():  # as the engine does
        model.reset()
        end = store.take(ids)
        while end < len(ids):
            first, end = end, min(len(ids), (end // chunk_tokens + 1) * chunk_tokens)
            logits = model.prefill(ids[:end], chunk_tokens=chunk_tokens, should_stop=should_stop, first=first)
            if logits is None or not logits.max().isfinite():
                break
            store.put(ids[:end], pin=pin)
        model.reset()
    return len(ids), store.held(ids)
