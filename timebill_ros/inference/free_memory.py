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

"""How much memory this process may still take, on a device and within what limits it."""
from __future__ import annotations

import os
import resource
from pathlib import Path

import torch


def free_bytes(device: torch.device) -> int | None:
    """Return the memory that is free for this process on `device`, in bytes; None where nothing tells."""
    if device.type == 'cuda' and not getattr(torch.cuda.get_device_properties(device), 'is_integrated', False):
        return torch.cuda.mem_get_info(device)[0]
    limits = [_available_memory(), _left_of_control_group(), _left_of_address_space()]
    return min((limit for limit in limits if limit is not None), default=None)


def _available_memory(file: str = '/proc/meminfo') -> int | None:
    """Return what the system can give, page cache included. On a board, GPU and CPU share it."""
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith('MemAvailable:')), None)


def _left_of_control_group(root: str = '/sys/fs/cgroup') -> int | None:
    """Return what the container or service may still take (control groups, version 2); None: no limit is known."""
    try:
        most = (Path(root) / 'memory.max').read_text().strip()
        used = int((Path(root) / 'memory.current').read_text())
        stat = dict(line.split() for line in (Path(root) / 'memory.stat').read_text().splitlines())
        return None if most == 'max' else max(0, int(most) - used + int(stat.get('inactive_file', 0)))
    except (OSError, ValueError):
        return None


def _left_of_address_space() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[0])
    except (OSError, ValueError):
        return None
    return max(0, soft - pages * os.sysconf('SC_PAGE_SIZE'))
