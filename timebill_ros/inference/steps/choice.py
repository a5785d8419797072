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
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.start_progress import STEPS, this_start
from timebill_ros.inference.steps import attention_choice, captured, chain_comparison, compiled, fused, toolkit
from timebill_ros.inference.steps.comparison import N_STEPS, Comparison, StepDiffers
from timebill_ros.inference.steps.interface import Step, StepUnavailable
from timebill_ros.inference.steps.layer_calls import NotSplit
from timebill_ros.inference.steps.modules import ModuleStep
from timebill_ros.inference.steps.toolkit import ToolkitMissing
from timebill_ros.inference.variants import as_stored

log = logging.getLogger(__name__)

NONE_COMPILED = 'compile_step asks for none that are compiled'
SLOWER = 1.05  # a captured step may take this many times the next best: timing it again must not choose anew


@dataclass(frozen=True)
class Judgement:
    """What a comparison with the modules found. `objection` says why the step is not used; empty: it is."""

    objection: str
    step_s: float  # median seconds of one step
    modules_s: float  # the same through the modules
    differs: bool = False  # the objection is that the step computes something else


def choose(modules: ModuleStep, token: torch.Tensor, position: torch.Tensor, *, name: str, facts: list[str],
           directory: Path | None) -> Step:
    """Return the fastest step that computes what `modules` computes, on the same cache.

    `token` and `position`, int64 [1, 1], are the tensors that later calls pass. `name` is the model's, for the log.
    `facts` identify model, precision, device and versions: on a CPU compiled steps in `directory` are kept for them;
    None: nothing is compiled. The cache holds entries of varied tokens, two or more, and room for as many; they stay.
    """
    refusal = capture_refusal(modules.cache)
    if not refusal:
        return _captured(modules, token, position, name, fuses=directory is not None)
    if modules.cache.device.type == 'cuda':
        log.info('decode steps of %s run through its modules: they are no CUDA graphs, because %s', name, refusal)
        return modules
    try:
        if directory is None:
            raise StepUnavailable(NONE_COMPILED)
        model, reads = as_stored(modules.model)
        step = compiled.prepare(model, modules.cache, [*facts, f'from {reads}'] if reads else facts, directory,
                                judge=lambda step: judge_compiled(modules, step, token, position))
        step.reads = reads
        return step
    except StepUnavailable as error:
        _tell(f'decode steps of {name} run through its modules: {error}', error)
        return modules


def _captured(modules: ModuleStep, token: torch.Tensor, position: torch.Tensor, name: str, fuses: bool) -> Step:
    """Return CUDA graphs: of fused layers, else of the modules; else `modules`."""
    modules.cache.clear_on_reset()  # steps of fixed size read slots that are not filled
    _choose_attention(modules)
    try:
        if not fuses:
            raise StepUnavailable(NONE_COMPILED)
        toolkit.check(modules.cache.device)
        this_start.make('fusing layers', STEPS.usual_s)
        return capture(modules, _fused(modules), token, position)
    except StepUnavailable as error:
        _tell(f'decode steps of {name} have no fused layers: {error}', error)
    try:
        return capture(modules, modules, token, position)
    except StepUnavailable as error:
        _tell(f'decode steps of {name} are no CUDA graphs: {error}', error)
        return modules


def _fused(modules: ModuleStep) -> Step:
    try:
        return fused.FusedStep(modules.model, modules.cache)
    except NotSplit as error:
        raise StepUnavailable(str(error)) from error


def _choose_attention(modules: ModuleStep) -> None:
    n_heads = modules.model.config.get_text_config(decoder=True).num_attention_heads
    try:
        attention_choice.choose(modules.cache, n_heads, captured.capturer(modules.cache.device))
    except Exception as error:  # whatever a device lacks: attention goes on as where nothing was timed
        log.info('attention could not be timed: %s', compiled.one_line(error))


def _tell(sentence: str, error: StepUnavailable) -> None:
    """Log why a kind of step is not used: as a warning where it would be quicker, but is wrong or cannot be made."""
    log.log(logging.WARNING if isinstance(error, (StepDiffers, ToolkitMissing)) else logging.INFO, '%s', sentence)


def capture_refusal(cache: SlotCache) -> str:
    """Return why steps on `cache` cannot be captured as CUDA graphs; empty where they can."""
    if cache.device.type != 'cuda':
        return 'there are none on this device'
    if any(layer.is_sliding for layer in cache.layers):
        return 'layers with a sliding window stay longer than the others, once these are evicted'
    return ''


def judge_compiled(modules: ModuleStep, step: Step, token: torch.Tensor, position: torch.Tensor) -> Judgement:
    """Compare a compiled step with the modules, over few, half and nearly all slots of the cache."""
    capacity = modules.cache.capacity
    with closing(Comparison(modules, token, position)) as comparison:
        modules_s, step_s = comparison.times([modules, step], comparison.n_entries)
        try:
            for n in sorted({comparison.n_entries, capacity // 2, capacity - N_STEPS, capacity - 1}):
                comparison.check(step, n)
        except StepDiffers as error:
            return Judgement(_with_cost(error, modules_s, step_s), step_s, modules_s, differs=True)
    return Judgement('its modules are as fast as its compiled step' if step_s >= modules_s else '', step_s, modules_s)


def _with_cost(error: StepDiffers, used_s: float, refused_s: float) -> str:
    return f'{error}; a step takes {1e3 * used_s:.3f} ms instead of {1e3 * refused_s:.3f} ms'


@torch.inference_mode()
def capture(modules: ModuleStep, best: Step, token: torch.Tensor, position: torch.Tensor) -> Step:
    """Capture `best` (fused layers, or the modules) as CUDA graphs.

    StepUnavailable where that is no gain, StepDiffers where one of the graphs computes something else.
    """
    cache, start_s = modules.cache, time.monotonic()
    known = [modules] if best is modules else [modules, best]
    with closing(Comparison(modules, token, position)) as comparison:
        try:
            step = captured.CapturedStep(best, cache)
            *others_s, step_s = comparison.times([*known, step], comparison.n_entries)
            used_s = min(others_s)
            _check_graphs(comparison, step)
            chain_comparison.check(step, cache, comparison.n_entries)
            for n in (comparison.n_entries, cache.capacity - 1):
                *others_s, step_s = comparison.times([*known, step], n)
                if step_s > SLOWER * min(others_s):
                    raise StepUnavailable(f'over {n} entries it takes {1e3 * step_s:.3f} ms, and '
                                          f'{1e3 * min(others_s):.3f} ms without')
        except StepDiffers as error:
            raise StepDiffers(_with_cost(error, used_s, step_s)) from error
        except StepUnavailable:
            raise
        except Exception as error:  # a capture may fail with errors of many kinds
            toolkit.check_error(error)
            raise StepUnavailable(compiled.one_line(error)) from error
    log.info('captured %d graphs of the decode step in %.1f s', step.n_graphs, time.monotonic() - start_s)
    return step


def _check_graphs(comparison: Comparison, step: Step) -> None:
    """Compare every graph: each where its bucket is full, and (a second step) where the next one begins."""
    capacity = comparison.cache.capacity
    for n in sorted({comparison.n_entries, *(length - 1 for length in captured.buckets(capacity))}):
        comparison.check(step, n)
