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

"""`timebill bench prefix`: prompts that begin like earlier ones, in parts that are measured one after the other.

    reading     prefill, before, from nothing, read on, and by llama.cpp               prefix_reading.py
    goals       conversations through the engine                                       prefix_answers.py
    pauses      a goal that gives way twice to more urgent ones                        prefix_pauses.py
    promises    miss rate and worst cases of goals whose prompts are reused            prefix_promises.py
    ends        what it would take to compute fewer tokens                             prefix_ends.py

The result is written after every part. Where a run was stopped, the same command goes on with the parts that are left.
Each part has a share of the time: where that is short, there are fewer repeats, and the result says how many.
"""
from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from timebill_ros.bench import (
    llama_peer,
    machine,
    prefix_answers,
    prefix_ends,
    prefix_pauses,
    prefix_promises,
    prefix_reading,
)
from timebill_ros.bench.llama_peer import KeepingPeer
from timebill_ros.bench.prefix_bars import bars
from timebill_ros.bench.prefix_tables import show
from timebill_ros.inference.conventions import MAX_WINDOW
from timebill_ros.inference.gguf_files.gguf_file import SUFFIX
from timebill_ros.inference.named_models import NAMED_MODELS, gguf_of
from timebill_ros.worker.assembly import Loaded
from timebill_ros.worker.loading import load_engine

LLAMA = ('F16',)  # precisions of llama.cpp: its weights as they are without being quantised
PEER_CONTEXT = 4608  # tokens: the longest case, and the longest of the goals with its answer


@dataclass(frozen=True)
class Amount:
    """How much is measured. `minutes`: about how long all of it may take, but for loading; `longest`: prompt tokens."""

    minutes: float
    rounds: int
    n_goals: int
    n_promises: int
    longest: int


WHOLE = Amount(minutes=22.0, rounds=15, n_goals=50, n_promises=300, longest=8192)
QUICK = Amount(minutes=3.0, rounds=3, n_goals=6, n_promises=30, longest=1200)


@dataclass(frozen=True)
class Bench:
    """What a part measures with. `seconds`: what it may take."""

    values: dict
    loaded: Loaded
    peers: dict[str, KeepingPeer]
    amount: Amount
    seconds: float = 0.0


def _reading(bench: Bench):
    engine = bench.loaded.engine
    return prefix_reading.measure(engine.model, engine.prefill_chunk_tokens, bench.peers, rounds=bench.amount.rounds,
                                  seconds=bench.seconds, longest=min(bench.amount.longest, engine.model.max_context),
                                  draw=random.Random(0))


def _goals(bench: Bench):
    return prefix_answers.measure(bench.loaded.engine, bench.peers, n_goals=bench.amount.n_goals,
                                  seconds=bench.seconds, longest=bench.amount.longest, draw=random.Random(1))


def _pauses(bench: Bench):
    return prefix_pauses.measure(bench.loaded.engine, rounds=bench.amount.rounds, seconds=bench.seconds)


def _promises(bench: Bench):
    engine, former = bench.loaded.engine, bench.loaded.engine.tracker
    engine.tracker = bench.loaded.new_tracker(bench.values)  # of the parts before it nothing is known
    try:
        return prefix_promises.measure(engine, miss_rate=bench.values['miss_rate'], n_goals=bench.amount.n_promises,
                                       seconds=bench.seconds, draw=random.Random(2))
    finally:
        engine.tracker = former


def _ends(bench: Bench):
    engine = bench.loaded.engine
    if engine.model.prefixes.unit > MAX_WINDOW:
        return None  # between two borders lie more tokens than the window has
    return prefix_ends.measure(engine.model, engine.prefill_chunk_tokens, known=1000, rounds=bench.amount.rounds,
                               seconds=bench.seconds, draw=random.Random(3))


# What a part is called in the result, what measures it, and its share of the time.
PARTS: tuple[tuple[str, Callable[[Bench], object], float], ...] = (
    ('cases', _reading, 0.36), ('goals', _goals, 0.32), ('pauses', _pauses, 0.07), ('promises', _promises, 0.2),
    ('ends', _ends, 0.05))
BESIDE_LLAMA = {'cases', 'goals'}  # parts in which llama.cpp takes part
# What a result has to have in common with a run that goes on with it.
SAME = ('device', 'dtype', 'fingerprint', 'threads', 'chunk_tokens', 'unit', 'exact', 'rounds', 'minutes', 'only')


def run(values: dict, out: Path, amount: Amount, *, gguf: Path | None = None, only: tuple[str, ...] = ()) -> int:
    """Measure, print and write the parts; 1 where the model cannot go on after what is known. `values`: parameters.

    `gguf`: the model's weights for llama.cpp; None: those of a named model in the cache. `only`: parts, empty: all.
    """
    loaded = load_engine({**values, 'prefix_cache_mib': -1, 'keep_state': False})
    engine, model = loaded.engine, loaded.engine.model
    if model.prefixes is None:
        print(f'{model.name} reads every prompt from its beginning, of which its log says why')
        return 1
    wanted = [part for part in PARTS if not only or part[0] in only]
    result = _begun(out, {**machine.describe(model), 'fingerprint': model.fingerprint, 'threads': model.prefill_threads,
                          'chunk_tokens': engine.prefill_chunk_tokens, 'unit': model.prefixes.unit,
                          'exact': values['exact_prefixes'],
                          'rounds': amount.rounds, 'minutes': amount.minutes, 'only': list(only)}, wanted)
    shares = sum(share for _, _, share in wanted)
    with ExitStack() as stack:
        peers: dict[str, KeepingPeer] = {}
        if BESIDE_LLAMA & set(result['left']):
            peers, lacks = _peers(values, gguf, model.prefill_threads, stack)
            result['left_out'] = [f'llama.cpp: {lacks}'] if lacks else []
        for name, measure, share in wanted:
            if name in result:
                continue
            started = time.monotonic()
            print(f'-- {name}: about {amount.minutes * share / shares:.1f} min', flush=True)
            result[name] = measure(Bench(values, loaded, peers, amount, 60 * amount.minutes * share / shares))
            model.prefixes.check()
            result['seconds_of'][name] = round(time.monotonic() - started, 1)
            result['left'].remove(name)
            result['bars'] = bars(result)
            machine.write(out, result)
    show(result)
    return 0


def _begun(out: Path, facts: dict, parts: list[tuple]) -> dict:
    """Return the result that a stopped run has left in `out`, where it measured the same; otherwise a new one."""
    try:
        found = json.loads(out.read_text(encoding='utf-8'))
        if found['left'] and all(found[key] == facts[key] for key in SAME):
            left = ', '.join(found['left'])
            print(f'going on with {left}: the other parts are in {out}')
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {**facts, 'left': [name for name, *_ in parts], 'left_out': [], 'seconds_of': {}}


def _peers(values: dict, gguf: Path | None, threads: int, stack: ExitStack) -> tuple[dict[str, KeepingPeer], str]:
    """Return llama.cpp with the same weights, by precision, and why there is none; empty: there is one."""
    if not llama_peer.is_installed():
        return {}, 'the packages llama-cpp-python and gguf are not installed'
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='timebill_llama_')))
    name = values['model']
    if gguf is None and name.endswith(SUFFIX):
        gguf = Path(name)
    if gguf is None and name in NAMED_MODELS:
        gguf = gguf_of(name, values['cache_dir'], folder)
    if gguf is None:
        return {}, 'no GGUF file of the model is named (--gguf)'
    peers = {}
    for precision in LLAMA:
        path = folder / f'{precision}.gguf'
        llama_peer.requantize(gguf, path, precision, threads=threads)
        peers[precision] = KeepingPeer(path, n_context=PEER_CONTEXT, threads=threads)
    return peers, ''
