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

"""What it would take to compute fewer than MAX_WINDOW + 1 tokens of a prompt whose beginning is known.

The last MAX_WINDOW tokens are always computed, since SnapKV scores by their queries, which are not kept. If the last
queries before every border were kept too, only what is new would have to be computed, from the border before it on.
Three things are measured: the time over the number of tokens that are computed, whether so few rows still get the bits
that they have in a longer chunk, and the bytes of the queries beside those of keys and values.
"""
from __future__ import annotations

import random
from statistics import fmean, median
from time import perf_counter

import numpy as np
import torch

from timebill_ros.bench.prefix_ways import repeats, without_store
from timebill_ros.inference.conventions import MAX_WINDOW
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prefix_store import block_bytes
from timebill_ros.inference.snapshot import Snapshot

ENDS = (1, 2, 4, 8, 16, 24, 32, 40, 48, 64)  # tokens that are computed
NEW = (1, 8, 20, 31)  # new tokens of the prompts that the two ways are compared on
ONCE = 3  # readings of each end in a round


def measure(model: CausalLM, chunk_tokens: int, *, known: int, rounds: int, seconds: float,
            draw: random.Random) -> dict:
    """Compute ENDS after about `known` tokens -> the row; up to `rounds` rounds in about so many seconds."""
    unit = model.prefixes.unit
    known = max(unit, min(known, model.max_context - ENDS[-1] - 1) // unit * unit)
    print(f'ends of 1 to {ENDS[-1]} tokens after {known}', flush=True)
    times: dict[int, list[float]] = {n: [] for n in ENDS}
    same = dict.fromkeys(ENDS, True)
    n_words = min(len(model.tokenizer), model.model.get_input_embeddings().num_embeddings)
    with model.stream.entered(), without_store(model, tiles=True):
        for _ in repeats(rounds, seconds):
            ids = [draw.randrange(n_words) for _ in range(known + ENDS[-1])]
            model.reset()
            model.prefill(ids, chunk_tokens=chunk_tokens)
            whole = model.snapshot()
            model.reset()
            model.prefill(ids[:known], chunk_tokens=chunk_tokens)
            beginning = model.snapshot()
            for n in draw.sample(ENDS, len(ENDS)):
                seconds_of = [_go_on(model, beginning, ids[:known + n], chunk_tokens) for _ in range(ONCE)]
                times[n].append(min(seconds_of))
                same[n] &= _as_in(model.snapshot(), whole)
        model.reset()
    taken = {n: median(found) for n, found in times.items()}
    exact = [n for n in ENDS if all(same[m] for m in ENDS if m >= n)]
    keys, queries = _bytes(model, unit, beginning)
    return {'known': known, 'unit': unit, 'rounds': len(times[1]), 'seconds': [[n, taken[n]] for n in ENDS],
            'same_states': [n for n in ENDS if same[n]], 'fewest_rows_with_their_bits': exact[0] if exact else None,
            'block_bytes': keys, 'block_query_bytes': queries, 'whole_prompts': _compared(taken, unit, exact)}


def _go_on(model: CausalLM, beginning: Snapshot, ids: list[int], chunk_tokens: int) -> float:
    """Compute the tokens of a prompt that follow on a beginning, whose last queries are put back; return seconds."""
    model.restore(beginning)
    model.synchronize()
    start = perf_counter()
    model.prefill(ids, chunk_tokens=chunk_tokens, first=beginning.n_prompt)
    model.synchronize()
    return perf_counter() - start


def _as_in(one: Snapshot, whole: Snapshot) -> bool:
    """Whether all states of a prompt are those of a longer one that begins with it."""
    return all(torch.equal(a, b[:, :, :a.shape[2]]) for ours, theirs in zip(one.states, whole.states, strict=True)
               for a, b in zip(ours, theirs, strict=True))


def _bytes(model: CausalLM, unit: int, beginning: Snapshot) -> tuple[int, int]:
    """Return the bytes of a block of the store, and those of the queries that would be kept with it."""
    queries = [beginning.queries[index] for index in model.cache.evictable_layers()]
    return block_bytes(model.cache, unit), sum(each.numel() * each.element_size() for each in queries)


def _compared(taken: dict[int, float], unit: int, exact: list[int]) -> list[dict]:
    """Return what prompts take that end with NEW new tokens, now and with kept queries: means over all cuts.

    With kept queries at least as many rows are computed as keep their bits; padding would fill them up.
    """
    least = exact[0] if exact else unit

    def mean(tokens: list[int]) -> float:
        return fmean(float(np.interp(n, ENDS, [taken[end] for end in ENDS])) for n in tokens)

    rows = []
    for new in NEW:
        cuts = range(unit)  # tokens between the last border and the first new token
        now = [next(n for n in range(cut + new, cut + new + unit + MAX_WINDOW + 1, unit) if n >= MAX_WINDOW)
               for cut in cuts]
        kept = [max(least, cut + new) for cut in cuts]
        rows.append({'new': new, 'tokens': fmean(now), 'tokens_with_queries': fmean(kept), 'seconds': mean(now),
                     'seconds_with_queries': mean(kept)})
    return rows
