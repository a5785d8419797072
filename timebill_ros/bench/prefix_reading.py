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

"""Prefill of prompts of which the beginning is known, beside the same prompts read from nothing and llama.cpp.

A prompt of random tokens is read in three ways: before (no store, PyTorch's attention), from nothing (attention in
tiles, nothing known) and on from what is known. Then half of it is evicted, which is timed apart. How many tokens are
computed depends on where the prompt is cut, so that its length varies, and for each prompt that is read from nothing
several are read on that leave it in another place. llama.cpp reads on too, from the longest beginning that its sequence
holds. All ways take turns in random order, so that a machine that changes its pace changes it for all.
"""
from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from timebill_ros.bench.llama_peer import KeepingPeer
from timebill_ros.bench.prefix_ways import BEFORE, NOTHING, REUSED, repeats, without_store
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prompt_reading import read_prompt

CUT = 32  # lengths vary by up to so many tokens
CUTS = 4  # prompts that are read on for each that is read from nothing


@dataclass(frozen=True)
class Case:
    """Prompts of `tokens` tokens, `new` ones among them, and what is to be reached.

    `bar`: how many times as quick as from nothing they are to be read on; `evicted_bar`: with half evicted, 0: no bar.
    `share`: of the time that the cases have together.
    """

    tokens: int
    new: int
    bar: float
    evicted_bar: float
    share: float


CASES = (Case(500, 20, 4.0, 0.0, 0.15), Case(1000, 60, 6.5, 5.0, 0.25), Case(4000, 100, 13.0, 11.0, 0.6))


@dataclass(frozen=True)
class Reading:
    """One prompt that was read: seconds, those with half of it evicted, its logits, and how many tokens it took."""

    seconds: float
    evicted_s: float
    logits: list[float]
    computed: int


def read(model: CausalLM, ids: list[int], chunk_tokens: int, *, then: Callable[[], None] = lambda: None) -> Reading:
    """Read a prompt, do `then`, and evict half of the prompt."""
    model.synchronize()
    start = time.perf_counter()
    logits, known = read_prompt(model, ids, chunk_tokens=chunk_tokens)
    model.synchronize()
    seconds, found = time.perf_counter() - start, logits.tolist()
    then()
    start = time.perf_counter()
    if model.supports_eviction:
        model.evict(len(ids) // 2)
        model.synchronize()
    return Reading(seconds, seconds + time.perf_counter() - start, found, len(ids) - known)


class _Prompts:
    """Draws the prompts of one case: random tokens of the model's."""

    def __init__(self, model: CausalLM, case: Case, draw: random.Random):
        self._n_words = min(len(model.tokenizer), model.model.get_input_embeddings().num_embeddings)
        self._case, self._draw = case, draw

    def fresh(self, n: int = 0) -> list[int]:
        """Return a prompt of `n` tokens; 0: of about as many as the case says."""
        return [self._draw.randrange(self._n_words) for _ in range(n or self._case.tokens + self._draw.randrange(CUT))]

    def like(self, ids: list[int]) -> list[int]:
        """Return a prompt that begins like `ids`, cut somewhere else, and ends with about `new` other tokens."""
        n = self._case.tokens + self._draw.randrange(CUT)
        common = ids[:n - self._case.new]
        return common + self.fresh(n - len(common))


def measure_case(model: CausalLM, chunk_tokens: int, case: Case, peers: dict[str, KeepingPeer], *, rounds: int,
                 seconds: float, draw: random.Random) -> dict:
    """Return the row of one case: up to `rounds` rounds in about so many seconds, and two at least."""
    times: dict[str, list[Reading]] = defaultdict(list)
    prompts, same = _Prompts(model, case, draw), 0
    rivals = {name: Rival(peer, prompts) for name, peer in peers.items()}
    model.prefixes.clear()
    read(model, prompts.fresh(), chunk_tokens)  # warms up
    for i in repeats(rounds, seconds):
        ids, ways = prompts.fresh(), [BEFORE, REUSED, *rivals]
        for way in draw.sample(ways, len(ways)):
            if way == BEFORE:
                with without_store(model, tiles=False):
                    times[BEFORE].append(read(model, ids, chunk_tokens))
            elif way == REUSED:
                nothing, read_on = _from_nothing_and_on(model, ids, case.new, chunk_tokens, prompts)
                times[NOTHING].append(nothing)
                times[REUSED] += read_on
                same += nothing.logits == read_on[0].logits
            else:
                rivals[way].round()
        print(f'round {i + 1} of {rounds} at most: {times[NOTHING][-1].seconds:.2f} s from nothing, '
              f'{times[REUSED][-1].seconds:.2f} s read on', flush=True)
    model.prefixes.clear()
    return {'tokens': case.tokens, 'new': case.new, 'bar': case.bar, 'evicted_bar': case.evicted_bar,
            **_summary(times, evicts=model.supports_eviction), 'same_logits': same,
            'llama': [{'precision': name, **rival.summary()} for name, rival in rivals.items()]}


def _from_nothing_and_on(model: CausalLM, ids: list[int], new: int, chunk_tokens: int, prompts: _Prompts
                         ) -> tuple[Reading, list[Reading]]:
    """Read a prompt from nothing, and then on from all but its `new` last tokens; then CUTS - 1 others like it."""
    store = model.prefixes
    store.clear()

    def know_all_but_the_end() -> None:  # while the cache holds the whole
        store.clear()
        store.put(ids[:-new])

    nothing = read(model, ids, chunk_tokens, then=know_all_but_the_end)
    read_on = [read(model, ids, chunk_tokens)]
    read_on += [read(model, prompts.like(ids), chunk_tokens) for _ in range(CUTS - 1)]
    return nothing, read_on


def _summary(times: dict[str, list[Reading]], *, evicts: bool) -> dict:
    """Return medians, and how they compare."""
    def of(attribute: str) -> dict[str, float]:
        return {way: median(getattr(reading, attribute) for reading in found) for way, found in times.items()}

    whole = of('seconds')
    pairs = [nothing.seconds / before.seconds for nothing, before in zip(times[NOTHING], times[BEFORE], strict=True)]
    best = {way: min(reading.seconds for reading in found) for way, found in times.items()}
    row = {'rounds': len(times[NOTHING]), 'compared': len(times[NOTHING]), 'read_on': len(times[REUSED]),
           'computed': median(reading.computed for reading in times[REUSED]), 'seconds': whole,
           'quicker': whole[NOTHING] / whole[REUSED], 'against_before': median(pairs),
           'best_against_before': best[NOTHING] / best[BEFORE]}
    if evicts:
        evicted = of('evicted_s')
        row.update(evicted_seconds=evicted, evicted_quicker=evicted[NOTHING] / evicted[REUSED])
    return row


class Rival:
    """llama.cpp on the prompts of a case: one that it has read, and others that begin like it."""

    def __init__(self, peer: KeepingPeer, prompts: _Prompts):
        self._peer, self._prompts = peer, prompts
        self._base = prompts.fresh()
        peer.forget()
        self._nothing_s = peer.first_token(self._base)
        self._bytes = peer.keep()
        self._reused: list[float] = []
        self._taken: list[float] = []

    def round(self) -> None:
        """Read on, CUTS times."""
        for _ in range(CUTS):
            self._taken.append(self._peer.take())
            self._reused.append(self._peer.first_token(self._prompts.like(self._base)))

    def summary(self) -> dict:
        """Return seconds: from nothing (once), read on from its own sequence, and what it adds to copy that back."""
        reused, taken = median(self._reused), median(self._taken)
        return {'from_nothing_s': self._nothing_s, 'reused_s': reused, 'copied_back_s': taken,
                'kept_bytes': self._bytes, 'quicker': self._nothing_s / reused}


def measure(model: CausalLM, chunk_tokens: int, peers: dict[str, KeepingPeer], *, rounds: int, seconds: float,
            longest: int, draw: random.Random) -> list[dict]:
    """Return the rows of all CASES that fit into `longest` tokens."""
    fitting = [case for case in CASES if case.tokens + 2 * CUT <= longest]
    shares = sum(case.share for case in fitting)
    rows = []
    with model.stream.entered():
        for case in fitting:
            print(f'prefill of {case.tokens} tokens, {case.new} of them new', flush=True)
            rows.append(measure_case(model, chunk_tokens, case, peers, rounds=rounds,
                                     seconds=seconds * case.share / shares, draw=draw))
        model.reset()
    return rows
