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

"""The decode step, compiled ahead of time and kept on disk: no Python between one kernel and the next.

A step through transformers' modules is some hundreds of Python and dispatcher calls, which for a small model, or on a
fast GPU, take longer than its arithmetic. Here `torch.export` traces the model's own forward for one token and a cache
of any length, AOTInductor compiles the trace, and the file is loaded by every later start. The weights stay those of
the model, and so do the cache slots: eviction works as before, and a step reads only what is kept.

Nothing is compiled while goals run: the trace is for every cache length at once, so there is nothing left to do then.
"""
from __future__ import annotations

import inspect
import json
import logging
import os
import shutil
import stat
import time
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.steps.decode_step import BucketStep, ExactStep, compare, one_line, uses_buckets
from timebill_ros.resources import key_of, write_whole

log = logging.getLogger(__name__)

REVISION = 6  # of what is compiled; files of another one are not loaded
TRIES = 2  # starts that may fail to compile a step, as a full memory or disk may have it, before it is given up

SHORT_SUM = 4096  # numbers, from which Inductor sums in cascades

compilations = 0  # so far in this process


class NotCompiled(RuntimeError):
    """Why a model's step runs through its modules."""


class CompiledStep:
    """Steps of one model on one cache, whose slots are allocated. `weights`: the model's tensors by the names that
    they have in the trace; the model keeps them. `bucketed`: what was traced is a BucketStep.
    """

    kind = 'compiled'

    def __init__(self, package: Path, weights: dict[str, torch.Tensor], cache: SlotCache, *, bucketed: bool):
        load = torch._inductor.aoti_load_package
        # One thread runs steps; what would guard against more cannot be captured.
        alone = {'run_single_threaded': True} if 'run_single_threaded' in inspect.signature(load).parameters else {}
        self._compiled = load(str(package), **alone)
        constants = package.with_suffix('.safetensors')
        self._weights = {**weights, **(load_file(constants, str(cache.device)) if constants.is_file() else {})}
        self._compiled.load_constants(
            {name: self._weights[name] for name in self._compiled.get_constant_fqns()},
            check_full_update=True, user_managed=True)
        # Calling `_compiled` itself would parse the description of its arguments each time.
        loader = self._compiled.loader
        self._run = getattr(loader, 'boxed_run', None) or loader.run
        self._layers = cache.layers
        self._states = [*(layer.keys for layer in cache.layers), *(layer.values for layer in cache.layers)]
        self._sliding = [(3 + i, layer) for i, layer in enumerate(cache.layers) if layer.is_sliding]
        # Layers that do not slide are evicted alike, so they are equally long.
        self._whole = next((layer for layer in cache.layers if not layer.is_sliding), cache.layers[0])
        self._capacity = cache.capacity
        self._slot = torch.zeros(1, dtype=torch.long, device=cache.device) if bucketed else None
        self._filled = torch.zeros(cache.capacity, dtype=torch.long, device=cache.device)

    def __call__(self, token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Token id and position, int64 [1, 1] each -> logits [V]. No host synchronisation."""
        if max(layer.length for layer in self._layers) >= self._capacity:
            raise ValueError(f'the cache holds one sequence of {self._capacity} tokens')
        n = self._whole.length + 1
        if self._slot is not None:
            self._slot.fill_(n - 1)
            logits = self.run_bucket(token, position, self._slot, n)
        else:
            inputs = [token, position, self._filled[:n], *self._states]
            n_layers = len(self._layers)
            for i, layer in self._sliding:
                end = layer.length + 1
                start = max(0, end - layer.sliding_window)
                inputs[i], inputs[i + n_layers] = layer.keys[:, :, start:end], layer.values[:, :, start:end]
            logits = self._run(inputs)[0]
        for layer in self._layers:
            layer.length += 1
        return logits

    def run_bucket(self, token: torch.Tensor, position: torch.Tensor, slot: torch.Tensor, n: int) -> torch.Tensor:
        """A BucketStep over the first `n` slots; no layer's length changes."""
        return self._run([token, position, slot, self._filled[:n], *self._states])[0]


def prepare(model: nn.Module, cache: SlotCache, options: dict, facts: list[str], directory: Path) -> CompiledStep:
    """The compiled step of `model`, from `directory` or made now. NotCompiled with a sentence where it cannot be had.

    `cache` holds at least two entries of a sequence; `options` are the keywords that the model's forward takes
    besides, `facts` identify model, precision, device and versions. What is found out about a model is kept too: that
    it cannot be traced, or that its modules are faster.
    """
    import torch._inductor
    if not hasattr(torch._inductor, 'aoti_load_package'):
        raise NotCompiled(f'PyTorch {torch.__version__} has no ahead-of-time compiler that can be loaded from')
    try:
        return _prepare(model, cache, options, facts, directory)
    except OSError as error:
        raise NotCompiled(f'{directory} cannot be used: {error}') from error


def _prepare(model: nn.Module, cache: SlotCache, options: dict, facts: list[str], directory: Path) -> CompiledStep:
    _check_owner(directory)
    key = key_of([*facts, str(cache.capacity), str(REVISION)])
    package, notes = directory / f'{key}.pt2', directory / f'{key}.json'
    bucketed = uses_buckets(cache)
    weights = {name: tensor for tensors in (model.named_parameters, model.named_buffers)
               for name, tensor in tensors(prefix='model', remove_duplicate=False)}
    known = _read(notes)
    if known is not None and not known['reason'] and package.is_file():
        try:
            return CompiledStep(package, weights, cache, bucketed=bucketed)
        except Exception as error:  # whatever has become of the file
            log.warning('%s cannot be loaded and is made again: %s', package, one_line(error))
            known = None
    step = None
    if known is None or not known['reason'] or known.get('tried', TRIES) < TRIES:
        tried = known.get('tried', 0) if known else 0
        known, step = _make(model, cache, options, package, weights, facts, bucketed)
        if 'tried' in known:
            known['tried'] += tried
        write_whole(notes, json.dumps(known, indent=1) + '\n')
    if known['reason']:
        raise NotCompiled(f'{known["reason"]} (noted in {notes})')
    return step


def _check_owner(directory: Path) -> None:
    """What lies there is run as code: nobody else may have put it there."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = directory.stat()
    if state.st_uid not in (os.getuid(), 0) or state.st_mode & stat.S_IWOTH:
        raise NotCompiled(f'others may write to {directory}, and code from there would be run; see cache_dir')


def _read(notes: Path) -> dict | None:
    try:
        known = json.loads(notes.read_text())
        return known if isinstance(known.get('reason'), str) else None
    except (OSError, ValueError, AttributeError):
        return None


def _make(model: nn.Module, cache: SlotCache, options: dict, package: Path, weights: dict[str, torch.Tensor],
          facts: list[str], bucketed: bool) -> tuple[dict, CompiledStep | None]:
    """Compiles to `package`; what was found out, and the step. NotCompiled where this machine lacks a compiler, which
    may change.
    """
    if cache.device.type == 'cpu' and not any(map(shutil.which, [os.environ.get('CXX', 'g++'), 'clang++'])):
        raise NotCompiled('no C++ compiler is installed (g++, clang++ or $CXX)')
    log.info('compiling the decode step, once for this model and device')
    start_s = time.monotonic()
    try:
        _compile(model, cache, options, package, weights, bucketed)
        compiled = CompiledStep(package, weights, cache, bucketed=bucketed)
        one = torch.zeros(1, 1, dtype=torch.long, device=cache.device)
        modules_s, compiled_s = compare(model, [compiled], cache, options, one, one.clone())
    except Exception as error:  # tracers and compilers raise many kinds
        return {'reason': f'its step cannot be compiled ({one_line(error)})', 'tried': 1, 'facts': facts}, None
    log.info('compiled in %.1f s: a step takes %.3f ms, through the modules %.3f ms', time.monotonic() - start_s,
             1e3 * compiled_s, 1e3 * modules_s)
    reason = 'its modules are as fast as its compiled step' if compiled_s >= modules_s else ''
    return {'reason': reason, 'compiled_s': compiled_s, 'modules_s': modules_s, 'facts': facts}, compiled


def _compile(model: nn.Module, cache: SlotCache, options: dict, package: Path,
             weights: dict[str, torch.Tensor], bucketed: bool) -> None:
    global compilations
    import torch._inductor.config as config
    config.compile_threads = 1  # no pool of compiler processes, which would stay
    one = torch.zeros(1, 1, dtype=torch.long, device=cache.device)
    length, sliding = cache.layers[0].length, [layer.is_sliding for layer in cache.layers]
    n = torch.export.Dim('n', min=2, max=cache.capacity)
    keys, values, shapes = [], [], []
    for layer, slide in zip(cache.layers, sliding, strict=True):
        # An example of another length than n, so that the two are not taken for one.
        seen = min(length - 1, layer.sliding_window) if slide else None
        keys.append(layer.keys[:, :, :seen])
        values.append(layer.values[:, :, :seen])
        shapes.append({2: torch.export.Dim(f'w{layer.sliding_window}', min=2, max=layer.sliding_window)}
                      if slide else None)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)  # of PyTorch about itself
        if bucketed:
            step, slot, slot_shape = BucketStep(model, options), (one[0].clone(),), (None,)
        else:
            step, slot, slot_shape = ExactStep(model, sliding, options), (), ()
        program = torch.export.export(
            step, (one, one.clone(), *slot, torch.zeros(length, dtype=torch.long, device=cache.device), keys, values),
            dynamic_shapes=(None, None, *slot_shape, {0: n}, shapes, shapes), strict=False)
        if cache.device.type == 'cpu':
            program = program.run_decompositions({torch.ops.aten.linear.default: _row_by_row})
        partial = package.with_name(f'{package.stem}.{os.getpid()}.pt2')
        configs = {'aot_inductor.package_constants_in_so': False}
        if hasattr(config.aot_inductor, 'precompile_headers'):
            # Headers compiled for programs to come: 300 MB in the folder for temporary files, and with one or two
            # programs more time than they save (24 s instead of 18 for the embedded model on two cores).
            configs['aot_inductor.precompile_headers'] = False
        torch._inductor.aoti_compile_and_package(program, package_path=str(partial), inductor_configs=configs)
    constants = {name: tensor.contiguous() for name, tensor in program.constants.items()
                 if isinstance(tensor, torch.Tensor) and name not in weights}
    if constants:
        save_file(constants, package.with_suffix('.safetensors'))
    partial.replace(package)
    compilations += 1


def _row_by_row(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """linear() of one token, x [1, 1, K] and weight [N, K] -> [1, 1, N], as products and sums that the compiler fuses.

    BLAS libraries are made for matrices: for one row they were seen to read weights at a quarter of the memory's pace
    (and half-precision ones slower still), which such a loop reaches. Sums are in float32. Rows of SHORT_SUM and more
    are summed in parts: for them Inductor writes a sum that is more exact and takes half as long again.
    """
    n, k = weight.shape
    parts = next((parts for parts in range(1, k // 64) if k % parts == 0 and k // parts < SHORT_SUM), 1)
    # Strided, x is a buffer to Inductor. It would be computed anew for every row else, with all that goes into it.
    x_parts = x.to(torch.float32).as_strided((1, parts, k // parts), (k, k // parts, 1))
    out = (weight.to(torch.float32).view(n, parts, -1) * x_parts).sum(-1).sum(-1)
    if bias is not None:
        out = out + bias
    return out.to(x.dtype).view(*x.shape[:-1], -1)
