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

"""Files of a model that were not downloaded whole, or were damaged since: which one it is, and what to do about it."""
from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from timebill_ros.inference.memory import size

LFS_POINTER = b'version https://git-lfs'  # begins the few lines that git leaves in place of a large file


def damaged(path: Path, error: BaseException) -> str:
    """Return the sentence for the file `path`, whose content raised `error`."""
    n = path.stat().st_size
    told = f'{path} ({size(n) if n >= 1 << 20 else f"{n} bytes"})'
    with path.open('rb') as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            return f'{told} is not the file itself but a pointer to it: run "git lfs pull" where it was cloned'
    reason = ' '.join(str(error).split())[:300]
    return f'{told} is incomplete or damaged: download it again ({type(error).__name__}: {reason})'


def find_damage(directory: Path) -> str:
    """Return the sentence for the first file in `directory` that is not whole; empty where there is none.

    Weights are read in safetensors alone, and their headers only, which say how long the file is.
    """
    for path in sorted(directory.glob('*.safetensors')) + sorted(directory.glob('*.json')):
        try:
            if path.suffix == '.json':
                json.loads(path.read_text(encoding='utf-8'))
            else:
                with safe_open(path, framework='pt'):
                    pass
        except (SafetensorError, ValueError) as error:
            return damaged(path, error)
        except OSError:  # it may not be read, which is another matter
            continue
    return ''
