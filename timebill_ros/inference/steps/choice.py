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

"""Which kind of step a model gets: the one place that tries, checks and chooses them.

A faster kind is used only where its logits are those of the modules, and where timing shows it to be no slower (a
captured step may take 5 % longer: SLOWER). Whatever fails on the way is logged with its reason, and the next best kind
is used: a model never fails to load for want of speed.
"""
from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.steps import captured, compiled
from timebill_ros.inference.steps.interface import Step, StepUnavailable
from timebill_ros.inference.steps.modules import ModuleStep

log = logging.getLogger(__name__)

TIMED_S = 1.0  # longest time for timing all kinds of step together
TIMED_STEPS = 30
SLOWER = 1.05  # a captured step may take this many times the next best: timing it again must not choose anew


@dataclass(frozen=True)
class Judgement:
    """What a comparison with the modules found. `objection` says why the step is not used; empty: it is."""

    objection: str
    step_s: float  # median seconds of one step
    modules_s: float  # the same through the modules


def choose(modules: ModuleStep, token: torch.Tensor, position: torch.Tensor, *, name: str, facts: list[str],
           directory: Path) -> Step:
    """Return the fastest step that computes what `modules` computes, on the same cache.

    `token` and `position`, int64 [1, 1], are the tensors that later calls pass. `name` is the model's, for the log.
    `facts` identify model, precision, device and versions: compiled steps in `directory` are kept for them. The cache
    holds two entries of a sequence or more; they stay.
    """
    cache, best = modules.cache, modules
    refusal = capture_refusal(cache)
    if not refusal:
        cache.clear_on_reset()  # both kinds of fixed size below read slots that are not filled
    try:
        best = compiled.prepare(modules.model, cache, facts, directory, bucketed=not refusal,
                                judge=lambda step: judge_compiled(modules, step, token, position))
    except StepUnavailable as error:
        log.info('decode steps of %s run through its modules: %s', name, error)
    if refusal:
        if cache.device.type == 'cuda':
            log.info('decode steps of %s are no CUDA graphs: %s', name, refusal)
        return best
    try:
        return capture(modules, best, token, position)
    except StepUnavailable as error:
        log.info('decode steps of %s are no CUDA graphs: %s', name, error)
        return best


def capture_refusal(cache: SlotCache) -> str:
    """Return why steps on `cache` cannot be captured as CUDA graphs; empty where they can."""
    if cache.device.type != 'cuda':
        return 'there are none on this device'
    if any(layer.is_sliding for layer in cache.layers):
        return 'layers with a sliding window stay longer than the others, once these are evicted'
    return ''


def judge_compiled(modules: ModuleStep, step: Step, token: torch.Tensor, position: torch.Tensor) -> Judgement:
    """Compare a compiled step with the modules. ValueError where its logits differ."""
    modules_s, step_s = compare([modules, step], modules.cache, token, position)
    return Judgement('its modules are as fast as its compiled step' if step_s >= modules_s else '', step_s, modules_s)


@torch.inference_mode()
def capture(modules: ModuleStep, best: Step, token: torch.Tensor, position: torch.Tensor) -> Step:
    """Capture `best` (compiled for buckets, or the modules) as CUDA graphs. StepUnavailable where that is no gain."""
    cache, start_s = modules.cache, time.monotonic()
    lengths = cache.lengths
    known = [modules] if best is modules else [modules, best]
    try:
        step = captured.CapturedStep(best, cache, token, position)
        # Few entries and as many as fit; slots that were never filled hold zeros.
        for n in {lengths[0], cache.capacity - 1}:
            cache.lengths = [n] * len(lengths)
            *others_s, step_s = compare([*known, step], cache, token, position)
            if step_s > SLOWER * min(others_s):
                raise ValueError(f'over {n} entries it takes {1e3 * step_s:.3f} ms, and {1e3 * min(others_s):.3f} ms '
                                 'without')
    except Exception as error:  # a capture may fail with errors of many kinds
        raise StepUnavailable(compiled.one_line(error)) from error
    finally:
        cache.lengths = lengths
    log.info('captured %d graphs of the decode step in %.1f s', step.n_graphs, time.monotonic() - start_s)
    return step


@torch.inference_mode()
def compare(steps: list[Step], cache: SlotCache, token: torch.Tensor, position: torch.Tensor) -> list[float]:
    """Time steps against each other, interleaved: median seconds of each.

    ValueError where the logits of one differ from those of the first by more than rounding. `token` and `position`
    [1, 1] are what the steps are called with; the cache is left as it was.
    """
    lengths = cache.lengths
    position.fill_(lengths[0])

    def timed(step: Step) -> tuple[torch.Tensor, float]:
        cache.lengths = lengths
        start_s = time.perf_counter()
        logits, _ = step(token, position)
        logits.argmax().item()  # waits for the device
        return logits, time.perf_counter() - start_s

    expected, *found = [timed(step)[0].clone() for step in steps]
    rounding = torch.finfo(expected.dtype).eps ** 0.5
    if not all((got.float() - expected.float()).norm() <= rounding * expected.float().norm() for got in found):
        raise ValueError('its logits are not those of the modules')
    taken: list[list[float]] = [[] for _ in steps]
    until_s = time.perf_counter() + TIMED_S
    while len(taken[0]) < TIMED_STEPS and time.perf_counter() < until_s or not taken[0]:
        for step, seconds in zip(steps, taken, strict=True):
            seconds.append(timed(step)[1])
    cache.lengths = lengths
    return [median(seconds) for seconds in taken]
