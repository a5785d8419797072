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

"""What a result was measured on, and its file, for benches that leave torch to the node's worker."""
from __future__ import annotations

import datetime
import json
import math
import os
import platform
from importlib import metadata
from pathlib import Path

import numpy as np

from timebill_ros.resources import write_whole


def environment() -> dict:
    """Return hardware, load and library versions, without importing torch."""
    cpu = next((line.split(':', 1)[1].strip() for line in Path('/proc/cpuinfo').read_text().splitlines()
                if line.startswith('model name')), platform.machine())
    return {'device': cpu, 'cores': len(os.sched_getaffinity(0)), 'load_average': os.getloadavg()[0],
            'nice': os.nice(0), 'versions': {name: metadata.version(name) for name in (
                'torch', 'transformers', 'numpy')}, 'python': platform.python_version(),
            'date': datetime.datetime.now().astimezone().isoformat(timespec='seconds')}


def write(path: Path, result: dict) -> None:
    """Write a result as JSON; NaN and infinity, which JSON lacks, become null."""
    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, (float, np.floating)):
            return float(value) if math.isfinite(value) else None
        return value
    write_whole(path, json.dumps(plain(result), indent=1) + '\n')
    print(f'written to {path}')
