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

"""What is chosen by trying it on this device: the size of prefill's chunks, and where the length predictor runs.

Each is tried once, and the choice is kept in `<cache_dir>/tuning`: a profile holds for one choice only, and where two
options are about equally quick, the next try might find the other. A choice of chunks that was made on a busy machine
is made again once the machine is much quicker.
"""
from __future__ import annotations

import json
import logging
import random
import statistics
import time
from collections.abc import Callable, Container
from pathlib import Path

import torch

from timebill_ros.inference.board import clock_limits, power_mode
from timebill_ros.inference.devices import device_name
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.one_time_work import one_time_work
from timebill_ros.inference.start_progress import this_start
from timebill_ros.inference.threads import for_prefill
from timebill_ros.length.prediction import PredictionExecutor
from timebill_ros.resources import key_of, write_whole

log = logging.getLogger(__name__)

LOOK_S = 0.04  # longest time that prefill computes between two looks at cancels and the deadline
MIN_CHUNK, MAX_CHUNK = 16, 2048  # tokens
TRIALS = 3
MUCH_QUICKER = 0.5  # of the time that a chunk took when it was chosen: from there on it is chosen again

# Where the length predictor may run while prefill does: with the model on a CPU, and with the model on a GPU.
ON_CPU = {'beside': 'on cores that prefill leaves to it', 'shared': 'on the cores that prefill computes on'}
ON_GPU = {'beside': 'on a stream of lower priority of the same GPU', 'cpu': 'on the CPU'}


def kept(directory: Path, what: str, facts: list[str], options: Container, choose: Callable[[], dict],
         holds: Callable[[dict], bool] = lambda known: True) -> dict:
    """Return what `choose` found for the same `facts` at an earlier start, or call it now and keep what it finds.

    That is {'chosen': one of `options`, 'seconds': {option: seconds}, ...}. `holds` is asked whether what was kept is
    good for this start too; its options are strings then. `directory` holds one file for each `what` and `facts`. A
    file that cannot be used is ignored; one that cannot be written is a warning.
    """
    path = directory / f'{what}-{key_of(facts)}.json'
    try:
        known = json.loads(path.read_text())
        if known['chosen'] in options and isinstance(known['seconds'], dict) and holds(known):
            return known
    except (OSError, ValueError, TypeError, KeyError):
        pass
    with one_time_work() as work:
        found = choose()
        try:
            write_whole(path, json.dumps({**found, 'facts': facts}, indent=1) + '\n')
        except OSError as error:
            work.kept = False
            log.warning('the choice of %s could not be kept: %s', what, error)
    return found


def _device_facts(model: CausalLM) -> list[str]:
    """Return what a choice is valid for: in another power mode, a device is another one."""
    return [device_name(model.device), power_mode(), clock_limits(model.device)]


# -- chunks of prefill ------------------------------------------------------------------------------------------------

def chunk_tokens(model: CausalLM, directory: Path) -> int:
    """Return the chunk size, in tokens, of the quickest prefill that still looks at the deadline every LOOK_S.

    On a machine that was busy when it was tried, small chunks were chosen, because large ones took too long. So a
    choice is made again where its chunk takes much less time now.
    """
    def holds(known: dict) -> bool:
        size = known['chosen']
        chosen_at_s = float(known['seconds'][str(size)])
        now_s = _seconds_of_prefill(model, [0] * size, size)  # once: what disturbs it makes it slower only
        model.reset()
        if now_s < MUCH_QUICKER * chosen_at_s:
            log.info('prefill reads %d tokens in %.0f ms, where it took %.0f ms when chunks of this size were chosen; '
                     'they are chosen again', size, 1e3 * now_s, 1e3 * chosen_at_s)
            return False
        return True

    facts = [model.fingerprint, model.variant, *_device_facts(model)]
    return kept(directory, 'chunk', facts, range(MIN_CHUNK, MAX_CHUNK + 1), lambda: choose_chunk(model),
                holds)['chosen']


def choose_chunk(model: CausalLM) -> dict:
    """Time chunks of every power of two on an empty cache, until looks are over LOOK_S apart; choose the quickest.

    A large chunk is not always quicker than two small ones, whose activations fit the processor's caches. Over a full
    cache all of them take longer.
    """
    seconds: dict[int, float] = {}
    size = MIN_CHUNK
    while size <= min(MAX_CHUNK, max(MIN_CHUNK, model.max_context // 2)):
        this_start.tell(f'{size} tokens')
        seconds[size] = min(_seconds_of_prefill(model, [0] * size, size) for _ in range(TRIALS))
        if seconds[size] > LOOK_S * model.looks_per_chunk and size > MIN_CHUNK:
            del seconds[size]
            break
        size *= 2
    model.reset()
    chosen = max(seconds, key=lambda size: size / seconds[size])
    log.info('prefill reads chunks of %d tokens', chosen)
    return {'chosen': chosen, 'seconds': seconds}


def _seconds_of_prefill(model: CausalLM, ids: list[int], chunk: int) -> float:
    with model.stream.entered():  # as the engine does
        model.reset()
        model.synchronize()
        start = time.perf_counter()
        model.prefill(ids, chunk_tokens=chunk)
        model.synchronize()
        return time.perf_counter() - start


# -- the length predictor ---------------------------------------------------------------------------------------------

def place(model: CausalLM, make: Callable[[torch.device], PredictionExecutor], wanted: str, *, fingerprint: str,
          threads: int, chunk: int, directory: Path) -> PredictionExecutor:
    """Make the length predictor where `wanted` says: a key of ON_CPU or ON_GPU, or 'auto', the best one found by trial.

    `make(device)` loads it on a device. `fingerprint`: the predictor's files; `threads`: the CPU threads it computes
    on; `chunk`: tokens of a prefill chunk; `directory`: see `kept`. Also sets how many CPU threads the model's prefill
    uses beside it. ValueError for a placement that this device does not have.
    """
    on_cpu = model.device.type == 'cpu'
    places = ON_CPU if on_cpu else ON_GPU
    options = {name: model.threads for name in places}  # placement: CPU threads that prefill uses then
    if on_cpu:
        options['beside'] = for_prefill(model.threads, beside=threads)
    if wanted != 'auto' and wanted not in options:
        raise ValueError(f'predictor_placement {wanted!r} is not to be had with a model on {model.device}, '
                         f'only {" and ".join(options)}')
    made: dict[str, PredictionExecutor] = {}  # by device; only for placements that are tried or chosen

    def executor_at(name: str) -> PredictionExecutor:
        device = torch.device('cpu') if name == 'cpu' else model.device
        if str(device) not in made:
            made[str(device)] = make(device)
        return made[str(device)]

    found = {'chosen': wanted}
    if wanted == 'auto' and on_cpu and len(set(options.values())) == 1:
        found = {'chosen': 'beside'}  # prefill has as many threads either way, so there is nothing to try
    elif wanted == 'auto':
        facts = [model.fingerprint, model.variant, *_device_facts(model), fingerprint, str(threads), str(chunk)]
        found = kept(directory, 'placement', facts, options, lambda: choose_placement(
            model, {name: executor_at(name) for name in options}, options, chunk))
    chosen = found['chosen']
    executor = executor_at(chosen)
    for other in made.values():
        if other is not executor:
            other.close()
    model.prefill_threads, executor.placement = options[chosen], chosen
    compared = ', '.join(f'{name} {1e3 * seconds:.0f} ms' for name, seconds in found.get('seconds', {}).items())
    log.info('the length predictor runs %s%s', places[chosen], f'; prefill of {found.get("prompt_tokens")} tokens and '
             f'its prediction take: {compared}' if compared else '')
    return executor


def choose_placement(model: CausalLM, executors: dict[str, PredictionExecutor], threads: dict[str, int],
                     chunk: int) -> dict:
    """Choose the placement in which prefill and prediction of one prompt are both done first: the plan needs both.

    `executors` and `threads` (of prefill): by placement. The prompt has random tokens, at most two chunks of them.
    """
    draw = random.Random(0)
    n = min(2 * chunk, model.max_context - 2)
    ids = [draw.randrange(len(model.tokenizer)) for _ in range(n)]
    text = model.tokenizer.decode(ids)
    seconds: dict[str, list[float]] = {name: [] for name in executors}
    for trial in range(TRIALS + 1):
        for name, executor in executors.items():
            model.prefill_threads = threads[name]
            start = time.perf_counter()
            future = executor.submit(text, n)
            _seconds_of_prefill(model, ids, chunk)
            future.result()
            if trial:  # the first one warms up
                seconds[name].append(time.perf_counter() - start)
    model.reset()
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {'chosen': min(medians, key=medians.get), 'prompt_tokens': n, 'seconds': medians}
