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

"""Whether a prompt that goes on after a known beginning comes out with the bits of one that is read at once.

That depends on the libraries' kernels, the processor and the number of threads, so it is tried while the model is
loaded: prompts of several lengths are read at once, and read on from several borders, and all states, the last queries
and the logits are compared. WAYS are tried in their order, and the first that holds is taken. A way says between which
tokens a known beginning may end.

    tiles    every TILE tokens, with the attention of prompt_tiles.py; on a CPU, where the linear layers give a row the
             same bits in chunks of any length from TILE on
    near     every TILE tokens, with PyTorch's attention; on a GPU, where only equal greedy tokens are asked for, and on
             a CPU where the user asks for no more (AMX, for one, gives a row other bits in a chunk of another length)
    chunks   at the borders of prefill's chunks: then the same chunks are computed, whatever was known before
    none     nowhere: every prompt is read from its beginning
"""
from __future__ import annotations

from collections.abc import Sequence

import torch

from timebill_ros.inference.conventions import MAX_WINDOW
from timebill_ros.inference.prompt_tiles import TILE, PromptTiles
from timebill_ros.inference.snapshot import Snapshot
from timebill_ros.inference.start_progress import this_start

WAYS = ('tiles', 'near', 'chunks', 'none')
SHORT = (TILE + 1, TILE + 15, 2 * TILE)  # lengths of prompts, tokens: the fewest rows that fill a block are computed in
# Relative differences of states that are near enough: of all tokens together, and of each. Rounding of bfloat16 adds up
# to 0.023 and 0.07 in the last of the 30 layers of SmolLM2-135M. One other token among 509 makes 0.07 and 1.3.
NEAR, NEAR_TOKEN = 0.05, 0.25


def unit_of(way: str, chunk_tokens: int) -> int:
    """Return the tokens from one possible end of a known beginning to the next; 0 where there is none."""
    return {'tiles': TILE, 'near': TILE, 'chunks': chunk_tokens, 'none': 0}[way]


def use_way(model, way: str) -> None:
    """Have a CausalLM read prompts in this way from now on."""
    model.use_tiles(PromptTiles(model.max_context) if way == 'tiles' else None)


def choose_way(model, chunk_tokens: int, *, exact: bool = True) -> tuple[str, str]:
    """Try the WAYS on a CausalLM with a cache of ours -> (the first that holds, why none before it does).

    exact: on a CPU no bit may change.
    """
    refused: list[str] = []
    for way in WAYS[:-1]:
        why = _unfit(model, way, chunk_tokens, exact=exact)
        if not why:
            this_start.tell(way)
            use_way(model, way)
            why = _difference(model, way, chunk_tokens)
        if not why:
            return way, '; '.join(refused)
        refused.append(f'{way}: {why}')
    use_way(model, 'none')
    return 'none', '; '.join(refused)


def _unfit(model, way: str, chunk_tokens: int, *, exact: bool) -> str:
    """Return why a way need not be tried; empty: it is to be tried."""
    on_cpu = model.device.type == 'cpu'
    if way == 'tiles' and not on_cpu or way == 'near' and on_cpu and exact:
        return f'not on {model.device.type}'
    if way in ('tiles', 'near') and chunk_tokens % TILE:
        return f'chunks of {chunk_tokens} tokens are no multiple of {TILE}'
    needed = unit_of(way, chunk_tokens) + max(SHORT)
    if needed >= model.max_context:
        return f'the context of {model.max_context} tokens is too short for {needed}'
    return ''


@torch.inference_mode()
def _difference(model, way: str, chunk_tokens: int) -> str:
    """Return where a prompt that goes on differs from one that is read at once; empty: nowhere."""
    unit, exact = unit_of(way, chunk_tokens), way != 'near'
    if way == 'chunks':
        n, others = chunk_tokens + SHORT[1], [chunk_tokens + 7]
    else:  # 3 tokens less than a chunk, so that numbers of rows are odd; the others reach a whole one
        n = max(chunk_tokens, 4 * TILE) - 3
        others = [*SHORT, n // 2 + 7, n + 3]
    longest = model.max_context - 1
    n, others = min(n, longest - 3), [min(m, longest) for m in others]
    n_words = model.model.get_input_embeddings().num_embeddings
    # Varied tokens: after equal ones all values are equal, and differences would not show.
    ids = [(11 + 37 * i + i * i // 7) % n_words for i in range(longest)]
    last = max(0, n - MAX_WINDOW) // unit * unit
    borders = sorted({unit, n // 2 // unit * unit, last} - {0})
    with model.stream.entered():  # as the engine does
        logits, whole = _read(model, ids[:n], chunk_tokens)
        found = ''
        for m in others:
            _, other = _read(model, ids[:m], chunk_tokens)
            if not _same(whole, other, min(n, m) // unit * unit, exact=exact):
                found = f'the states of prompts of {m} and {n} tokens differ where they are alike'
                break
        for border in borders if not found else ():
            again, other = _read(model, ids[:n], chunk_tokens, border, whole)
            same = torch.equal(again, logits) if exact else int(again.argmax()) == int(logits.argmax())
            queries = all(torch.equal(other.queries[i], q) for i, q in whole.queries.items() if q is not None)
            if not same or (exact and not queries) or not _same(whole, other, n, exact=exact):
                found = f'a prompt of {n} tokens that goes on after {border} differs from one that is read at once'
                break
        model.reset()
    return found


def _read(model, ids: Sequence[int], chunk_tokens: int, first: int = 0, known: Snapshot | None = None
          ) -> tuple[torch.Tensor, Snapshot]:
    """Read a prompt, the `first` tokens of it from `known`: (logits [V], what prefill left)."""
    model.reset()
    if first:
        for layer, states in zip(model.cache.layers, known.states, strict=True):
            for to, source in zip(layer.refill(first), states, strict=True):
                to[:] = source[:, :, :first]
    logits = model.prefill(list(ids), chunk_tokens=chunk_tokens, first=first).clone()
    return logits, model.snapshot()


def _same(one: Snapshot, other: Snapshot, n: int, *, exact: bool) -> bool:
    """Whether two prompts have the same states of their first `n` tokens, or near ones, in every layer."""
    for ours, theirs in zip(one.states, other.states, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            a, b = a[:, :, :n], b[:, :, :n]
            if not (torch.equal(a, b) if exact else _near(a.float(), b.float())):
                return False
    return True


def _near(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether states [1, heads, n, width] differ by no more than rounding makes, together and token by token."""
    of_all, of_each = (a - b).norm() <= NEAR * a.norm(), _by_token(a - b) <= NEAR_TOKEN * _by_token(a)
    return bool(of_all) and bool(of_each.all())


def _by_token(states: torch.Tensor) -> torch.Tensor:
    return states.square().sum(dim=(0, 1, 3)).sqrt()
