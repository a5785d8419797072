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

"""A model of a public shape in every precision that this device decodes in, beside llama.cpp where that is installed.

Everything runs in one process, in interleaved rounds, with batches of 1. After a prompt of 512 random tokens, seconds
of prefill and seconds between consecutive tokens are measured; `model.generate` in float32 is the baseline. Random
weights do not show what a precision costs in quality, so the embedded model answers its test tasks in each precision.
"""
from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from statistics import fmean, median

import torch
from rich.progress import track
from transformers import AutoModelForCausalLM

from timebill_ros import settings
from timebill_ros.bench import answers, llama_peer, shapes, token_times
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.inference.model import CausalLM
from timebill_ros.tasks import site_log
from timebill_ros.tasks.site_log_scores import step_accuracy
from timebill_ros.worker.loading import load_model

N_PROMPT, N_TOKENS = 512, 24
GENERATE = 'model.generate'
# Precision of the model (of prefill and the cache) -> the other precisions that it decodes with.
OURS = {'float32': ('bfloat16', 'float16', 'int8', 'int4'), 'bfloat16': ('int8',)}
N_TASKS = 60


def _load(values: dict, **changes) -> CausalLM:
    return load_model(settings.check({**values, **changes}))[0]


def quality_rows(values: dict) -> list[dict]:
    """Return the embedded model's mean step accuracy on test tasks, by precision of decoding; prefill is in float32."""
    model = _load(values, model='', length_predictor='', dtype='float32', max_context_tokens=8192,
                  variants='bfloat16, float16, int8, int4')
    tasks = [site_log.generate(i, split='test') for i in range(N_TASKS)]
    scores: dict[str, list[float]] = {name: [] for name in model.variants}
    for task in track(tasks, 'quality'):
        request = answers.request_for(task, 512)
        ids = model.tokenize(model.render(request), is_chat=True)
        model.reset()
        logits = model.prefill(ids, chunk_tokens=values['prefill_chunk_tokens'])
        prefilled = model.snapshot()
        for name in model.variants:
            model.restore(prefilled)
            model.use_variant(name)
            scores[name].append(step_accuracy(task, answers.answer(model, request, logits, n_x=len(ids),
                                                                   n_kv=len(ids))))
        model.use_variant(model.variant)
    return [{'precision': name, 'tasks': N_TASKS, 'mean_score': fmean(got)} for name, got in scores.items()]


def measure(values: dict, shape: str, *, rounds: int) -> dict:
    """Return rows of every precision, of generate and of llama.cpp, and the quality of each precision.

    `values` are the node's parameters, with `prefill_chunk_tokens` chosen (not 0).
    """
    of_shape = {**values, 'length_predictor': '', 'max_context_tokens': 1024, 'threads': 0}
    with tempfile.TemporaryDirectory(prefix='timebill_shape_') as folder:
        rows = _measure(of_shape, shape, Path(folder), rounds)
    scores = quality_rows(values)
    _show(shape, rows, scores)
    return {'shape': shape, 'prompt_tokens': N_PROMPT, 'rows': rows, 'quality': scores}


def _label(dtype: str, variant: str) -> str:
    return f'{variant} after {dtype}' if variant != dtype else dtype


def _measure(values: dict, shape: str, folder: Path, rounds: int) -> list[dict]:
    directory = str(shapes.write(folder / shape, shape))
    models = {dtype: _load(values, model=directory, dtype=dtype, variants=', '.join(variants))
              for dtype, variants in OURS.items()}
    threads = models['float32'].threads
    reference = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    peers = {}
    if llama_peer.is_installed():
        for name in llama_peer.PRECISIONS:
            llama_peer.write(folder / f'{name}.gguf', shapes.SHAPES[shape], name)
            peers[name] = llama_peer.Peer(folder / f'{name}.gguf', n_context=1024, threads=threads)
    draw = random.Random(0)
    steps: dict[tuple[str, str], list[float]] = {}
    prefills: dict[tuple[str, str], list[float]] = {}
    for index in track(range(rounds + 1), shape):
        prompt = [draw.randrange(1, shapes.WORDS) for _ in range(N_PROMPT)]
        found: dict[tuple[str, str], tuple[list[float], float]] = {}
        for dtype, model in models.items():
            start_s = time.perf_counter()
            model.reset()
            model.prefill(prompt, chunk_tokens=N_PROMPT)
            prefill_s = time.perf_counter() - start_s
            for variant in model.variants:
                found['timebill', _label(dtype, variant)] = (
                    token_times.time_ours(model, prompt, N_TOKENS, N_PROMPT, variant=variant), prefill_s)
        torch.set_num_threads(threads)
        found[GENERATE, 'float32'] = token_times.time_generate(reference, prompt, N_TOKENS), float('nan')
        for name, peer in peers.items():
            prefill_s = peer.prefill(prompt)
            found['llama.cpp', name] = peer.steps(N_TOKENS), prefill_s
        if index:  # the first round warms up
            for key, (taken, prefill_s) in found.items():
                steps.setdefault(key, []).extend(taken)
                prefills.setdefault(key, []).append(prefill_s)
    baseline = median(steps[GENERATE, 'float32'])
    compiled = {_label(dtype, variant): variant in model.fast_steps
                for dtype, model in models.items() for variant in model.variants}
    return [{'method': method, 'precision': name, 'threads': threads, **token_times.milliseconds(taken),
             'prefill_s': None if method == GENERATE else median(prefills[method, name]),
             'compiled': compiled.get(name, False) if method == 'timebill' else None,
             'speedup': baseline / median(taken)}
            for (method, name), taken in steps.items()]


def _show(shape: str, rows: list[dict], scores: list[dict]) -> None:
    table = Table('method', 'precision', 'ms per token', 'p99 ms', 'prefill s', 'against generate', title=shape)
    for r in rows:
        table.add_row(r['method'], r['precision'], f'{r["median_ms"]:.2f}', f'{r["p99_ms"]:.2f}',
                      '' if r['prefill_s'] is None else f'{r["prefill_s"]:.2f}', f'{r["speedup"]:.2f}x')
    print_table(table)
    for s in scores:
        print(f'{s["precision"]}: the embedded model scores {s["mean_score"]:.3f} on {s["tasks"]} test tasks')
