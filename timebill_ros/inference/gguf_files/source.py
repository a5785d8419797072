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

"""Which GGUF file a directory in the cache was made from: told by the file's content, whatever it is called."""
from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

from timebill_ros.disk_cache import PARTIAL
from timebill_ros.inference.memory import size
from timebill_ros.resources import write_whole

log = logging.getLogger(__name__)

FORMAT = 1  # of what a conversion writes: a directory of another one is made again
SOURCE_FILE = 'source.json'  # in a converted directory
CHUNK_BYTES = 1 << 20


def find(digest: str, models: Path) -> Path | None:
    """Return the directory that the GGUF file of this SHA-256 was converted into; None where there is none."""
    for directory, facts in _sources(models):
        if facts.get('sha256') == digest and facts.get('format') == FORMAT:
            return directory
    return None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def digest_of(path: Path, models: Path) -> str:
    """Return the file's SHA-256, as noted when it was converted if its size and time are still the same.

    Reading gigabytes at every start would take seconds.
    """
    now = _stamp(path)
    for _, facts in _sources(models):
        if facts.get('stamp') == now and 'sha256' in facts:
            return facts['sha256']
    log.info('reading %s (%s) to see whether it was converted before', path, size(path.stat().st_size))
    digest = sha256(path)
    if found := find(digest, models):  # converted from another path
        with contextlib.suppress(OSError):
            note(found, path, digest)
    return digest


def _stamp(path: Path) -> list:
    state = path.stat()
    return [str(path.resolve()), state.st_size, state.st_mtime_ns]


def _sources(models: Path) -> Iterator[tuple[Path, dict]]:
    """Give each whole directory of `models` with what its source file says."""
    for source in models.glob(f'*/{SOURCE_FILE}'):
        with contextlib.suppress(OSError, ValueError):
            facts = json.loads(source.read_text())
            if isinstance(facts, dict) and not source.parent.name.endswith(PARTIAL):
                yield source.parent, facts


def note(directory: Path, path: Path, digest: str) -> None:
    """Write into `directory` that it was made from the file `path`, whose SHA-256 is `digest`."""
    facts = {'format': FORMAT, 'sha256': digest, 'stamp': _stamp(path), 'file': path.name}
    write_whole(directory / SOURCE_FILE, json.dumps(facts, indent=1) + '\n')
