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

"""Prefill and decode steps of one model in several precisions, beside transformers and llama.cpp, in one run.

Everything runs in one process, in interleaved rounds, with batches of 1: a machine that changes its pace changes it for
all rows. After a prompt of random tokens, seconds of prefill and seconds between consecutive tokens are measured. The
rows are this package's own loop, `model.generate`, and llama.cpp on the same weights as a GGUF file.
"""
from __future__ import annotations

import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from rich.progress import track
from transformers import AutoModelForCausalLM

from timebill_ros import settings
from timebill_ros.bench import llama_peer, token_times
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.inference.devices import choose_device, choose_dtype
from timebill_ros.inference.threads import available_cores
from timebill_ros.worker.loading import load_model

N_PROMPT, N_TOKENS = 512, 24
OURS, GENERATE, LLAMA = 'timebill', 'model.generate', 'llama.cpp'
OTHERS = ('int8', 'int4')  # that the model decodes with, after prefill in its own precision
# (the weights of ours; empty: the model's own, llama.cpp's, how many times as long as llama.cpp's a step may take)
STEP_BARS = (('', 'F16', 1.0), ('int8', 'Q8_0', 1.0), ('int4', 'Q4_1', 1.2))
PREFILL_BAR = 0.7  # of llama.cpp's quickest


@dataclass
class Times:
    """What was measured of one row."""

    prefills: list[float] = field(default_factory=list)  # seconds, one for each round
    steps: list[list[float]] = field(default_factory=list)  # seconds between tokens, by round


def measure(values: dict, directory: str, *, gguf: Path | None, rounds: int) -> dict:
    """Return rows of every precision of the model in `directory`, and how they compare with llama.cpp.

    `values` are the node's parameters. `gguf`: the same weights as a GGUF file, which llama.cpp requantizes; None: rows
    of llama.cpp are left out. They are too where llama-cpp-python is not installed.
    """
    with tempfile.TemporaryDirectory(prefix='timebill_speed_') as folder:
        rows, threads = _measure(values, directory, gguf if llama_peer.is_installed() else None, Path(folder), rounds)
    found = {'model': Path(directory).name, 'threads': threads, 'prompt_tokens': N_PROMPT, 'rounds': rounds,
             'rows': rows, 'bars': bars(rows)}
    show(found)
    return found


def own_precision(device: torch.device) -> str:
    """Return the precision in which prefill is quick: float32 where the device only emulates bfloat16."""
    return str(choose_dtype('auto', device, torch.bfloat16)).removeprefix('torch.')


def label(dtype: str, variant: str) -> str:
    """Name a row: the weights that decoding reads, and the precision of prefill and cache where that is another."""
    return f'{variant} after {dtype}' if variant != dtype else dtype


def _measure(values: dict, directory: str, gguf: Path | None, folder: Path, rounds: int) -> tuple[list[dict], int]:
    of_model = {**values, 'model': directory, 'length_predictor': '', 'max_context_tokens': 1024, 'profile': ''}
    own = own_precision(choose_device(values['device']))
    precisions = {own: OTHERS} if own == 'float32' else {own: OTHERS, 'float32': ()}
    models = {dtype: load_model(settings.check({**of_model, 'dtype': dtype, 'variants': ', '.join(variants)}))
              for dtype, variants in precisions.items()}
    first = models[own][0]
    threads = first.threads if first.device.type == 'cpu' else available_cores()
    references = {dtype: AutoModelForCausalLM.from_pretrained(first.name, dtype=getattr(torch, dtype))
                  .to(first.device).eval() for dtype in precisions}
    peers = {}
    for name in llama_peer.PRECISIONS if gguf else ():
        llama_peer.requantize(gguf, folder / f'{name}.gguf', name, threads=threads)
        peers[name] = llama_peer.Peer(folder / f'{name}.gguf', n_context=1024, threads=threads)
    n_words = min(len(first.tokenizer), first.model.get_input_embeddings().num_embeddings)
    draw, times = random.Random(0), {}
    for index in track(range(rounds + 1), Path(directory).name):
        prompt = [draw.randrange(1, n_words) for _ in range(N_PROMPT)]
        for key, prefill_s, steps in _round(models, references, peers, prompt, threads):
            if index:  # the first round warms up
                row = times.setdefault(key, Times())
                row.prefills.append(prefill_s)
                row.steps.append(steps)
    steps = {label(dtype, variant): model.fast_steps.get(variant)
             for dtype, (model, *_) in models.items() for variant in model.variants}
    baseline = median(sum(times[GENERATE, 'float32'].steps, []))
    return [{'method': method, 'precision': name, 'threads': threads, **summary(row),
             'compiled': steps[name] is not None if method == OURS else None,
             'reads': step.reads if method == OURS and (step := steps[name]) else '',
             'speedup': baseline / median(sum(row.steps, []))} for (method, name), row in times.items()], threads


def _round(models: dict, references: dict, peers: dict, prompt: list[int], threads: int):
    """Yield ((method, precision), seconds of prefill, seconds between tokens) of every row, once."""
    for dtype, (model, _, choices) in models.items():
        chunk = choices.prefill_chunk_tokens
        model.reset()
        model.synchronize()
        start_s = time.perf_counter()
        model.prefill(prompt, chunk_tokens=chunk)
        model.synchronize()
        prefill_s = time.perf_counter() - start_s
        for variant in model.variants:
            yield (OURS, label(dtype, variant)), prefill_s, token_times.time_ours(model, prompt, N_TOKENS, chunk,
                                                                                  variant=variant)
    if next(iter(references.values())).device.type == 'cpu':
        torch.set_num_threads(threads)
    for dtype, reference in references.items():
        yield (GENERATE, dtype), *token_times.time_generate_whole(reference, prompt, N_TOKENS)
    for name, peer in peers.items():
        yield (LLAMA, name), peer.prefill(prompt), peer.steps(N_TOKENS)


def summary(row: Times) -> dict:
    """Return a row's numbers: of a machine that others use, the best round says more than the median."""
    prefill_s, best_s = median(row.prefills), min(row.prefills)
    return {**token_times.milliseconds(sum(row.steps, [])),
            'best_round_ms': 1e3 * min(median(steps) for steps in row.steps),
            'prefill_s': prefill_s, 'best_prefill_s': best_s, 'prefill_tokens_per_s': N_PROMPT / prefill_s}


def bars(rows: list[dict]) -> list[dict]:
    """Return how many times as long as llama.cpp's ours take, by medians and by best rounds, beside what is allowed."""
    by_name = {(row['method'], row['precision']): row for row in rows}
    peers = [row for row in rows if row['method'] == LLAMA]
    if not peers:
        return []
    own = next(row['precision'] for row in rows if row['method'] == OURS)  # the model's own comes first
    found = []
    for weights, theirs, bar in STEP_BARS:
        ours, peer = by_name[OURS, label(own, weights or own)], by_name[LLAMA, theirs]
        name = ours['precision'] + (f' (weights in {ours["reads"]})' if ours.get('reads') else '')
        found.append({'what': f'step, {name} against {theirs}', 'bar': bar,
                      'ratio': ours['median_ms'] / peer['median_ms'],
                      'best_ratio': ours['best_round_ms'] / peer['best_round_ms']})
    ours = by_name[OURS, own]
    return [*found, {'what': f"prefill, {own} against llama.cpp's quickest", 'bar': PREFILL_BAR,
                     'ratio': ours['prefill_s'] / min(row['prefill_s'] for row in peers),
                     'best_ratio': ours['best_prefill_s'] / min(row['best_prefill_s'] for row in peers)}]


def show(found: dict) -> None:
    """Print the rows, and how they compare with llama.cpp."""
    table = Table('method', 'precision', 'ms per token', 'best round', 'p99 ms', 'prefill s', 'prefill tokens/s',
                  'against generate', title=f'{found["model"]}, {found["threads"]} threads')
    for r in found['rows']:
        table.add_row(r['method'], r['precision'], f'{r["median_ms"]:.2f}', f'{r["best_round_ms"]:.2f}',
                      f'{r["p99_ms"]:.2f}', f'{r["prefill_s"]:.2f}', f'{r["prefill_tokens_per_s"]:.0f}',
                      f'{r["speedup"]:.2f}x')
    print_table(table)
    for bar in found['bars']:
        print(f'{bar["what"]}: {bar["ratio"]:.2f} times as long ({bar["best_ratio"]:.2f} by best rounds); at most '
              f'{bar["bar"]:.1f} {"kept" if bar["ratio"] <= bar["bar"] else "NOT kept"}')
