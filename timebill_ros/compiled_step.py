"""The decode step, compiled ahead of time and kept on disk: no Python between one kernel and the next.

A step through transformers' modules is some hundreds of Python and dispatcher calls, which for a small model, or on a
fast GPU, take longer than its arithmetic. Here `torch.export` traces the model's own forward for one token and a cache
of any length, AOTInductor compiles the trace, and the file is loaded by every later start. The weights stay those of
the model, and so do the cache slots: eviction works as before, and a step reads only what is kept.

Nothing is compiled while goals run: the trace is for every cache length at once, so there is nothing left to do then.
"""
from __future__ import annotations

import json
import logging
import os
import shutil
import stat
import time
import warnings
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from timebill_ros.kv_cache import SlotCache
from timebill_ros.resources import key_of, write_whole

log = logging.getLogger(__name__)

REVISION = 5  # of what is compiled; files of another one are not loaded
TIMED_S = 1.0  # how long either way of stepping is timed, at most
TIMED_STEPS = 30
TRIES = 2  # starts that may fail to compile a step, as a full memory or disk may have it, before it is given up

SHORT_SUM = 4096  # numbers, from which Inductor sums in cascades

compilations = 0  # so far in this process


class NotCompiled(RuntimeError):
    """Why a model's step runs through its modules."""


def forward(model: nn.Module, ids: torch.Tensor, positions: torch.Tensor, cache: SlotCache,
            options: dict) -> torch.Tensor:
    """Through the modules: ids and positions [1, L] appended to the cache -> logits [V] after the last one."""
    return model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, **options).logits[0, -1]


class _Step(nn.Module):
    """What is traced: token and position [1, 1], `filled` [n] of any content, the slots of every layer -> logits [V].

    The new token's keys and values go into slot n - 1, and its queries attend to slots 0 .. n - 1. Of a layer with a
    sliding window only those slots are given that its window reaches, [1, H_kv, w, D]: the last one is the new token's.
    """

    def __init__(self, model: nn.Module, slides: list[bool], options: dict):
        super().__init__()
        self.model, self._slides, self._options = model, slides, options

    def forward(self, token, position, filled, keys, values):
        lengths = [key.shape[2] - 1 if slides else filled.shape[0] - 1
                   for key, slides in zip(keys, self._slides, strict=True)]
        return forward(self.model, token, position, SlotCache.of(keys, values, lengths), self._options)


def _slides(cache: SlotCache) -> list[bool]:
    """Per layer whether it has a window that the cache can outgrow."""
    return [layer.is_sliding and layer.sliding_window < cache.capacity for layer in cache.layers]


class CompiledStep:
    """Steps of one model on one cache, whose slots are allocated. `weights`: the model's tensors by the names that
    they have in the trace; the model keeps them."""

    def __init__(self, package: Path, weights: dict[str, torch.Tensor], cache: SlotCache):
        self._compiled = torch._inductor.aoti_load_package(str(package))
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
        slides = _slides(cache)
        self._sliding = [(3 + i, layer) for i, layer in enumerate(cache.layers) if slides[i]]
        # Layers that do not slide are evicted alike, so they are equally long.
        self._whole = next((layer for layer, slide in zip(cache.layers, slides, strict=True) if not slide),
                           cache.layers[0])
        self._capacity = cache.capacity
        self._filled = torch.zeros(cache.capacity, dtype=torch.long, device=cache.device)

    def __call__(self, token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Token id and position, int64 [1, 1] each -> logits [V]. No host synchronisation."""
        if max(layer.length for layer in self._layers) >= self._capacity:
            raise ValueError(f'the cache holds one sequence of {self._capacity} tokens')
        n = self._whole.length + 1
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
    weights = {name: tensor for tensors in (model.named_parameters, model.named_buffers)
               for name, tensor in tensors(prefix='model', remove_duplicate=False)}
    known = _read(notes)
    if known is not None and not known['reason'] and package.is_file():
        try:
            return CompiledStep(package, weights, cache)
        except Exception as error:  # whatever has become of the file
            log.warning('%s cannot be loaded and is made again: %s', package, _line(error))
            known = None
    step = None
    if known is None or not known['reason'] or known.get('tried', TRIES) < TRIES:
        tried = known.get('tried', 0) if known else 0
        known, step = _make(model, cache, options, package, weights, facts)
        if 'tried' in known:
            known['tried'] += tried
        write_whole(notes, json.dumps(known, indent=1) + '\n')
    if known['reason']:
        raise NotCompiled(f'{known["reason"]} (noted in {notes})')
    return step


def _line(error: Exception) -> str:
    return f'{type(error).__name__}: {(str(error).strip() or "no message").splitlines()[0][:200]}'


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
          facts: list[str]) -> tuple[dict, CompiledStep | None]:
    """Compiles to `package`; what was found out, and the step. NotCompiled where this machine lacks a compiler, which
    may change."""
    if cache.device.type == 'cpu' and not any(map(shutil.which, [os.environ.get('CXX', 'g++'), 'clang++'])):
        raise NotCompiled('no C++ compiler is installed (g++, clang++ or $CXX)')
    log.info('compiling the decode step, once for this model and device')
    start_s = time.monotonic()
    try:
        _compile(model, cache, options, package, weights)
        compiled = CompiledStep(package, weights, cache)
        seconds = _compare(model, compiled, cache, options)
    except Exception as error:  # tracers and compilers raise many kinds
        return {'reason': f'its step cannot be compiled ({_line(error)})', 'tried': 1, 'facts': facts}, None
    log.info('compiled in %.1f s: a step takes %.3f ms, through the modules %.3f ms', time.monotonic() - start_s,
             1e3 * seconds['compiled_s'], 1e3 * seconds['modules_s'])
    slower = seconds['compiled_s'] >= seconds['modules_s']
    reason = 'its modules are as fast as its compiled step' if slower else ''
    return {'reason': reason, **seconds, 'facts': facts}, compiled


def _compile(model: nn.Module, cache: SlotCache, options: dict, package: Path,
             weights: dict[str, torch.Tensor]) -> None:
    global compilations
    import torch._inductor.config as config
    config.compile_threads = 1  # no pool of compiler processes, which would stay
    one = torch.zeros(1, 1, dtype=torch.long, device=cache.device)
    length, slides = cache.layers[0].length, _slides(cache)
    n = torch.export.Dim('n', min=2, max=cache.capacity)
    keys, values, shapes = [], [], []
    for layer, slide in zip(cache.layers, slides, strict=True):
        # An example of another length than n, so that the two are not taken for one.
        seen = min(length - 1, layer.sliding_window) if slide else None
        keys.append(layer.keys[:, :, :seen])
        values.append(layer.values[:, :, :seen])
        shapes.append({2: torch.export.Dim(f'w{layer.sliding_window}', min=2, max=layer.sliding_window)}
                      if slide else None)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)  # of PyTorch about itself
        program = torch.export.export(
            _Step(model, slides, options),
            (one, one.clone(), torch.zeros(length, dtype=torch.long, device=cache.device), keys, values),
            dynamic_shapes=(None, None, {0: n}, shapes, shapes), strict=False)
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


@torch.inference_mode()
def _compare(model: nn.Module, compiled: CompiledStep, cache: SlotCache, options: dict) -> dict[str, float]:
    """Median seconds of a step either way; ValueError where their logits differ by more than rounding."""
    lengths = [layer.length for layer in cache.layers]
    token = torch.zeros(1, 1, dtype=torch.long, device=cache.device)
    position = torch.full_like(token, lengths[0])

    def modules(token, position):
        return forward(model, token, position, cache, options)

    def timed(step) -> tuple[torch.Tensor, float]:
        for layer, length in zip(cache.layers, lengths, strict=True):
            layer.length = length
        start_s = time.perf_counter()
        logits = step(token, position)
        logits.argmax().item()  # waits for the device
        return logits, time.perf_counter() - start_s

    expected, got = timed(modules)[0], timed(compiled)[0]
    rounding = torch.finfo(expected.dtype).eps ** 0.5
    if not (got.float() - expected.float()).norm() <= rounding * expected.float().norm():
        raise ValueError('its logits are not those of the modules')
    taken: dict[str, list[float]] = {'modules_s': [], 'compiled_s': []}
    until_s = time.perf_counter() + TIMED_S
    while len(taken['modules_s']) < TIMED_STEPS and time.perf_counter() < until_s or not taken['modules_s']:
        taken['modules_s'].append(timed(modules)[1])
        taken['compiled_s'].append(timed(compiled)[1])
    for layer, length in zip(cache.layers, lengths, strict=True):
        layer.length = length
    return {name: median(values) for name, values in taken.items()}
