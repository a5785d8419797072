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

"""The command line that the checks of `scripts/gpu_check.sh` share."""
from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from timebill_ros.bench import shapes


def run_check(description: str, run: Callable[[str, str, Path], bool]) -> int:
    """Run a check as the command line says; return the exit status.

    `run(shape, device, folder for the JSON)` returns whether everything was right.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument('--shape', default='tiny', choices=shapes.SHAPES)
    parser.add_argument('--device', default='auto')
    parser.add_argument('--out', type=Path, required=True, help='folder for the JSON')
    options = parser.parse_args()
    return 0 if run(options.shape, options.device, options.out) else 1
