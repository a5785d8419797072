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

"""What becomes of cache_dir where nothing can be written to it: the worker goes on with a folder of its own.

That folder shows what cache_dir holds, as links, so that a cache on a read-only disk is still read. What is made new
goes there too, and with the worker's temporary files at its end: the next start makes it again.
"""
from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path

log = logging.getLogger(__name__)

FOLDERS = ('models', 'profiles', 'state', 'steps', 'steps/compiler', 'tuning')  # of cache_dir, for what is kept
PROBE_BYTES = 1 << 16  # on a full disk a file of a few bytes may still find room
LEAST_BYTES = 16 << 20  # what one start may make: compiled steps, a profile. With less, the disk is full while it does


def usable_cache(directory: Path) -> Path:
    """Return `directory`, or where it cannot be written to, a folder that stands in for it; a warning says so then.

    The stand-in lies in the folder for temporary files. Where that cannot be written to either, it is `directory`.
    """
    reason = why_unwritable(directory)
    if not reason:
        return directory
    log.warning('cache_dir %s cannot be written to (%s): what is not kept there yet is made anew at every start, which '
                'takes longer, and what requests teach is lost at the end; name a folder that the node may write to',
                directory, reason)
    try:
        return _stand_in(directory)
    except OSError as error:
        log.error('nor can the folder for temporary files: %s', error)
        return directory


def why_unwritable(directory: Path) -> str:
    """Return why files cannot be kept in `directory`, which is made where there is none; empty: they can be."""
    folder = directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for folder in (directory, *(directory / name for name in FOLDERS)):
            if os.path.lexists(folder):
                with tempfile.TemporaryFile(dir=folder) as probe:
                    probe.write(bytes(PROBE_BYTES))
        disk = shutil.disk_usage(directory)
        if disk.total and disk.free < LEAST_BYTES:  # some file systems do not tell: all is 0
            return f'its disk is full: {disk.free / 2 ** 20:.1f} MiB are free, and a start may take {LEAST_BYTES >> 20}'
    except OSError as error:
        return f'{error.strerror}: {folder}' if folder != directory else str(error.strerror)
    return ''


def _stand_in(directory: Path) -> Path:
    stand_in = Path(tempfile.mkdtemp(prefix='cache_'))
    for folder in FOLDERS:
        (stand_in / folder).mkdir(mode=0o700, exist_ok=True)
        if folder == 'steps/compiler':
            continue  # PyTorch's own: many files, and code that it runs without asking whose it is
        with contextlib.suppress(OSError):  # it is not there, or may not be read
            for file in (directory / folder).iterdir():
                if (file.is_file() or folder == 'models') and (folder != 'steps' or _is_ours(directory / folder)):
                    (stand_in / folder / file.name).symlink_to(file.absolute())
    return stand_in


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can have put a file there: compiled steps are run as code."""
    state = folder.stat()
    return state.st_uid in (os.getuid(), 0) and not state.st_mode & stat.S_IWOTH
