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

"""Memory and temperature of the device of the model, as far as a program without root can read them.

torch is imported for a GPU only: a scripted worker has none.
"""
from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from timebill_ros.deadline import Clock

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

PERIOD_S = 1.0  # shortest time between two readings
# How Linux calls the sensors of a processor. Thermal zones (sys/class/thermal) have types, hardware monitors
# (sys/class/hwmon) have names. Jetsons call zones CPU-therm or cpu-thermal, GPU-therm or gpu-thermal.
CPU_SENSORS = ('x86_pkg_temp', 'cpu', 'coretemp', 'k10temp', 'zenpower', 'soc')
GPU_SENSORS = ('gpu', 'amdgpu')


class DeviceState:
    """Reads the state of `device` when it is asked, but not more often than every PERIOD_S.

    Ask between requests only: CUDA may take a lock in the driver for it, and a reading must not delay a token.
    """

    def __init__(self, device: torch.device, *, root: Path = Path('/'), clock: Clock = time.monotonic):
        self._device, self._root, self._clock = device, root, clock
        self._read_s = -PERIOD_S
        self._cuda = None  # torch.cuda, where the device is a card with a memory of its own
        if device.type == 'cuda':
            from torch import cuda
            self._cuda = None if getattr(cuda.get_device_properties(device), 'is_integrated', False) else cuda
        self._sensors = sensors(root, GPU_SENSORS if device.type == 'cuda' else CPU_SENSORS)
        self._asks_driver = self._cuda is not None  # until the driver's library turns out to be missing

    def message(self) -> dict:
        """Return what goes into a message to the node; empty where the last reading is not PERIOD_S old.

        device_state:  memory_used and memory_total in bytes, temperature in degrees Celsius; what cannot be read lacks
        read_s:        the monotonic instant of the reading
        """
        now = self._clock()
        if now - self._read_s < PERIOD_S:
            return {}
        self._read_s = now
        state: dict[str, float] = {}
        try:
            memory = self._cuda.mem_get_info(self._device) if self._cuda else system_memory(self._root)
            if memory is not None:
                state.update(memory_used=memory[1] - memory[0], memory_total=memory[1])
            degrees = self._temperature()
            if degrees is not None:
                state['temperature'] = degrees
        except Exception:  # after an error of CUDA every call fails; what is told of a goal must not suffer
            log.debug('the state of the device cannot be read', exc_info=True)
        return {'device_state': state, 'read_s': now}

    def _temperature(self) -> float | None:
        if self._asks_driver:
            try:
                return float(self._cuda.temperature(self._device))
            except Exception:  # nvidia-ml-py is not installed, or the driver does not tell
                self._asks_driver = False
        return max(filter(None, map(_degrees, [] if self._cuda else self._sensors)), default=None)


def sensors(root: Path, kinds: Sequence[str]) -> list[Path]:
    """Return the files with the temperatures of the first of `kinds` that there is, in thousandths of a degree."""
    named: list[tuple[str, list[Path]]] = []
    for folder in sorted((root / 'sys/class/thermal').glob('thermal_zone*')):
        named.append((_read(folder / 'type').lower(), [folder / 'temp']))
    for folder in sorted((root / 'sys/class/hwmon').glob('hwmon*')):
        named.append((_read(folder / 'name').lower(), sorted(folder.glob('temp*_input'))))
    for kind in kinds:
        found = [file for name, files in named if kind in name for file in files if _degrees(file) is not None]
        if found:
            return found
    return []


def system_memory(root: Path) -> tuple[int, int] | None:
    """Return (what the system can still give, what it has), in bytes; None where the kernel does not tell."""
    lines = dict(line.split(':', 1) for line in _read(root / 'proc/meminfo').splitlines() if ':' in line)
    with contextlib.suppress(KeyError, ValueError, IndexError):
        free, total = (int(lines[name].split()[0]) << 10 for name in ('MemAvailable', 'MemTotal'))
        return free, total
    return None


def _degrees(file: Path) -> float | None:
    with contextlib.suppress(ValueError):
        return int(_read(file)) / 1000
    return None


def _read(file: Path) -> str:
    """Return the text of a file; empty where it cannot be read, as a sensor that is switched off."""
    try:
        return file.read_text(errors='replace').strip()
    except OSError:
        return ''
