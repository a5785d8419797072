"""The name of the hardware, which every reported time belongs to."""

import os
import platform
from pathlib import Path

import torch


def hardware(device: str) -> str:
    """Name of a device; for a CPU with its threads and cores."""
    if device.startswith('cuda'):
        return torch.cuda.get_device_name(device)
    return f'{_cpu_name()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores'


def _cpu_name() -> str:
    try:
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
