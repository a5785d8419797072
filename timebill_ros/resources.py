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

"""Where the package finds the files it ships with, however it was installed, and where and how it writes its own."""
from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
PACKAGE_PARENT = PACKAGE.parent


def embedded_directory() -> Path:
    """Return the folder of the embedded model (`model/`) and its length predictor (`length_predictor/`).

    In a checkout this is resource/demo. In an installation it is share/timebill_ros/demo under the prefix that holds
    this file, whether colcon (merged, linked or neither) or pip made it. FileNotFoundError where it is missing.
    """
    candidates = [PACKAGE_PARENT / 'resource' / 'demo', *_shares('demo')]
    for candidate in candidates:
        if (candidate / 'model' / 'config.json').is_file():
            return candidate
    raise FileNotFoundError(f'the embedded model is not installed beside {Path(__file__).parent.resolve()}')


def quality_table_path() -> Path:
    """Return the quality table that comes with the package. FileNotFoundError where it is missing."""
    for candidate in (PACKAGE_PARENT / 'resource' / 'quality_table.json', *_shares('quality_table.json')):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f'the quality table is not installed beside {Path(__file__).parent.resolve()}')


def example_script() -> Path:
    """Return the script that comes with the package, for `worker: scripted`. FileNotFoundError where it is missing."""
    for candidate in (PACKAGE_PARENT / 'config' / 'script.yaml', *_shares('config/script.yaml')):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f'config/script.yaml is not installed beside {Path(__file__).parent.resolve()}; name a '
                            'file by the parameter script')


def _shares(name: str) -> list[Path]:
    """Return where `name` may lie in the share folder of an installation that holds this file.

    The folder of this package may itself be a link (as for the worker), and so may each file in it (as colcon's
    --symlink-install makes them), so both ways up are gone.
    """
    here = Path(__file__)
    ways = (here, here.parent.resolve() / here.name, here.resolve())
    return [parent / 'share' / 'timebill_ros' / name for way in ways for parent in way.parents]


def version() -> str:
    """Return this package's version, from the package.xml beside this file or of the installation that holds it."""
    for candidate in (PACKAGE_PARENT / 'package.xml', *_shares('package.xml')):
        if candidate.is_file() and (found := re.search(r'<version>\s*(\S+?)\s*</version>', candidate.read_text())):
            return found[1]
    return 'of unknown version'


def cache_directory(setting: str = '') -> Path:
    """Return the folder for models, profiles, compiled steps and state: `setting`, the parameter cache_dir, if given.

    Otherwise the folder of this package in the user's cache (XDG base directory specification).
    """
    if setting:
        return Path(setting).expanduser()
    base = os.environ.get('XDG_CACHE_HOME') or Path(os.environ.get('HOME') or '/tmp') / '.cache'
    return Path(base) / 'timebill_ros'


def steps_directory(setting: str = '') -> Path:
    """Return the folder for compiled decode steps; `setting`: see `cache_directory`."""
    return cache_directory(setting) / 'steps'


def compiler_directory(setting: str = '') -> Path:
    """Return the folder that PyTorch's compiler keeps its own results in; `setting`: see `cache_directory`."""
    return steps_directory(setting) / 'compiler'


def models_directory(setting: str = '') -> Path:
    """Return the folder for models that were made of GGUF files; `setting`: see `cache_directory`."""
    return cache_directory(setting) / 'models'


def downloads_directory(setting: str = '') -> Path:
    """Return the folder for files that `timebill get-model` downloaded; `setting`: see `cache_directory`."""
    return cache_directory(setting) / 'downloads'


def key_of(facts: Iterable[str]) -> str:
    """Return a name, 16 hex digits, for a file that holds for these facts only."""
    return hashlib.sha256('|'.join(facts).encode()).hexdigest()[:16]


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all, and make its folder if there is none. OSError, which names it, on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.{os.getpid()}.partial')  # two processes may save at once
    try:
        with partial.open('wb') as file:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_SH)  # or a process that tidies the cache could take it for one left over
            file.write(content if isinstance(content, bytes) else content.encode())
            file.flush()
            partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.errno:  # on a full disk it does not say where
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
