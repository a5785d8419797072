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

"""Where the files that ship with this package lie, whichever way it was installed, and how its own are written."""
from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

PACKAGE_PARENT = Path(__file__).resolve().parents[1]


def embedded_directory() -> Path:
    """The folder of the embedded model (`model/`) and its length predictor (`length_predictor/`).

    In a checkout resource/demo; installed, share/timebill_ros/demo under the prefix that holds this file (colcon, with
    or without merged or linked install, and pip alike). FileNotFoundError where it is missing.
    """
    here = Path(__file__)
    candidates = [PACKAGE_PARENT / 'resource' / 'demo']
    candidates += [parent / 'share' / 'timebill_ros' / 'demo' for parent in here.parents]
    for candidate in candidates:
        if (candidate / 'model' / 'config.json').is_file():
            return candidate
    raise FileNotFoundError(f'the embedded model is not installed beside {here.parent}')


def cache_directory(setting: str = '') -> Path:
    """Where self-made profiles and compiled steps go: the setting, or the user's cache folder (XDG base directory
    specification).
    """
    if setting:
        return Path(setting).expanduser()
    base = os.environ.get('XDG_CACHE_HOME') or Path(os.environ.get('HOME') or '/tmp') / '.cache'
    return Path(base) / 'timebill_ros'


def steps_directory(setting: str = '') -> Path:
    """Where compiled steps go, see compiled_step.py."""
    return cache_directory(setting) / 'steps'


def key_of(facts: Iterable[str]) -> str:
    """A name for files that hold for these facts only."""
    return hashlib.sha256('|'.join(facts).encode()).hexdigest()[:16]


def write_whole(path: Path, text: str) -> None:
    """Write a file, whole or not at all, and its folder where there is none. OSError where that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.{os.getpid()}.partial')  # two processes may save at once
    partial.write_text(text)
    partial.replace(path)
