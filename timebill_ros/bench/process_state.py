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

"""What /proc says of a process: its children, its state, its memory."""
from __future__ import annotations

import os
from pathlib import Path


def children(pid: int) -> list[int]:
    """Return the living child processes of a process, zombies left out."""
    found = []
    for task in Path(f'/proc/{pid}/task').glob('*/children'):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue
    return [child for child in found if state(child) not in ('Z', 'X', '')]


def state(pid: int) -> str:
    """Return the state letter that ps shows; '' where there is no such process."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError:
        return ''


def n_zombies(parent: int) -> int:
    """Return how many children of `parent` have ended and were not waited for."""
    n = 0
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            letter, ppid = path.read_text().rpartition(')')[2].split()[:2]
        except OSError:
            continue
        n += letter == 'Z' and int(ppid) == parent
    return n


def resources(pid: int) -> tuple[float, int, int] | None:
    """Return (resident MB, open files, threads); None where the process is gone."""
    try:
        status = dict(line.split(':', 1) for line in Path(f'/proc/{pid}/status').read_text().splitlines())
        return int(status['VmRSS'].split()[0]) / 1024, len(os.listdir(f'/proc/{pid}/fd')), int(status['Threads'])
    except (OSError, KeyError):
        return None
