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

"""Which device and precision to compute on, and what a device is called."""
from __future__ import annotations

import contextlib
import platform
from pathlib import Path

import torch
import transformers

from timebill_ros.inference.model_directory import ModelError


def choose_device(name: str) -> torch.device:
    """'auto' is CUDA where there is one. ModelError for a device that this machine lacks."""
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f'device {name!r} cannot be used: {str(error).splitlines()[0]}') from error
    return device


def choose_dtype(name: str, device: torch.device, stored: torch.dtype | None) -> torch.dtype:
    """'auto': bfloat16 on a CUDA device that computes in it, otherwise the precision the weights are stored in."""
    if name != 'auto':
        return getattr(torch, name)
    if device.type == 'cuda':
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return stored or torch.float32


def before_others(device: torch.device) -> contextlib.AbstractContextManager:
    """Work inside goes before that of other streams on a GPU that both share; elsewhere this is nothing."""
    return torch.cuda.stream(torch.cuda.Stream(device, priority=-1)) if device.type == 'cuda' else \
        contextlib.nullcontext()


def device_name(device: torch.device) -> str:
    """Hardware and, on a CPU, the thread count: what a profile is valid for."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        entries = dict(line.split(':', 1) for line in Path('/proc/cpuinfo').read_text().splitlines() if ':' in line)
        entries = {key.strip(): value.strip() for key, value in entries.items()}
        name = entries.get('model name') or entries.get('Model') or entries.get('Hardware') or name  # x86, Arm boards
    except OSError:
        pass
    n = torch.get_num_threads()
    return f'{name}, {n} thread{"s" if n > 1 else ""}'


def library_versions() -> dict[str, str]:
    return {'torch': str(torch.__version__), 'transformers': transformers.__version__,
            'python': platform.python_version()}
