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

"""Prompts that begin like earlier ones: time to the first token, and whether answers are those of prompts read at once.

Two measurements in one process, each in interleaved rounds, so that a machine that changes its pace changes it for all.

Prefill: a prompt of random tokens, of which all but the last few are known, is read in three ways: before (no store,
PyTorch's attention), from nothing (attention in tiles, nothing known) and on from what is known. Its length varies from
round to round, because how many tokens are computed depends on where it is cut. Once more with half of it evicted.

Goals: conversations as robots have them go through the engine, each goal once with the store and once without. Their
texts are compared.
"""
from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from timebill_ros.bench import machine
from timebill_ros.bench.prefix_goals import SCENARIOS, Goal
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.control import Control
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prompt_reading import read_prompt
from timebill_ros.request import Request
from timebill_ros.worker.loading import load_engine

# (tokens, new ones among them, how many times as quick as from nothing it is to be: whole, and with half evicted)
CASES = ((500, 20, 4.0, 0.0), (1000, 60, 6.5, 5.0), (4000, 100, 13.0, 11.0))
CUT = 32  # lengths vary by up to so many tokens
BEFORE, NOTHING, REUSED = 'before', 'from nothing', 'reused'
BEFORE_BAR = 1.05  # from nothing may take so many times what it took before
BUDGET_S = 3600.0


@dataclass
class Times:
    """What was measured of one way to read a prompt: seconds, by round."""

    whole: list[float] = field(default_factory=list)
    evicted: list[float] = field(default_factory=list)  # prefill and the eviction of half


@contextlib.contextmanager
def without_store(model: CausalLM, *, tiles: bool) -> Iterator[None]:
    """Read prompts from their beginning inside, with attention in tiles, where the model has it, or PyTorch's."""
    store, model.prefixes, mine = model.prefixes, None, model.tiles
    if not tiles:
        model.use_tiles(None)
    try:
        yield
    finally:
        model.use_tiles(mine)
        model.prefixes = store


def read(model: CausalLM, ids: list[int], chunk_tokens: int, *, evicts: bool) -> tuple[float, list]:
    """Read a prompt, and evict half of it -> (seconds, logits as numbers)."""
    model.synchronize()
    start = time.perf_counter()
    logits, _ = read_prompt(model, ids, chunk_tokens=chunk_tokens)
    if evicts:
        model.evict(len(ids) // 2)
    model.synchronize()
    return time.perf_counter() - start, logits.tolist()


def measure_case(model: CausalLM, chunk_tokens: int, case: tuple, rounds: int, draw: random.Random) -> dict:
    """Return the row of one of CASES."""
    n, new, bar, evicted_bar = case
    times = {way: Times() for way in (BEFORE, NOTHING, REUSED)}
    n_words, same, computed = model.model.get_input_embeddings().num_embeddings, 0, []
    kinds = [False, True] if model.supports_eviction else [False]
    for index in range(rounds + 1):
        ids = [draw.randrange(n_words) for _ in range(n + draw.randrange(CUT))]
        for evicts in kinds:
            logits = {}
            for way in draw.sample(list(times), len(times)):
                model.prefixes.clear()
                if way == REUSED:  # a prompt that is alike but for its end
                    read_prompt(model, [*ids[:-new], *ids[:new]], chunk_tokens=chunk_tokens)
                    computed.append(len(ids) - model.prefixes.known(ids))
                around = without_store(model, tiles=False) if way == BEFORE else contextlib.nullcontext()
                with around:
                    seconds, logits[way] = read(model, ids, chunk_tokens, evicts=evicts)
                if index:  # the first round warms up
                    (times[way].evicted if evicts else times[way].whole).append(seconds)
            same += logits[NOTHING] == logits[REUSED]
    model.prefixes.clear()
    whole = {way: median(own.whole) for way, own in times.items()}
    row = {'tokens': n, 'new': new, 'computed': median(computed), 'bar': bar, 'evicted_bar': evicted_bar,
           'seconds': whole, 'quicker': whole[NOTHING] / whole[REUSED],
           'against_before': whole[NOTHING] / whole[BEFORE],
           'same_logits': same, 'compared': len(kinds) * (rounds + 1)}
    if True in kinds:
        evicted = {way: median(own.evicted) for way, own in times.items()}
        row.update(evicted_seconds=evicted, evicted_quicker=evicted[NOTHING] / evicted[REUSED])
    return row


def answer(engine: Engine, goal: Goal):
    """Run one goal without haste; return its outcome."""
    now = time.monotonic()
    request = Request('bench', now, now + BUDGET_S, messages=goal.messages, max_new_tokens=goal.max_new_tokens)
    return engine.run(request, Control(Deadline(request.deadline_s)))


def _next(goals: Generator[Goal, str, None], text: str | None) -> Goal | None:
    """Return the goal that follows an answer; None where there is no more."""
    try:
        return goals.send(text)
    except StopIteration:
        return None


def measure_goals(engine: Engine, name: str, n_goals: int, draw: random.Random) -> dict:
    """Return the row of one of SCENARIOS: each goal with the store and without, in random order."""
    model, rows, errors = engine.model, [], 0
    model.prefixes.clear()
    goals = SCENARIOS[name](n_goals, lambda messages: len(model.tokenize(model.render(
        Request('count', 0.0, 1.0, messages=messages)), is_chat=True)), model.max_context)
    text = ''
    while (goal := _next(goals, text if rows else None)) is not None:
        found = {}
        for way in draw.sample([NOTHING, REUSED], 2):
            with without_store(model, tiles=True) if way == NOTHING else contextlib.nullcontext():
                found[way] = answer(engine, goal)
        timing, nothing = found[REUSED].timing, found[NOTHING].timing
        if any(outcome.error_code for outcome in found.values()):
            errors += 1
            break
        text = found[REUSED].text
        rows.append({'tokens': timing.prompt_tokens, 'reused': timing.reused_tokens,
                     'same': found[NOTHING].text == text,
                     'first_s': timing.time_to_first_token_s, 'first_from_nothing_s': nothing.time_to_first_token_s,
                     'prefill_s': timing.prefill_s,
                     'estimated_s': engine.times.prefill(timing.prompt_tokens, timing.reused_tokens)})
    later = rows[1:]  # nothing is known of the first
    return {'scenario': name, 'goals': len(rows), 'errors': errors, 'same_texts': sum(row['same'] for row in rows),
            'tokens': [rows[0]['tokens'], rows[-1]['tokens']],
            'reused_share': median(row['reused'] / row['tokens'] for row in later),
            'first_s': median(row['first_s'] for row in later),
            'first_from_nothing_s': median(row['first_from_nothing_s'] for row in later),
            'quicker': median(row['first_from_nothing_s'] / row['first_s'] for row in later),
            'measured_over_estimated': median(row['prefill_s'] / row['estimated_s'] for row in later), 'rows': rows}


def run(values: dict, out: Path, *, rounds: int, n_goals: int, longest: int = 0) -> int:
    """Measure, print and write both; 1 where the model cannot go on after what is known. `values`: parameters."""
    loaded = load_engine({**values, 'prefix_cache_mib': -1, 'keep_state': False})
    engine, model, draw = loaded.engine, loaded.engine.model, random.Random(0)
    if model.prefixes is None:
        print(f'{model.name} reads every prompt from its beginning, of which its log says why')
        return 1
    most = min(longest or model.max_context, model.max_context) - 2 * CUT
    with model.stream.entered():
        cases = [measure_case(model, engine.prefill_chunk_tokens, case, rounds, draw)
                 for case in CASES if case[0] <= most]
    goals = [measure_goals(engine, name, n_goals, draw) for name in SCENARIOS]
    result = {**machine.describe(model), 'threads': model.prefill_threads, 'chunk_tokens': engine.prefill_chunk_tokens,
              'unit': model.prefixes.unit, 'rounds': rounds, 'cases': cases, 'goals': goals}
    show(result)
    machine.write(out, result)
    return 0


def show(result: dict) -> None:
    """Print both tables."""
    table = Table('tokens', 'new', 'computed', 'before ms', 'from nothing ms', 'reused ms', 'times as quick', 'bar',
                  'half evicted', 'bar', 'nothing / before', 'same logits', title=f'{result["model"]}: prefill')
    for row in result['cases']:
        ms = {way: f'{1e3 * seconds:.1f}' for way, seconds in row['seconds'].items()}
        table.add_row(str(row['tokens']), str(row['new']), f'{row["computed"]:.0f}', ms[BEFORE], ms[NOTHING],
                      ms[REUSED], f'{row["quicker"]:.1f}', f'{row["bar"]:g}', f'{row.get("evicted_quicker", 0):.1f}',
                      f'{row["evicted_bar"]:g}', f'{row["against_before"]:.2f}',
                      f'{row["same_logits"]} of {row["compared"]}')
    print_table(table)
    table = Table('goals', 'number', 'tokens', 'reused', 'first token ms', 'from nothing ms', 'times as quick',
                  'prefill / estimate', 'same texts', title='goals through the engine')
    for row in result['goals']:
        table.add_row(row['scenario'], str(row['goals']), f'{row["tokens"][0]} to {row["tokens"][1]}',
                      f'{row["reused_share"]:.0%}', f'{1e3 * row["first_s"]:.1f}',
                      f'{1e3 * row["first_from_nothing_s"]:.1f}', f'{row["quicker"]:.1f}',
                      f'{row["measured_over_estimated"]:.2f}', f'{row["same_texts"]} of {row["goals"]}')
    print_table(table)
