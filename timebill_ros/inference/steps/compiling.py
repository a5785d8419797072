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

from timebill_ros.inference.kv_cache import SlotCache, SlotLayer
from timebill_ros.inference.row_products import in_memory, row_products
from timebill_ros.inference.steps.step_module import ExactStep

compilations = 0  # so far in this process


def compile_step(model: nn.Module, cache: SlotCache, package: Path, weights: dict[str, torch.Tensor]) -> None:
    """Compile one step of `model` on `cache` into the file `package`, for every cache length at once.

    `cache` holds two entries of a sequence or more. `weights`: the model's tensors by the names that they have in the
    trace; they stay outside of the file. Tracers and compilers raise errors of many kinds.
    """
    compile_program(_trace(model, cache), package, weights)


def compile_program(program: torch.export.ExportedProgram, package: Path,
                    weights: dict[str, torch.Tensor] | None = None) -> None:
    """Compile a trace into the file `package`.

    Constants that are not in `weights` go into a .safetensors file beside it. None: all constants go into the file.
    """
    global compilations
    import torch._inductor.config as config
    config.compile_threads = 1  # no pool of compiler processes, which would stay
    partial = package.with_name(f'{package.stem}.{os.getpid()}.pt2')
    configs = {'aot_inductor.package_constants_in_so': weights is None}
    if hasattr(config.aot_inductor, 'precompile_headers'):
        # Headers compiled for later programs: 300 MB in the folder for temporary files, and with one or two programs
        # more time than they save (24 s instead of 18 for the embedded model on two cores).
        configs['aot_inductor.precompile_headers'] = False
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)  # of PyTorch about itself
        torch._inductor.aoti_compile_and_package(program, package_path=str(partial), inductor_configs=configs)
    constants = {name: tensor.contiguous() for name, tensor in program.constants.items()
                 if isinstance(tensor, torch.Tensor) and name not in weights} if weights is not None else {}
    if constants:
        save_file(constants, package.with_suffix('.safetensors'))
    partial.replace(package)
    compilations += 1


def trace(module: nn.Module, inputs: tuple, dynamic_shapes: tuple) -> torch.export.ExportedProgram:
    """Trace `module` on these inputs; on a CPU, with products and attention as loops that suit one token."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)
        program = torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes, strict=False)
        if inputs[0].device.type == 'cpu':
            program = program.run_decompositions(FOR_ONE_TOKEN)
    return program


def any_length(cache: SlotCache) -> torch.export.Dim:
    """Return the dynamic dimension n, the number of filled slots."""
    return torch.export.Dim('n', min=2, max=cache.capacity)


def example_slots(layer: SlotLayer, length: int) -> tuple[torch.Tensor, torch.Tensor, dict | None]:
    """Return keys, values and their dynamic shape as a trace takes them, for a layer of `length` filled slots."""
    if not layer.is_sliding:
        return layer.keys, layer.values, None
    # An example of another length than n, so that the tracer does not take the two for one.
    shown = min(length - 1, layer.sliding_window)
    shape = {2: torch.export.Dim(f'w{layer.sliding_window}', min=2, max=layer.sliding_window)}
    return layer.keys[:, :, :shown], layer.values[:, :, :shown], shape


def _trace(model: nn.Module, cache: SlotCache) -> torch.export.ExportedProgram:
    """Trace a whole step with the number of filled slots, n, as a dynamic dimension."""
    one = torch.zeros(1, 1, dtype=torch.long, device=cache.device)
    length, sliding = cache.layers[0].length, [layer.is_sliding for layer in cache.layers]
    keys, values, shapes = map(list, zip(*(example_slots(layer, length) for layer in cache.layers), strict=True))
    filled = torch.zeros(length, dtype=torch.long, device=cache.device)
    return trace(ExactStep(model, sliding), (one, one.clone(), filled, keys, values),
                 (None, None, {0: any_length(cache)}, shapes, shapes))


def _row_by_row(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Compute linear() of one token: x [1, 1, K], weight [N, K] -> [1, 1, N]. Sums are in float32."""
    out = row_products(x, weight)
    if bias is not None:
        out = out + bias
    return out.to(x.dtype).view(*x.shape[:-1], -1)


def _for_one_query(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None = None,
                   dropout_p: float = 0.0, is_causal: bool = False, *, scale: float | None = None,
                   enable_gqa: bool = False) -> torch.Tensor:
    """Compute the attention of one token as loops that the compiler fuses: query [1, H_kv, G, D], key [1, H_kv, n, D].

    G query heads share a KV head, which is read once for all of them. PyTorch's kernel divides the heads among threads,
    of which there are few, and reads half-precision entries at a quarter of this pace.
    """
    n_queries, width = query.shape[2:]
    scale = width ** -0.5 if scale is None else scale
    whole = in_memory(query.to(torch.float32) * scale)
    keys, values = key.to(torch.float32), value.to(torch.float32)
    scores = torch.stack([(keys * whole[:, :, g, None]).sum(-1) for g in range(n_queries)], 2)  # [1, H_kv, G, n]
    weights = in_memory(scores.softmax(-1))
    out = [(values * weights[:, :, g, :, None]).sum(2) for g in range(n_queries)]  # G times [1, H_kv, D]
    return torch.stack(out, 2).to(query.dtype)


FOR_ONE_TOKEN = {torch.ops.aten.linear.default: _row_by_row,
                 torch.ops.aten.scaled_dot_product_attention.default: _for_one_query}
