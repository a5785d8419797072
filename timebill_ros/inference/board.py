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

"""What a machine tells of itself without root: which board it is, its power mode, and the limits of its clocks.

The same chip is as fast as its board and its power mode let it be: every Jetson Orin calls its GPU 'Orin', and in the
mode of 15 W an Orin Nano has two thirds of its memory's clock. So a profile names all three. What no file tells is ''.
"""
from __future__ import annotations

import contextlib
import re
import subprocess
from pathlib import Path

import torch

ASKING_S = 10.0  # longest wait for nvidia-smi, which hangs where a driver is broken
GPUS = ('gpu', 'ga10b', 'gv11b', 'gp10b')  # what device trees call the GPU of a Jetson: Orin and Thor, Xavier, TX2


def board(root: Path = Path('/')) -> str:
    """Return the name of the board, from its device tree: 'NVIDIA Jetson AGX Orin Developer Kit'. PCs have none."""
    return _read(root / 'proc/device-tree/model').rstrip('\0').strip()


def power_mode(root: Path = Path('/')) -> str:
    """Return the power mode as the system calls it, for instance '15W (pmode:0000)', 'balanced' or 'performance'.

    That is nvpmodel's on a Jetson, where its files are readable by all; otherwise ACPI's platform profile, which
    laptops have; otherwise the governor of the first CPU.
    """
    return _jetson_mode(root) or next(filter(None, map(_read, (
        root / 'sys/firmware/acpi/platform_profile',
        root / 'sys/devices/system/cpu/cpu0/cpufreq/scaling_governor'))), '')


def _jetson_mode(root: Path) -> str:
    """Return the mode that nvpmodel keeps in 'pmode:0002', with its name from the list of this board's modes.

    A board that was never switched has no such file, and is in the mode that the list names as its default.
    """
    modes = _read(root / 'etc/nvpmodel.conf')
    kept = _read(root / 'var/lib/nvpmodel/status')
    number = re.search(r'pmode:\s*(\d+)', kept) or re.search(r'<\s*PM_CONFIG\s+DEFAULT=(\d+)', modes)
    if number is None:
        return kept
    mode = f'pmode:{int(number[1]):04d}'
    name = re.search(rf'<\s*POWER_MODEL\s+ID={int(number[1])}\s+NAME=(\S+)', modes)
    return f'{name[1]} ({mode})' if name else mode


def clock_limits(device: torch.device, root: Path = Path('/')) -> str:
    """Return between which clocks the machine may compute: 'cpu 115-1510 MHz, gpu 306-625 MHz, memory to 2133 MHz'.

    A mode, a locked clock (jetson_clocks) or a user may have lowered or raised them. Of a GPU on a card the power limit
    counts, as nvidia-smi tells it: 'gpu to 350.00 W'.
    """
    cpu = (_range(policy, 'scaling_{}_freq', 1000) for policy in (root / 'sys/devices/system/cpu/cpufreq').glob(
        'policy*'))
    found = [f'cpu {limits} MHz' for limits in sorted(set(filter(None, cpu)))]
    if device.type == 'cuda':
        found.append(_integrated_gpu(root) or _power_limit(device))
    memory = _number(root / 'sys/kernel/nvpmodel_emc_cap/emc_iso_cap')  # of a Jetson; 0: no limit
    found.append(f'memory to {memory // 10 ** 6} MHz' if memory else '')
    return ', '.join(filter(None, found))


def _integrated_gpu(root: Path) -> str:
    for folder in sorted((root / 'sys/class/devfreq').glob('*')):
        if _read(folder / 'device/of_node/name').rstrip('\0') in GPUS:
            limits = _range(folder, '{}_freq', 10 ** 6)
            return f'gpu {limits} MHz' if limits else ''
    return ''


def _power_limit(device: torch.device) -> str:
    # By its UUID: nvidia-smi counts all GPUs, torch only those that CUDA_VISIBLE_DEVICES leaves, and in another order.
    name = getattr(torch.cuda.get_device_properties(device), 'uuid', None)
    if name is None:
        return ''
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        asked = subprocess.run(['nvidia-smi', f'--id=GPU-{name}', '--query-gpu=power.limit', '--format=csv,noheader'],
                               capture_output=True, text=True, timeout=ASKING_S, check=True)
        limit = asked.stdout.strip()
        return f'gpu to {limit}' if limit.endswith('W') else ''  # '[N/A]' where there is none
    return ''


def _range(folder: Path, name: str, unit: int) -> str:
    """Return 'lowest-highest', in `unit`s of what the files hold; '' where one cannot be read."""
    low, high = (_number(folder / name.format(end)) for end in ('min', 'max'))
    return f'{low // unit}-{high // unit}' if high else ''


def _number(file: Path) -> int:
    text = _read(file)
    return int(text) if text.isdecimal() else 0


def _read(file: Path) -> str:
    try:
        return file.read_text(errors='replace').strip()
    except OSError:
        return ''
