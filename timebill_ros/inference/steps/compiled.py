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

"""The step compiled ahead of time and kept on disk: no Python between one kernel and the next.

A step through transformers' modules is some hundreds of Python and dispatcher calls. For a small model these take
longer than the arithmetic. compiling.py compiles the model's own forward for one token and a cache of
any length; the file is loaded by every later start. Weights and cache slots stay those of the model: eviction works as
before, and a step reads only the entries that are kept. Nothing is compiled while goals run.
"""
from __future__ import annotations

import json
import logging
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.one_time_work import one_time_work
from timebill_ros.inference.start_progress import STEPS, this_start
from timebill_ros.inference.steps import ahead_of_time, layered, toolkit
from timebill_ros.inference.steps.comparison import StepDiffers
from timebill_ros.inference.steps.compiling import compile_step
from timebill_ros.inference.steps.interface import Step, StepUnavailable
from timebill_ros.inference.steps.layer_modules import split
from timebill_ros.inference.steps.program import Program
from timebill_ros.resources import key_of, write_whole

log = logging.getLogger(__name__)

REVISION = 11  # of what is compiled; files of another revision are not loaded
TRIES = 2  # starts that may fail to compile a step (memory or disk may be full) before it is given up


class CompiledStep(Step):
    """A compiled step of one model on one cache, whose slots are allocated.

    `weights`: the model's tensors by the names that they have in the trace, of an ExactStep (step_module.py); the model
    keeps them.
    """

    kind = 'compiled'

    def __init__(self, package: Path, weights: dict[str, torch.Tensor], cache: SlotCache):
        program = Program(package, weights, cache.device)
        self._weights, self._run = program.weights, program.run
        self._program = program
        self._cache = cache
        self._states = [*(layer.keys for layer in cache.layers), *(layer.values for layer in cache.layers)]
        self._sliding = [(3 + i, layer) for i, layer in enumerate(cache.layers) if layer.is_sliding]
        # Layers that do not slide are evicted alike, so they are equally long.
        self._whole = next((layer for layer in cache.layers if not layer.is_sliding), cache.layers[0])
        self._filled = torch.zeros(cache.capacity, dtype=torch.long, device=cache.device)

    def __call__(self, token, position):
        cache = self._cache
        if max(layer.length for layer in cache.layers) >= cache.capacity:
            raise ValueError(f'the cache holds one sequence of {cache.capacity} tokens')
        n = self._whole.length + 1
        inputs = [token, position, self._filled[:n], *self._states]
        n_layers = len(cache.layers)
        for i, layer in self._sliding:
            end = layer.length + 1
            start = max(0, end - layer.sliding_window)
            inputs[i], inputs[i + n_layers] = layer.keys[:, :, start:end], layer.values[:, :, start:end]
        outputs = self._run(inputs)
        cache.advance()
        return outputs[0], outputs[1]


def prepare(model: nn.Module, cache: SlotCache, facts: list[str], directory: Path, *, judge: Callable) -> Step:
    """Return the compiled step of `model`, from `directory` or made now.

    StepUnavailable with a sentence where it cannot be had. `cache` holds two entries of a sequence or more; `facts`
    identify model, precision, device and versions. `judge(step)` compares with the modules and returns a
    choice.Judgement. What is found out about a model is kept in `directory` too: that it cannot be traced, that its
    modules are faster, or that they compute something else (StepDiffers).
    """
    if refusal := ahead_of_time.refusal():
        raise StepUnavailable(refusal)
    try:
        return _prepare(model, cache, facts, directory, judge)
    except OSError as error:
        raise StepUnavailable(f'{directory} cannot be used: {error}') from error


def _prepare(model: nn.Module, cache: SlotCache, facts: list[str], directory: Path, judge: Callable) -> Step:
    _check_owner(directory)
    key = key_of([*facts, str(cache.capacity), str(REVISION)])
    notes = directory / f'{key}.json'
    known = _read(notes)
    if known is None or not known['reason'] or known.get('tried', TRIES) < TRIES:
        recipes = _recipes(model, cache, directory / f'{key}.pt2')
        if known is not None and not known['reason'] and (step := _load(recipes)) is not None:
            return step
        with one_time_work() as work:
            tried = known.get('tried', 0) if known else 0

            def about_to_run():  # native code that is wrong may end the process; then this note is what stays
                write_whole(notes, json.dumps({'reason': 'the process ended when its compiled step ran for the first '
                                                         'time', 'tried': tried + 1, 'facts': facts}, indent=1) + '\n')

            known, step = _make(recipes, cache, facts, judge, about_to_run)
            if 'tried' in known:
                known['tried'] += tried
            write_whole(notes, json.dumps(known, indent=1) + '\n')
            work.kept = known.get('tried', TRIES) >= TRIES  # otherwise the next start tries it again
    if known['reason']:
        kind = StepDiffers if known.get('differs') else StepUnavailable
        raise kind(f'{known["reason"]} (noted in {notes})')
    return step


@dataclass(frozen=True)
class Recipe:
    """One way to compile a step: `compile` makes `files`, `load` returns the step that is in them."""

    files: list[Path]
    compile: Callable[[], None]
    load: Callable[[], Step]


def _recipes(model: nn.Module, cache: SlotCache, package: Path) -> list[Recipe]:
    """Return the ways to compile this step, the best first."""
    weights = {name: tensor for tensors in (model.named_parameters, model.named_buffers)
               for name, tensor in tensors(prefix='model', remove_duplicate=False)}
    recipes = [Recipe([package], lambda: compile_step(model, cache, package, weights),
                      lambda: CompiledStep(package, weights, cache))]
    try:
        parts = split(model, cache)
        files = layered.packages(package, parts)
        recipes.append(Recipe(files, lambda: layered.compile_layers(parts, cache, files),
                              lambda: layered.LayeredStep(parts, files, cache)))
        if len(cache.layers) >= layered.MANY:
            recipes.reverse()
    except Exception as error:  # models do anything between their layers
        log.info('the decode step is compiled as a whole, or not: %s', one_line(error))
    return recipes


def _load(recipes: list[Recipe]) -> Step | None:
    """Return the step that is on disk; None where it has to be made again."""
    for recipe in recipes:
        if all(file.is_file() for file in recipe.files):
            try:
                return recipe.load()
            except Exception as error:  # whatever has become of the files
                log.warning('%s cannot be loaded and is made again: %s', recipe.files[0], one_line(error))
                for file in recipe.files:
                    file.unlink(missing_ok=True)
    return None


def _check_owner(directory: Path) -> None:
    """Make sure that nobody else can have put a file there: what lies there is run as code."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = directory.stat()
    if state.st_uid not in (os.getuid(), 0) or state.st_mode & stat.S_IWOTH:
        raise StepUnavailable(f'others may write to {directory}, and code from there would be run; see cache_dir')


def _read(notes: Path) -> dict | None:
    try:
        known = json.loads(notes.read_text())
        return known if isinstance(known.get('reason'), str) else None
    except (OSError, ValueError, AttributeError):
        return None


def _make(recipes: list[Recipe], cache: SlotCache, facts: list[str], judge: Callable,
          about_to_run: Callable[[], None]) -> tuple[dict, Step | None]:
    """Compile by the first recipe that works: (what was found out, the step). `about_to_run` is called before it runs.

    ToolkitMissing where this machine lacks something that can be installed: so it is not noted.
    """
    toolkit.check(cache.device)
    log.info('compiling the decode step, once for this model and device')
    this_start.make('compiling', STEPS.usual_s)
    start_s = time.monotonic()
    for recipe in recipes:
        try:
            recipe.compile()
            about_to_run()
            step = recipe.load()
            this_start.tell('comparing with the modules', share=0.9)
            judgement = judge(step)
            break
        except Exception as error:  # tracers and compilers raise errors of many kinds
            toolkit.check_error(error)
            reason = f'its step cannot be compiled ({one_line(error)})'
            if recipe is not recipes[-1]:
                log.info('the decode step is compiled in another way: %s', one_line(error))
    else:
        return {'reason': reason, 'tried': 1, 'facts': facts}, None
    log.info('compiled in %.1f s: a step takes %.3f ms, through the modules %.3f ms', time.monotonic() - start_s,
             1e3 * judgement.step_s, 1e3 * judgement.modules_s)
    return {'reason': judgement.objection, 'differs': judgement.differs, 'compiled_s': judgement.step_s,
            'modules_s': judgement.modules_s, 'facts': facts}, step


def one_line(error: Exception) -> str:
    """Return the first line of an error, fit for a log: tracers, compilers and captures raise long ones."""
    return f'{type(error).__name__}: {(str(error).strip() or "no message").splitlines()[0][:200]}'
