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

"""What lies in the cache directory: who uses it, what it is, and what has to go where there is too much of it.

A thing is a model directory or a file. Whoever uses one holds a shared lock on it (flock) until its process ends, so
no thing is removed while a process uses it, however that process ends. The time of last use is the thing's own time of
modification. Neither torch nor rclpy is needed here.
"""
from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from timebill_ros.resources import compiler_directory, downloads_directory, models_directory, steps_directory

PARTIAL = '.partial'  # ends the name of what is still made, or what the end of a process has left half made
HALF_MADE = 'half made'  # the kind of what has that name
# What is smaller stays where the bound is exceeded: it gives no room, and takes a measurement to make again.
SMALL_BYTES = 1 << 20

_held: dict[Path, int] = {}  # descriptors of what this process uses, until it ends


@dataclass(frozen=True)
class Thing:
    """Something in the cache. `kind`: in words; `name`: below the cache directory; `used_s`: seconds since 1970."""

    path: Path
    kind: str
    name: str
    bytes: int
    used_s: float
    in_use: bool


def use(path: Path) -> bool:
    """Note that this process uses a thing from now on, until it ends. Return False where the thing is gone."""
    if path in _held:
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    with contextlib.suppress(OSError):  # a file system without locks: then nothing is removed there either
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    if not _is_at(path, descriptor):  # removed while this process waited for the lock
        os.close(descriptor)
        return False
    with contextlib.suppress(OSError):  # a cache that may be read only
        os.utime(path)
    _held[path] = descriptor
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


@contextlib.contextmanager
def in_making(directory: Path) -> Iterator[Path]:
    """Give the block an empty folder, which becomes `directory` when the block ends; nothing stays where it raises.

    Where another process was faster, its `directory` stays.
    """
    with partial_folder(directory) as partial:
        yield partial
        try:
            partial.rename(directory)
        except OSError:  # there is one: of an earlier version, or of a process that was faster
            if directory in _held or not _remove(directory):
                raise
            partial.rename(directory)


@contextlib.contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """Give the block an empty folder beside `path`, which no other process removes. It is removed when the block ends.

    Its name is that of `path`, the process's number and PARTIAL. Folders that `path` lies in are made.
    """
    partial = path.with_name(f'{path.name}.{os.getpid()}{PARTIAL}')
    shutil.rmtree(partial, ignore_errors=True)
    while True:
        partial.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # removed before it was locked: made again
            descriptor = os.open(partial, os.O_RDONLY)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            if _is_at(partial, descriptor):
                break
            os.close(descriptor)
    try:
        yield partial
    finally:
        os.close(descriptor)
        shutil.rmtree(partial, ignore_errors=True)


def things(cache: Path) -> list[Thing]:
    """Return what lies in `cache`, that which was used last first."""
    found = [_thing(path, kind, cache) for path, kind in _paths(cache)]
    return sorted((thing for thing in found if thing), key=lambda thing: -thing.used_s)


def _paths(cache: Path) -> Iterable[tuple[Path, str]]:
    for folder, kind in ((models_directory(str(cache)), 'model'), (downloads_directory(str(cache)), 'download'),
                         (cache / 'profiles', 'profile'), (cache / 'state', 'what goals taught'),
                         (cache / 'tuning', 'choice of chunk size or placement')):
        for path in _children(folder):
            yield path, HALF_MADE if path.name.endswith(PARTIAL) else kind
    compiler = compiler_directory(str(cache))
    for path in _children(steps_directory(str(cache))):
        yield path, "the compiler's own" if path == compiler else 'compiled step'


def _children(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return list(folder.iterdir())
    return []


def _thing(path: Path, kind: str, cache: Path) -> Thing | None:
    """Return a thing; None where it was removed meanwhile."""
    try:
        state = path.lstat()
        size = sum(_sizes(path)) if path.is_dir() and not path.is_symlink() else state.st_size
        with _locked(path) as free:
            return Thing(path, kind, str(path.relative_to(cache)), size, state.st_mtime, not free)
    except OSError:
        return None


def _sizes(folder: Path) -> Iterator[int]:
    for root, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                yield os.lstat(os.path.join(root, name)).st_size


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a thing for this process alone during the block, and say whether that was possible."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _remove(path: Path) -> bool:
    """Remove a thing unless a process uses it. Return whether it is gone. OSError where it may not be removed."""
    with contextlib.suppress(FileNotFoundError), _locked(path) as free:
        if not free:
            return False
        if path.is_dir() and not path.is_symlink():
            gone = path.with_name(f'{path.name}.{os.getpid()}.removed{PARTIAL}')
            path.rename(gone)  # at once: nobody may find half of it
            shutil.rmtree(gone)
        else:
            path.unlink()
    return True


def clear(found: Iterable[Thing]) -> tuple[list[Thing], list[Thing]]:
    """Remove things -> (those that were removed, those that stay because a process uses them)."""
    removed, kept = [], []
    for thing in found:
        (removed if _remove(thing.path) else kept).append(thing)
    return removed, kept


def keep_within(cache: Path, limit_bytes: float) -> list[Thing]:
    """Remove what was used longest ago until `cache` holds at most `limit_bytes`. Return what was removed.

    What a process uses stays, and so does what is small. What is half made, and nobody makes any more, goes always.
    OSError where something may not be removed. `why_removed` gives the reason for each.
    """
    found = things(cache)
    removed, _ = clear(thing for thing in found if thing.kind == HALF_MADE and not thing.in_use)
    there = [thing for thing in found if thing not in removed]
    total = sum(thing.bytes for thing in there)
    for thing in reversed(there):
        if total <= limit_bytes:
            break
        if thing.bytes >= SMALL_BYTES and not thing.in_use and _remove(thing.path):
            removed.append(thing)
            total -= thing.bytes
    return removed


def why_removed(thing: Thing, limit_gib: float) -> str:
    """Return why `keep_within` removed a thing; `limit_gib`: its limit."""
    if thing.kind == HALF_MADE:
        return 'it was half made, and no process goes on with it'
    return f'the cache held more than cache_limit_gib ({limit_gib:g} GiB), and it was used longest ago'
