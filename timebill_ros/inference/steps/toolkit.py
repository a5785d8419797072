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

"""What a machine needs for compiling a step, and how its lack is told from a model that cannot be compiled.

A step is compiled with a C++ compiler. For a GPU, Triton writes its kernels, compiles what launches them with a C
compiler, and a part of the CUDA toolkit is needed besides. Somebody may install any of these later, so a lack is told
at every start and never noted beside the compiled steps.
"""
from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil

import torch

from timebill_ros.inference.steps.interface import StepUnavailable

# What PyTorch, Triton and compilers write where something is not installed -> what that is.
_SAID = (
    (r'CUDA_HOME environment variable is not set|\bcuda[\w/]*\.h(pp)?:? .*no such file', 'the CUDA toolkit (nvcc and '
     'headers; CUDA_HOME names its folder)'),
    (r'failed to find C compiler', 'a C compiler (gcc, clang or $CC)'),
    (r'no working C\+\+ compiler', 'a C++ compiler (g++, clang++ or $CXX)'),
    (r'cannot find a working triton', 'the Python package triton'),
    (r'\bPython\.h:? .*no such file', 'the headers of Python (python3-dev)'),
    (r'cannot find ptxas', 'ptxas, a part of triton and of the CUDA toolkit'),
)


class ToolkitMissing(StepUnavailable):
    """A step cannot be compiled for want of something that can be installed; the message says what."""

    def __init__(self, lacks: list[str]):
        super().__init__(f'they could be compiled, but not without {" and ".join(lacks)}: install '
                         f'{"it" if len(lacks) == 1 else "them"}, and configure again')


def check(device: torch.device) -> None:
    """Raise ToolkitMissing where this machine lacks what every compilation for `device` takes."""
    lacks = []
    if not _program('CXX', 'g++', 'clang++'):
        lacks.append('a C++ compiler (g++, clang++ or $CXX)')
    if device.type == 'cuda':
        if not _program('CC', 'gcc', 'clang', 'cc'):
            lacks.append('a C compiler (gcc, clang or $CC)')
        if importlib.util.find_spec('triton') is None:
            lacks.append('the Python package triton')
    if lacks:
        raise ToolkitMissing(lacks)


def check_error(error: BaseException | None) -> None:
    """Raise ToolkitMissing where a compilation failed with `error` for want of something that can be installed."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if lack := _lack(error):
            raise ToolkitMissing([lack]) from error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _lack(error: BaseException) -> str:
    """Return what this one error says is not installed; empty: nothing."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f'the Python package {error.name.partition(".")[0]}'
    if isinstance(error, FileNotFoundError) and isinstance(error.filename, str) and os.sep not in error.filename:
        return f'the program {error.filename}'  # a file has a folder
    return next((lack for pattern, lack in _SAID if re.search(pattern, str(error), re.IGNORECASE)), '')


def _program(variable: str, *names: str) -> str | None:
    """Return the path of the program that an environment variable names, or of the first of `names` that there is."""
    chosen = shlex.split(os.environ.get(variable, ''))[:1]  # 'ccache g++' is a program with arguments
    return next(filter(None, map(shutil.which, [*chosen, *names])), None)
