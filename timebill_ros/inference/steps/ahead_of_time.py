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

"""Loading what PyTorch compiled ahead of time (AOTInductor), with what the installed release has for it.

On a CPU only: on an H100, torch 2.11 ends the process while it loads such a program.

A compiled step reads the model's own weights. A copy of them would take the model's memory a second time, so a PyTorch
that can only copy is refused, before anything is compiled. What came when, by the sources of the releases:

    2.6   aoti_compile_and_package and aoti_load_package; weights outside of the file, which load_constants copies
    2.7   run_single_threaded; boxed_run
    2.8   load_constants(user_managed), which shares weights
    2.13  load_constants(allow_h2d_copy), which excludes user_managed and is not used here

Functions are asked for what they take, so that a later release is not judged by its number.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


def refusal() -> str:
    """Return why this PyTorch cannot load compiled steps; empty where it can."""
    import torch._inductor
    if not hasattr(torch._inductor, 'aoti_load_package'):
        return f'PyTorch {torch.__version__} has no ahead-of-time compiler that can be loaded from'
    try:
        from torch._inductor.package.package import AOTICompiledModel
    except ImportError:  # somewhere else in a later release: loading will tell
        return ''
    load_constants = getattr(AOTICompiledModel, 'load_constants', None)
    if load_constants is None or 'user_managed' not in inspect.signature(load_constants).parameters:
        return f'PyTorch {torch.__version__} would hold their weights a second time (2.8 and later share them)'
    return ''


def load(package: Path):
    """Return the program in the file `package` without its weights."""
    import torch._inductor
    wanted = {'run_single_threaded': True}  # one thread runs steps
    known = inspect.signature(torch._inductor.aoti_load_package).parameters
    return torch._inductor.aoti_load_package(str(package), **{name: value for name, value in wanted.items()
                                                              if name in known})


def share_weights(program, weights: Mapping[str, torch.Tensor]) -> None:
    """Have the program read `weights`, by the names of the trace, where they are. The caller keeps them alive."""
    program.load_constants({name: weights[name] for name in program.get_constant_fqns()},
                           check_full_update=True, user_managed=True)


def runner(program) -> Callable[[list[torch.Tensor]], list[torch.Tensor]]:
    """Return what runs the program on a list of tensors, which it may empty.

    Calling the program itself would parse the description of its arguments each time. `boxed_run` lets go of each input
    when it has been used.
    """
    return getattr(program.loader, 'boxed_run', None) or program.loader.run
