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

    how much of the prediction prefill hides, and whether eviction shortens steps as the profile says

`--seconds` bounds the profile of each shape, and `--minutes` the whole: 4 with `--quick`, otherwise 10. What it says
first of a shape is which steps are used and, if not the quickest kind, why.
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
from timebill_ros.bench import device_report, shapes, token_times
from timebill_ros.bench.machine import describe_device, write
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.bench.step_check import notes
from timebill_ros.inference.devices import choose_device
from timebill_ros.inference.model import CausalLM
from timebill_ros.length import length_predictor
from timebill_ros.length.prediction import PredictionExecutor
from timebill_ros.resources import embedded_directory
from timebill_ros.timing import fitting, profiling
from timebill_ros.timing.execution_time import ExecutionTimes, ProfileError
from timebill_ros.worker.loading import load_model

READ_BYTES = 1 << 30
RATIOS = (0.0, 0.5, 0.9)
PROFILE_SHARE = 0.35  # of the time for a shape, at most, may go into its profile


def read_bandwidth(device: torch.device, repeats: int = 7) -> float:
    """Return bytes a second: the best of `repeats` sums over a tensor that is too large for any cache."""
    values = torch.zeros(READ_BYTES // 4, dtype=torch.float32, device=device)
    best = float('inf')
    for _ in range(repeats):
        start = time.perf_counter()
        float(values.sum())
        best = min(best, time.perf_counter() - start)
    return READ_BYTES / best


def bytes_of_step(model: CausalLM, n_kv: int, variant: str = '') -> int:
    """Return the bytes that one decode step must read: the weights and the `n_kv` cache entries.

    An embedding that is not also the head does not count: a step reads one row of it. variant: the precision of the
    weights; empty: the model's own.
    """
    modules = model.variants[variant or model.variant]
    embedding = model.model.get_input_embeddings().weight
    tied = getattr(modules.get_output_embeddings(), 'weight', None) is embedding
    weights = sum(tensor.numel() * tensor.element_size() for tensors in (modules.parameters(), modules.buffers())
                  for tensor in tensors if tied or tensor is not embedding)
    entry = sum(2 * layer.keys.shape[1] * layer.keys.shape[3] * layer.keys.element_size()
                for layer in model.cache.layers)
    return weights + n_kv * entry


def held_out(model: CausalLM, profile, chunk_tokens: int, repeats: int) -> tuple[list[dict], fitting.Points]:
    """Return the errors of the profile's estimates at lengths between its own, and what was measured there.

    The errors are against medians by length.
    """
    points: fitting.Points = {}
    draw = random.Random(1)
    for n in token_times.between([n for n, _ in profile.points['prefill']]):
        for _ in range(repeats):
            profiling.add(points, profiling.visit(model, None, n, chunk_tokens, draw))
    rows = []
    for kind, least in (('prefill', 0), ('prefill', device_report.LONG_PREFILL), ('step', 0)):
        chosen = {kind: [[n, seconds] for n, seconds in points[kind] if n >= least]}
        if chosen[kind]:
            rows.append({'kind': kind, 'from_tokens': least, 'lengths': len({n for n, _ in chosen[kind]}),
                         'mape': fitting.errors(profile.times, chosen)[kind]})
    return rows, points


def decode_rows(model: CausalLM, times: ExecutionTimes, lengths: list[int], *, n_tokens: int, rounds: int,
                chunk_tokens: int, bandwidth: float, until_s: float) -> list[dict]:
    """Return a row per method, length and eviction: our token loop and `model.generate`, in interleaved rounds.

    There is one row more for each other precision that the model can decode with. No round begins after `until_s`
    (monotonic) but the first that counts.
    """
    reference = AutoModelForCausalLM.from_pretrained(model.name, dtype=model.dtype).to(model.device).eval()
    others = profiling.other_variants(model)
    keys = [(method, n, ratio, variant) for n in lengths for method, ratio, variant in
            [('model.generate', 0.0, ''), *(('timebill', ratio, '') for ratio in RATIOS),
             *((f'timebill in {variant}', 0.0, variant) for variant in others)]]
    seconds: dict[tuple, list[float]] = {key: [] for key in keys}
    draw = random.Random(2)
    for index in range(rounds + 1):
        if index > 1 and time.monotonic() > until_s:
            break
        for key in draw.sample(keys, len(keys)):
            method, n, ratio, variant = key
            prompt = [draw.randrange(1, shapes.WORDS) for _ in range(n)]
            taken = token_times.time_generate(reference, prompt, n_tokens) if method == 'model.generate' else \
                token_times.time_ours(model, prompt, n_tokens, chunk_tokens, ratio, variant)
            if index:  # the first round warms up
                seconds[key] += taken
    rows = []
    for (method, n, ratio, variant), taken in seconds.items():
        n_kv = int((1 - ratio) * n) + n_tokens // 2
        n_bytes = bytes_of_step(model, n_kv, variant)
        rows.append({'method': method, 'cache_tokens': n, 'eviction_ratio': ratio, **token_times.milliseconds(taken),
                     'tokens_per_s': 1 / median(taken), 'estimated_bytes': n_bytes,
                     'share_of_bandwidth': n_bytes / median(taken) / bandwidth,
                     'speedup': median(seconds['model.generate', n, 0.0, '']) / median(taken)})
        if method != 'model.generate':
            own = times.of_variant(variant) if variant else times
            rows[-1]['profiled_ms'] = 1e3 * own.step(n_kv)
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
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in executors}
    for _ in range(rounds + 1):
        for name, executor in executors.items():
            model.reset()
            model.synchronize()
            start = time.monotonic()
            future = executor.submit('w1 ' * n, n) if executor else None
            with stream_of[name]():
                model.prefill(prompt, chunk_tokens=chunk_tokens)
                model.synchronize()
            end = time.monotonic()
            predicted = future.result() if future else None
            found[name].append((end - start, *((predicted.seconds, predicted.hidden_s(start, end)) if predicted else
                                               (0.0, 0.0))))
    for executor in executors.values():
        if executor:
            executor.close()
    return [{'setting': name, 'prompt_tokens': n, 'prefill_s': median(p for p, _, _ in taken[1:]),
             'prediction_s': median(s for _, s, _ in taken[1:]),
             'hidden_share': median(hidden / s for _, s, hidden in taken[1:]) if executors[name] else None}
            for name, taken in found.items()]


def load(values: dict, directory: Path, shape: str, *, longest: int, n_tokens: int) -> tuple[CausalLM, int, dict]:
    """Load a shape, say which steps are used and why, and return the model, its chunk size and the result so far."""
    started = time.monotonic()
    print(f'{shape}:', flush=True)
    values = settings.check({**values, 'model': str(directory), 'length_predictor': '',
                             'max_context_tokens': longest + 4 * profiling.STEPS + n_tokens})
    with notes() as said:
        model, _, choices = load_model(values)
    kinds = {name: step.kind for name, step in model.steps.items()}
    for line in device_report.step_lines(kinds, said):
        print(f'  {line}', flush=True)
    return model, choices.prefill_chunk_tokens, {
        'shape': shape, 'dtype': model.variant, 'on': model.device.type, 'steps': kinds, 'step_notes': said,
        'load_s': time.monotonic() - started}


def measure(model: CausalLM, chunk: int, result: dict, *, longest: int, seconds: float, n_tokens: int, rounds: int,
            bandwidth: float, until_s: float) -> None:
    """Measure everything about one shape, and add it to `result`; about until the monotonic instant `until_s`."""
    seconds = min(seconds, max(PROFILE_SHARE * (until_s - time.monotonic()), 1.0))
    points = profiling.measure(model, None, chunk_tokens=chunk, budget_s=seconds, repeats=4, n_lengths=8,
                               longest=longest)
    profile = profiling.make_profile(model, None, points, chunk)
    seen = max(n for n, _ in points['prefill'])
    lengths = [n for n in (512, 4096, longest) if n <= seen] or [seen]
    errors, between = held_out(model, profile, chunk, repeats=2)
    result.update(
        times={name: value for name, value in vars(profile.times).items() if isinstance(value, (int, float))},
        fit_errors=profile.fit_errors, longest_profiled=seen, held_out=errors, held_out_points=between,
        eviction=[[n, s] for n, s in points.get('eviction', [])], points=points)
    result['prediction'] = prediction_rows(model, min(2048, seen), chunk, rounds)
    with model.stream.entered():  # as the engine does
        result['decode'] = decode_rows(model, profile.times, lengths, n_tokens=n_tokens, rounds=rounds,
                                       chunk_tokens=chunk, bandwidth=bandwidth, until_s=until_s)
    result['goals'] = device_report.goals(result)


def run(values: dict, out: Path | None, *, shape_names: list[str], longest: int, seconds: float, n_tokens: int,
        rounds: int, minutes: float) -> int:
    """Measure every shape, print and write, in about so many minutes; each has the same share of what is left.

    Without `out` the file is build/bench/device_<name of the device>.json. It is written after each shape.
    """
    device, until_s = choose_device(values['device']), time.monotonic() + 60.0 * minutes
    called = describe_device(device)['device']
    called = called if device.type == 'cuda' else called.split(',')[0]  # no thread count
    name = ''.join(c if c.isalnum() else '_' for c in called).strip('_')
    out = out or Path('build/bench') / f'device_{name}.json'
    found: list[dict] = []
    whole = {'machine': describe_device(device), 'shapes': found}
    for i, shape in enumerate(shape_names):
        share_s = (until_s - time.monotonic()) / (len(shape_names) - i)
        ends_s = time.monotonic() + share_s
        result = {'shape': shape}
        found.append(result)
        with tempfile.TemporaryDirectory(prefix='timebill_shape_') as folder:
            directory = shapes.write(Path(folder) / shape, shape)
            try:
                model, chunk, loaded = load(values, directory, shape, longest=longest, n_tokens=n_tokens)
                result.update(loaded)
                if 'read_bandwidth_bytes_per_s' not in whole:  # after the first lines, which say what steps are used
                    bandwidth = whole['read_bandwidth_bytes_per_s'] = read_bandwidth(device)
                    print(f'{whole["machine"]["device"]} reads {bandwidth / 1e9:.0f} GB/s', flush=True)
                measure(model, chunk, result, longest=longest, seconds=seconds, n_tokens=n_tokens, rounds=rounds,
                        bandwidth=bandwidth, until_s=ends_s)
                device_report.show(result)
            except (ProfileError, RuntimeError) as error:  # too slow for two lengths, or too large for the memory
                print(f'{shape} could not be measured: {error}')
                result['error'] = str(error)
            model = None  # its memory is for the next one
        gc.collect()
        if device.type == 'cuda':
            torch.cuda.empty_cache()
        write(out, whole)
    measured = [one for one in found if 'decode' in one]
    if measured and (plots := plots_if_installed()):
        plots.device(measured, out.with_suffix('.png'))
    return 0 if all('error' not in one for one in found) else 1
