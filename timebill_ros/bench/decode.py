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

"""`timebill bench decode`: time per token of our token loop against transformers' own, in one run.

All rows decode the same number of tokens after random prompts of the same lengths. Rounds are interleaved: a machine
that changes its pace changes it for all rows. Times are between consecutive tokens, prefill and eviction excluded. The
rows:

    model.generate   transformers' loop on a second copy of the weights, with its default attention: on its default
                     cache (on a CPU with as many threads as ours, and with all cores), on its static cache, and under
                     kvpress where that is installed; the fastest of those with the whole cache is the baseline
    timebill         our token loop as the engine runs it
    bare loop        our step, an arg max and one wait for the device, without anything that deadlines need: the
                     difference is what the guard, the bookkeeping and the revised plans cost

One planning call is timed apart. So is a loop that only looks at the clock: its tail is the machine's own jitter.

With `--speed` a model follows in every precision, beside transformers and llama.cpp (speed.py), and with `--shape` one
of a public shape with random weights (precision.py).
"""
from __future__ import annotations

import random
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from rich.progress import track
from transformers import AutoModelForCausalLM

from timebill_ros.bench import precision, speed, token_times
from timebill_ros.bench.machine import describe, describe_device, write
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.engine import Engine
from timebill_ros.inference.devices import choose_device
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.threads import available_cores
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.planning.situation import Situation
from timebill_ros.planning.tracker import Tracker
from timebill_ros.worker.loading import load_model

GENERATE, STATIC, KVPRESS = 'model.generate', 'model.generate, static cache', 'model.generate, kvpress SnapKV'
OURS, BARE = 'timebill', 'bare loop'
SHORT, LONG = 1000, 4000  # cache entries after prefill
# (method, cache entries after prefill, eviction ratio)
ROWS = ((GENERATE, SHORT, 0.0), (STATIC, SHORT, 0.0), (BARE, SHORT, 0.0), (OURS, SHORT, 0.0),
        (GENERATE, LONG, 0.0), (STATIC, LONG, 0.0), (KVPRESS, LONG, 0.5), (KVPRESS, LONG, 0.9),
        (BARE, LONG, 0.0), (OURS, LONG, 0.0), (OURS, LONG, 0.5), (OURS, LONG, 0.9))
JUDGED = 6  # answers a round of the rows whose p99.9 is judged: a tail takes many steps
Row = tuple[str, int, float, int]  # (method, cache entries after prefill, eviction ratio, CPU threads)
PLANS = 2000


def _press(ratio: float):
    """Return kvpress's SnapKV at an eviction ratio; None where kvpress is not installed."""
    try:
        from kvpress import SnapKVPress
    except ImportError:
        return None
    return SnapKVPress(compression_ratio=ratio)


def time_plans(model: CausalLM) -> list[float]:
    """Return the seconds of single planning calls with the default bounds, over budgets from 0 to 2 s."""
    engine = Engine(model, None, token_times.INSTANT, Tracker(scores=token_times.SCORES))
    lengths = LengthDistribution(4, [1 / 128] * 128)
    seconds = []
    for i in range(PLANS):
        start = perf_counter()
        engine.planner.plan(Situation(lengths, 4000, 200, 512, engine.tracker.bounds()), 2.0 * i / PLANS)
        seconds.append(perf_counter() - start)
    return seconds


def measure(model: CausalLM, reference, rows: list[Row], *, n_tokens: int, rounds: int,
            chunk_tokens: int) -> dict[Row, list[list[float]]]:
    """Return the seconds between tokens, by row and answer, over interleaved rounds."""
    draw = random.Random(0)
    answers: dict[Row, list[list[float]]] = {row: [] for row in rows}
    order = [row for row in rows for _ in range(JUDGED if row[0] in (BARE, OURS) and row[1] == SHORT else 1)]
    for index in track(range(rounds + 1), 'measuring'):
        for row in draw.sample(order, len(order)):
            method, n_x, ratio, threads = row
            torch.set_num_threads(threads)
            prompt = [draw.randrange(len(model.tokenizer)) for _ in range(n_x)]
            if method == OURS:
                measured = token_times.time_ours(model, prompt, n_tokens, chunk_tokens, ratio)
            elif method == BARE:
                measured = token_times.time_bare(model, prompt, n_tokens, chunk_tokens)
            elif method == KVPRESS:
                measured = token_times.time_generate(reference, prompt, n_tokens, within=_press(ratio)(reference))
            else:
                measured = token_times.time_generate(reference, prompt, n_tokens, static=method == STATIC)
            if index:  # the first round warms up
                answers[row].append(measured)
    torch.set_num_threads(model.threads)
    return answers


def run(values: dict, out: Path, *, n_tokens: int, rounds: int, shape: str = '', speed_of: str = '',
        gguf: Path | None = None, only_speed: bool = False) -> int:
    """Measure, print, and write to `out`: the rows of the model in `values`, unless `only_speed`, and what follows.

    `speed_of` names a model, as the parameter `model` does, for speed.py; `gguf` has the same weights for llama.cpp.
    `shape`: for precision.py. Either is left out where it is empty.
    """
    result = {'machine': describe_device(choose_device(values['device']))} if only_speed else \
        _all_rows(values, n_tokens=n_tokens, rounds=rounds)
    speed_rounds = max(1, 2 * rounds // 3)
    if speed_of:
        result['model'] = speed.measure({**values, 'threads': 0}, speed_of, gguf=gguf, rounds=speed_rounds)
    if shape:
        result['shape'] = precision.measure(values, shape, rounds=speed_rounds)
    write(out, result)
    return 0


def _all_rows(values: dict, *, n_tokens: int, rounds: int) -> dict:
    """Measure the rows of ROWS that there are, and what planning and the machine itself take."""
    model, _, choices = load_model(values)
    if not model.supports_eviction:
        raise ModelError(f'nothing to compare: {model.eviction_refusal}')
    reference = AutoModelForCausalLM.from_pretrained(model.name, dtype=model.dtype).to(model.device).eval()
    cores = available_cores() if model.device.type == 'cpu' else model.threads
    rows: list[Row] = [(method, n_x, ratio, threads) for method, n_x, ratio in ROWS
                       if n_x + n_tokens <= model.max_context and (method != KVPRESS or _press(ratio))
                       for threads in ({model.threads, cores} if method == GENERATE else {model.threads})]
    answers = measure(model, reference, rows, n_tokens=n_tokens, rounds=rounds,
                      chunk_tokens=choices.prefill_chunk_tokens)
    seconds = {row: sum(taken, []) for row, taken in answers.items()}
    medians = {row: median(taken) for row, taken in seconds.items()}
    baseline = {n_x: min(medians[row] for row in rows if row[0] in (GENERATE, STATIC) and row[1] == n_x)
                for _, n_x, *_ in rows}
    results = [{'method': method, 'threads': threads, 'cache_tokens': n_x, 'eviction_ratio': ratio,
                **token_times.milliseconds(taken), **token_times.settling(answers[method, n_x, ratio, threads]),
                'tokens_per_s': 1 / median(taken), 'speedup': baseline[n_x] / median(taken)}
               for (method, n_x, ratio, threads), taken in seconds.items()]
    _show(results)
    overhead = []
    for n_x in dict.fromkeys(row[1] for row in rows):
        ours, bare = (medians[method, n_x, 0.0, model.threads] for method in (OURS, BARE))
        overhead.append({'cache_tokens': n_x, 'us_per_token': (ours - bare) * 1e6, 'share': ours / bare - 1})
        print(f'loop over {n_x} entries: {(ours - bare) * 1e6:.1f} us per token more than the bare loop '
              f'({ours / bare - 1:.1%})')
    ours = seconds[OURS, SHORT, 0.0, model.threads] if (OURS, SHORT, 0.0, model.threads) in seconds else []
    jitter = token_times.milliseconds(token_times.spin(median(ours), len(ours))) if ours else {}
    if jitter:
        print(f'a loop that only looks at the clock for {1e3 * median(ours):.3f} ms overruns by '
              f'{jitter["p99.9_ms"]:.3f} ms at p99.9')
    plans = time_plans(model)
    planning = {'n': len(plans), 'median_us': median(plans) * 1e6, 'p99_us': token_times.quantile(plans, 0.99) * 1e6}
    print(f'one planning call: median {planning["median_us"]:.0f} us, p99 {planning["p99_us"]:.0f} us')
    return {'machine': describe(model), 'compiled': list(model.fast_steps), 'tokens_per_answer': n_tokens,
            'rounds': rounds, 'rows': results, 'loop_overhead': overhead, 'jitter': jitter, 'planning_call': planning}


def _show(results: list[dict]) -> None:
    table = Table('method', 'threads', 'cache', 'evicted', 'median ms', 'p99 ms', 'p99.9 ms', 'first ms',
                  f'p99.9 after {token_times.SETTLED}', 'tokens/s', 'against generate')
    for r in results:
        table.add_row(r['method'], str(r['threads']), str(r['cache_tokens']), f'{r["eviction_ratio"]:.0%}',
                      f'{r["median_ms"]:.3f}', f'{r["p99_ms"]:.3f}', f'{r["p99.9_ms"]:.3f}',
                      f'{r["first_ms"]:.3f}', f'{r.get("settled_p99.9_ms", float("nan")):.3f}',
                      f'{r["tokens_per_s"]:.0f}', f'{r["speedup"]:.2f}x')
    print_table(table)
