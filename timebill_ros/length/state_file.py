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

"""What a file of hidden states says of itself. Only the standard library: `timebill forget` reads it anywhere."""
from __future__ import annotations

import json
from pathlib import Path

SUFFIX = '.safetensors'  # of the file, which lies beside that of the other lessons (planning/kept_state.py)
HEADER_BYTES = 4096  # of a file, at most


def facts_of(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file. ValueError, KeyError or OSError where it has none."""
    with path.open('rb') as file:
        size = int.from_bytes(file.read(8), 'little')
        if size > HEADER_BYTES:
            raise ValueError(f'its header has {size} bytes')
        try:
            return json.loads(file.read(size))['__metadata__']
        except RecursionError as error:
            raise ValueError('its header is nested too deeply') from error
