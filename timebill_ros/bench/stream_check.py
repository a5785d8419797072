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

"""Whether this device's streams, waits and memory do what the engine relies on, checked on the device itself.

    python -m timebill_ros.bench.stream_check --shape tiny --out folder

A CPU has no streams, and what it computes is done when a call returns. There the same checks say that nothing is waited
for in vain; how waits tell streams apart only a GPU can show.
"""
from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from timebill_ros.bench import shapes
from timebill_ros.bench.check_command import run_check
from timebill_ros.bench.machine import describe, write
from timebill_ros.inference.board import board, clock_limits, power_mode
from timebill_ros.inference.devices import choose_device, computes_in_bfloat16
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.streams import Stream, stream_on

BUSY_S = 0.5  # about how long another stream is kept busy
CHUNK, CHUNKS = 64, 16  # tokens, and how many of them the prompt of these checks has
SPARE_SHARE = 1.15  # peak memory of loading, as a share of the weights
SPARE_BYTES = 600 << 20  # and what libraries take besides


def keep_busy(stream: Stream, device: torch.device) -> float:
    """Keep a GPU's stream busy for about BUSY_S; return the seconds that asking for it took."""
    start_s = time.perf_counter()
    if device.type == 'cuda':
        with stream.entered(ordered=False):
            cycles_per_s = 1e3 * getattr(torch.cuda.get_device_properties(device), 'clock_rate', 1_000_000)  # kHz
            torch.cuda._sleep(int(BUSY_S * cycles_per_s))
    return time.perf_counter() - start_s


def waits(model: CausalLM) -> dict:
    """Check that the model's wait is for its own work: another stream is busy meanwhile."""
    other = stream_on(model.device)
    prompt = _prompt(CHUNK)
    with model.stream.entered():
        model.reset()
        # CUDA loads a kernel at its first call, and that waits for the whole device.
        model.prefill(prompt, chunk_tokens=CHUNK)
        model.synchronize()
        keep_busy(other, model.device)
        start_s = time.perf_counter()
        model.reset()
        model.prefill(prompt, chunk_tokens=CHUNK)
        model.synchronize()
        own_s = time.perf_counter() - start_s
    with other.entered(ordered=False):
        other.wait()
    all_s = time.perf_counter() - start_s
    return {'check': "the model's wait leaves out other streams", 'own_s': own_s, 'other_s': all_s,
            'right': type(other) is Stream or own_s < all_s / 2}  # a CPU's: never busy


def stops(model: CausalLM) -> dict:
    """Check that a cancel in the first chunk ends prefill early: the device is not given all chunks at once."""
    prompt = _prompt(CHUNK * CHUNKS)

    def seconds(should_stop: Callable[[], bool]) -> float:
        with model.stream.entered():
            model.synchronize()
            start_s = time.perf_counter()
            model.reset()
            model.prefill(prompt, chunk_tokens=CHUNK, should_stop=should_stop)
            model.synchronize()
            return time.perf_counter() - start_s

    whole_s = min(seconds(lambda: False) for _ in range(3))
    canceled_s = time.perf_counter() + whole_s / CHUNKS
    stopped_s = seconds(lambda: time.perf_counter() > canceled_s)
    return {'check': 'prefill sees a cancel at every chunk', 'whole_s': whole_s, 'stopped_s': stopped_s,
            'right': stopped_s < whole_s / 2}


def memory(load: Callable[[], CausalLM], device: torch.device) -> tuple[CausalLM, dict]:
    """Load a model, and check that its weights were in the device's memory once at most."""
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    host_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    model = load()
    weights = sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
                   for one in model.model.parameters()}.values())
    cache = sum(layer.keys.nbytes + layer.values.nbytes for layer in model.cache.layers)
    host = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - host_before
    peak = torch.cuda.max_memory_allocated(device) if device.type == 'cuda' else host
    return model, {'check': 'weights are in memory once', 'weights': weights, 'cache': cache, 'peak': peak,
                   'host_peak': host, 'right': peak < SPARE_SHARE * weights + cache + SPARE_BYTES}


def facts(device: torch.device) -> dict:
    """Return what the identity of a profile would say of this machine."""
    return {'board': board(), 'power_mode': power_mode(), 'clock_limits': clock_limits(device),
            'bfloat16': device.type != 'cuda' or computes_in_bfloat16(device)}


def run(shape: str, name: str, out: Path) -> bool:
    """Check one shape and write `out`/streams_<shape>.json; return whether everything was right."""
    device = choose_device(name)
    transformers.utils.logging.disable_progress_bar()  # the output is a log
    with tempfile.TemporaryDirectory(prefix='timebill_streams_') as folder:
        directory = shapes.write(Path(folder) / shape, shape)
        model, loaded = memory(lambda: CausalLM(str(directory), device=name, max_context_tokens=2048), device)
        rows = [loaded, waits(model), stops(model)]
        found = {'machine': describe(model), 'shape': shape, 'facts': facts(device), 'checks': rows,
                 'right': all(row['right'] for row in rows)}
    write(out / f'streams_{shape}.json', found)
    told = ', '.join(f'{key} {value or "not known"}' for key, value in found['facts'].items())
    print(f'{shape} on {device}: {told}')
    for row in rows:
        figures = ', '.join(f'{key} {value:.4g}' for key, value in row.items() if key not in ('check', 'right'))
        print(f'  {"ok   " if row["right"] else "WRONG"} {row["check"]} ({figures})')
    if device.type != 'cuda':
        print('  not checked: waits beside another stream, which a CPU does not have')
    return found['right']


def _prompt(n: int) -> list[int]:
    return [(11 + 37 * i) % shapes.WORDS for i in range(n)]


if __name__ == '__main__':
    sys.exit(run_check(__doc__, run))
