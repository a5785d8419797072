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

"""`timebill bench device`: what one device can do, in one command without a network or ROS.

For models of public shapes with random weights (shapes.py) it measures

    the profile, its fit, and the errors of its estimates at lengths between its own; eviction
    the token loop, against `model.generate` and against the time that reading a step's bytes takes at the read
    bandwidth of this device, measured in the same run
    the embedded length predictor beside prefill, on the same device and on the CPU

`--seconds` bounds the profile of each shape. `--quick` measures two shapes in a few minutes.
"""
from __future__ import annotations

import gc
import random
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import torch
from transformers import AutoModelForCausalLM

from timebill_ros import settings
from timebill_ros.bench import shapes, token_times
from timebill_ros.bench.machine import describe_device, write
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.bench.step_check import notes
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.inference.devices import choose_device
from timebill_ros.inference.model import CausalLM
from timebill_ros.length import length_predictor
from timebill_ros.length.prediction import PredictionExecutor
from timebill_ros.resources import embedded_directory
from timebill_ros.timing import fitting, profiling
from timebill_ros.timing.execution_time import ProfileError
from timebill_ros.worker.loading import load_model

READ_BYTES = 1 << 30
RATIOS = (0.0, 0.5, 0.9)
LONG_PREFILL = 1024  # tokens from which prefill errors are reported apart


def read_bandwidth(device: torch.device, repeats: int = 7) -> float:
    """Return bytes a second: the best of `repeats` sums over a tensor that is too large for any cache."""
    values = torch.zeros(READ_BYTES // 4, dtype=torch.float32, device=device)
    best = float('inf')
    for _ in range(repeats):
        start = time.perf_counter()
        float(values.sum())
        best = min(best, time.perf_counter() - start)
    return READ_BYTES / best


def bytes_of_step(model: CausalLM, n_kv: int) -> int:
    """Return the bytes that one decode step must read: the weights and the `n_kv` cache entries.

    An embedding that is not also the head does not count: a step reads one row of it.
    """
    tied = model.model.get_input_embeddings().weight is model.model.get_output_embeddings().weight
    skipped = None if tied else model.model.get_input_embeddings().weight
    weights = sum(p.numel() * p.element_size() for p in model.model.parameters() if p is not skipped)
    entry = sum(2 * layer.keys.shape[1] * layer.keys.shape[3] * layer.keys.element_size()
                for layer in model.cache.layers)
    return weights + n_kv * entry


def held_out(model: CausalLM, profile, chunk_tokens: int, repeats: int) -> list[dict]:
    """Return the errors of the profile's estimates at lengths between its own, against medians by length."""
    points: fitting.Points = {}
    draw = random.Random(1)
    for n in token_times.between([n for n, _ in profile.points['prefill']]):
        for _ in range(repeats):
            profiling.add(points, profiling.visit(model, None, n, chunk_tokens, draw))
    rows = []
    for kind, least in (('prefill', 0), ('prefill', LONG_PREFILL), ('step', 0)):
        chosen = {kind: [[n, seconds] for n, seconds in points[kind] if n >= least]}
        if chosen[kind]:
            rows.append({'kind': kind, 'from_tokens': least, 'lengths': len({n for n, _ in chosen[kind]}),
                         'mape': fitting.errors(profile.times, chosen)[kind]})
    return rows


def decode_rows(model: CausalLM, lengths: list[int], *, n_tokens: int, rounds: int, chunk_tokens: int,
                bandwidth: float) -> list[dict]:
    """Return a row per method, length and eviction: our token loop and `model.generate`, in interleaved rounds."""
    reference = AutoModelForCausalLM.from_pretrained(model.name, dtype=model.dtype).to(model.device).eval()
    keys = [(method, n, ratio) for n in lengths for method, ratio in
            [('model.generate', 0.0), *(('timebill', ratio) for ratio in RATIOS)]]
    seconds: dict[tuple, list[float]] = {key: [] for key in keys}
    draw = random.Random(2)
    for index in range(rounds + 1):
        for method, n, ratio in draw.sample(keys, len(keys)):
            prompt = [draw.randrange(1, shapes.WORDS) for _ in range(n)]
            taken = token_times.time_generate(reference, prompt, n_tokens) if method == 'model.generate' else \
                token_times.time_ours(model, prompt, n_tokens, chunk_tokens, ratio)
            if index:  # the first round warms up
                seconds[method, n, ratio] += taken
    rows = []
    for (method, n, ratio), taken in seconds.items():
        n_kv = int((1 - ratio) * n) + n_tokens // 2
        rows.append({'method': method, 'cache_tokens': n, 'eviction_ratio': ratio, **token_times.milliseconds(taken),
                     'tokens_per_s': 1 / median(taken), 'estimated_bytes': bytes_of_step(model, n_kv),
                     'share_of_bandwidth': bytes_of_step(model, n_kv) / median(taken) / bandwidth,
                     'speedup': median(seconds['model.generate', n, 0.0]) / median(taken)})
    return rows


def prediction_rows(model: CausalLM, n: int, chunk_tokens: int, rounds: int) -> list[dict]:
    """Time prefill of `n` tokens alone, and with the embedded length predictor beside it, here and on the CPU.

    On a GPU prefill has the higher priority, as in the engine; one more row has equal priorities.
    """
    directory = str(embedded_directory() / 'length_predictor')
    executors = {'alone': None}
    for device in dict.fromkeys([str(model.device), 'cpu']):
        executors[f'predictor on {device}'] = PredictionExecutor(length_predictor.load(directory, device=device))
    stream_of = {name: model.stream.entered for name in executors}
    if model.device.type == 'cuda':
        name = f'predictor on {model.device}'
        executors[f'{name}, equal priority'], stream_of[f'{name}, equal priority'] = executors[name], nullcontext
    prompt = [1 + i % (shapes.WORDS - 1) for i in range(n)]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in executors}
    for _ in range(rounds + 1):
        for name, executor in executors.items():
            model.reset()
            model.synchronize()
            start = time.perf_counter()
            future = executor.submit('w1 ' * n, n) if executor else None
            with stream_of[name]():
                model.prefill(prompt, chunk_tokens=chunk_tokens)
                model.synchronize()
            prefill_s = time.perf_counter() - start
            found[name].append((prefill_s, future.result().seconds if future else 0.0))
    for executor in executors.values():
        if executor:
            executor.close()
    return [{'setting': name, 'prompt_tokens': n, 'prefill_s': median(p for p, _ in taken[1:]),
             'prediction_s': median(s for _, s in taken[1:])} for name, taken in found.items()]


def of_shape(values: dict, directory: Path, shape: str, *, longest: int, seconds: float, n_tokens: int, rounds: int,
             bandwidth: float) -> dict:
    """Measure everything about one shape."""
    started = time.monotonic()
    print(f'{shape}:')
    values = settings.check({**values, 'model': str(directory), 'length_predictor': '', 'variants': '',
                             'max_context_tokens': longest + 4 * profiling.STEPS + n_tokens})
    with notes() as said:
        model, _, choices = load_model(values)
    print(f'  steps are {", ".join(step.kind for step in model.steps.values())}')
    for sentence in said:  # why another kind is not used
        print(f'  {sentence}')
    loaded_s, chunk = time.monotonic() - started, choices.prefill_chunk_tokens
    points = profiling.measure(model, None, chunk_tokens=chunk, budget_s=seconds, repeats=4, n_lengths=8,
                               longest=longest)
    profile = profiling.make_profile(model, None, points, chunk)
    seen = max(n for n, _ in points['prefill'])
    lengths = [n for n in (512, 4096, longest) if n <= seen] or [seen]
    return {'shape': shape, 'dtype': model.variant, 'load_s': loaded_s,
            'steps': {name: step.kind for name, step in model.fast_steps.items()}, 'step_notes': said,
            'times': {name: value for name, value in vars(profile.times).items() if isinstance(value, (int, float))},
            'fit_errors': profile.fit_errors, 'longest_profiled': seen,
            'held_out': held_out(model, profile, chunk, repeats=2),
            'eviction': [[n, s] for n, s in points.get('eviction', [])],
            'decode': decode_rows(model, lengths, n_tokens=n_tokens, rounds=rounds, chunk_tokens=chunk,
                                  bandwidth=bandwidth),
            'prediction': prediction_rows(model, min(2048, seen), chunk, rounds),
            'points': points}


def run(values: dict, out: Path | None, *, shape_names: list[str], longest: int, seconds: float, n_tokens: int,
        rounds: int) -> int:
    """Measure every shape, print and write. Without `out` the file is build/bench/device_<name of the device>.json."""
    device = choose_device(values['device'])
    bandwidth = read_bandwidth(device)
    print(f'{describe_device(device)["device"]} reads {bandwidth / 1e9:.0f} GB/s')
    found = []
    for shape in shape_names:
        with tempfile.TemporaryDirectory(prefix='timebill_shape_') as folder:
            directory = shapes.write(Path(folder) / shape, shape)
            try:
                found.append(of_shape(values, directory, shape, longest=longest, seconds=seconds, n_tokens=n_tokens,
                                      rounds=rounds, bandwidth=bandwidth))
                _show(found[-1])
            except (ProfileError, RuntimeError) as error:  # too slow for two lengths, or too large for the memory
                print(f'{shape} could not be measured: {error}')
                found.append({'shape': shape, 'error': str(error)})
        gc.collect()
        if device.type == 'cuda':
            torch.cuda.empty_cache()
    name = ''.join(c if c.isalnum() else '_' for c in describe_device(device)['device'].split(',')[0]).strip('_')
    out = out or Path('build/bench') / f'device_{name}.json'
    write(out, {'machine': describe_device(device), 'read_bandwidth_bytes_per_s': bandwidth, 'shapes': found})
    measured = [one for one in found if 'decode' in one]
    if measured and (plots := plots_if_installed()):
        plots.device(measured, out.with_suffix('.png'))
    return 0 if all('error' not in one for one in found) else 1


def _show(result: dict) -> None:
    table = Table('method', 'cache', 'evicted', 'ms per token', 'p99.9 ms', 'against generate', 'of the bandwidth',
                  title=f'{result["shape"]} in {result["dtype"]}, loaded in {result["load_s"]:.1f} s, '
                  + result['steps'].get(result['dtype'], 'through its modules'))
    for r in result['decode']:
        table.add_row(r['method'], str(r['cache_tokens']), f'{r["eviction_ratio"]:.0%}', f'{r["median_ms"]:.3f}',
                      f'{r["p99.9_ms"]:.3f}', f'{r["speedup"]:.2f}x', f'{r["share_of_bandwidth"]:.0%}')
    print_table(table)
    for r in result['held_out']:
        print(f'{r["kind"]} at {r["lengths"]} held-out lengths from {r["from_tokens"]}: mean error {r["mape"]:.1%}')
    for r in result['prediction']:
        print(f'prefill of {r["prompt_tokens"]} tokens, {r["setting"]}: {1e3 * r["prefill_s"]:.1f} ms, prediction '
              f'{1e3 * r["prediction_s"]:.1f} ms')
