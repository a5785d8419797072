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

"""Compiling a decode step ahead of time: `torch.export` traces it, AOTInductor compiles the trace into a file."""
from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.steps.step_module import BucketStep, ExactStep

SHORT_SUM = 4096  # numbers; Inductor sums this many or more in cascades

compilations = 0  # so far in this process


def compile_step(model: nn.Module, cache: SlotCache, package: Path, weights: dict[str, torch.Tensor], *,
                 bucketed: bool) -> None:
    """Compile one step of `model` on `cache` into the file `package`, for every cache length at once.

    `cache` holds two entries of a sequence or more. `weights`: the model's tensors by the names that they have in the
    trace; they stay outside of the file. Other constants go into a .safetensors file beside it. `bucketed`: trace a
    BucketStep instead of an ExactStep. Tracers and compilers raise errors of many kinds.
    """
    global compilations
    import torch._inductor.config as config
    config.compile_threads = 1  # no pool of compiler processes, which would stay
    program = _trace(model, cache, bucketed)
    partial = package.with_name(f'{package.stem}.{os.getpid()}.pt2')
    configs = {'aot_inductor.package_constants_in_so': False}
    if hasattr(config.aot_inductor, 'precompile_headers'):
        # Headers compiled for later programs: 300 MB in the folder for temporary files, and with one or two programs
        # more time than they save (24 s instead of 18 for the embedded model on two cores).
        configs['aot_inductor.precompile_headers'] = False
    if any(tensor.is_cuda for tensor in weights.values()):
        # Products of one row become sums, whose loops are tuned on the GPU until they read at the memory's pace.
        configs['coordinate_descent_tuning'] = True
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)  # of PyTorch about itself
        torch._inductor.aoti_compile_and_package(program, package_path=str(partial), inductor_configs=configs)
    constants = {name: tensor.contiguous() for name, tensor in program.constants.items()
                 if isinstance(tensor, torch.Tensor) and name not in weights}
    if constants:
        save_file(constants, package.with_suffix('.safetensors'))
    partial.replace(package)
    compilations += 1


def _trace(model: nn.Module, cache: SlotCache, bucketed: bool) -> torch.export.ExportedProgram:
    """Trace a step with the number of filled slots, n, as a dynamic dimension."""
    one = torch.zeros(1, 1, dtype=torch.long, device=cache.device)
    length, sliding = cache.layers[0].length, [layer.is_sliding for layer in cache.layers]
    n = torch.export.Dim('n', min=2, max=cache.capacity)
    keys, values, shapes = [], [], []
    for layer, slides in zip(cache.layers, sliding, strict=True):
        # An example of another length than n, so that the tracer does not take the two for one.
        shown = min(length - 1, layer.sliding_window) if slides else None
        keys.append(layer.keys[:, :, :shown])
        values.append(layer.values[:, :, :shown])
        shapes.append({2: torch.export.Dim(f'w{layer.sliding_window}', min=2, max=layer.sliding_window)}
                      if slides else None)
    if bucketed:
        step, slot, slot_shape = BucketStep(model), (one[0].clone(),), (None,)
    else:
        step, slot, slot_shape = ExactStep(model, sliding), (), ()
    filled = torch.zeros(length, dtype=torch.long, device=cache.device)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)
        program = torch.export.export(step, (one, one.clone(), *slot, filled, keys, values),
                                      dynamic_shapes=(None, None, *slot_shape, {0: n}, shapes, shapes), strict=False)
        if cache.device.type == 'cpu':
            program = program.run_decompositions({torch.ops.aten.linear.default: _row_by_row})
    return program


def _row_by_row(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Compute linear() of one token as products and sums that the compiler fuses: x [1, 1, K], weight [N, K].

    Returns [1, 1, N]. BLAS libraries are made for matrices: for one row they were seen to read weights at a quarter of
    the memory's pace (and half-precision weights slower still); a fused loop reaches that pace. Sums are in float32.
    Rows of SHORT_SUM numbers and more are summed in parts: for longer rows Inductor writes a more exact sum that takes
    half as long again.
    """
    n, k = weight.shape
    parts = next((parts for parts in range(1, k // 64) if k % parts == 0 and k // parts < SHORT_SUM), 1)
    # Inductor takes a strided x for a buffer. Otherwise it would compute x, and all that goes into x, for every row.
    x_parts = x.to(torch.float32).as_strided((1, parts, k // parts), (k, k // parts, 1))
    out = (weight.to(torch.float32).view(n, parts, -1) * x_parts).sum(-1).sum(-1)
    if bias is not None:
        out = out + bias
    return out.to(x.dtype).view(*x.shape[:-1], -1)
