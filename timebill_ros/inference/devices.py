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

import functools
import platform
import time
from pathlib import Path

import torch
import transformers

from timebill_ros.inference.board import board
from timebill_ros.inference.model_directory import ModelError


def choose_device(name: str) -> torch.device:
    """Return the device of this name; 'auto': CUDA where there is one. ModelError for one that this machine lacks."""
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f'device {name!r} cannot be used: {str(error).splitlines()[0]}') from error
    return device


def choose_dtype(name: str, device: torch.device, stored: torch.dtype | None) -> torch.dtype:
    """Return the dtype of this name. `stored`: the one that the weights are stored in, if known.

    'auto': bfloat16 on a CUDA device that computes in it, float16 on other CUDA devices; on a CPU `stored`, or float32
    where this CPU only emulates that.
    """
    if name != 'auto':
        return getattr(torch, name)
    if device.type == 'cuda':
        return torch.bfloat16 if computes_in_bfloat16(device) else torch.float16
    return torch.float32 if stored is None or is_emulated(stored) else stored


def computes_in_bfloat16(device: torch.device) -> bool:
    """Tell whether the hardware of a CUDA device has bfloat16: NVIDIA's from compute capability 8.0 on, and AMD's.

    torch.cuda.is_bf16_supported() is true for older ones too, which emulate it (a T4 or a Jetson Xavier, several times
    slower than float16), and it is about the current device.
    """
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)


SLOWER = 2.0  # times as long as in float32: far above what the hardware has, below what it emulates (4 and more)


@functools.cache
def is_emulated(dtype: torch.dtype) -> bool:
    """Tell whether the CPU lacks a floating-point precision, so that prefill is several times slower in it.

    No public API of PyTorch tells, so a product as large as prefill's is timed in both precisions, in turns. What is
    compared is the computing time of one thread: on a busy machine two threads wait for each other, and a precision
    that takes a quarter of the time looks like the slower one.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return False
    seconds, threads = {torch.float32: [], dtype: []}, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(5):
            for kind, found in seconds.items():
                rows, weights = torch.ones(64, 512, dtype=kind), torch.ones(512, 512, dtype=kind)
                started = time.thread_time()
                torch.nn.functional.linear(rows, weights)
                found.append(time.thread_time() - started)
    finally:
        torch.set_num_threads(threads)
    return min(seconds[dtype]) > SLOWER * min(seconds[torch.float32])


def device_name(device: torch.device) -> str:
    """Return the name of chip and board and, on a CPU, the thread count. A profile is valid for one such name."""
    on = board()
    if device.type == 'cuda':
        return ', '.join(filter(None, (torch.cuda.get_device_name(device), on)))
    name = platform.processor() or platform.machine()
    try:
        entries = dict(line.split(':', 1) for line in Path('/proc/cpuinfo').read_text().splitlines() if ':' in line)
        entries = {key.strip(): value.strip() for key, value in entries.items()}
        name = entries.get('model name') or entries.get('Model') or entries.get('Hardware') or name  # x86, Arm boards
    except OSError:
        pass
    n = torch.get_num_threads()
    return ', '.join(filter(None, (name, on if on != name else '', f'{n} thread{"s" if n > 1 else ""}')))


def library_versions() -> dict[str, str]:
    """Return the versions that times and compiled steps depend on."""
    return {'torch': str(torch.__version__), 'transformers': transformers.__version__,
            'python': platform.python_version()}
