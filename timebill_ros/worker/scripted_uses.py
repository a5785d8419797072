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

"""How many goals each answer of a script has had, also after a crash that the script asked for.

The counts are in a file of the cache directory while answers with a bound number of uses are at work: the process that
follows a crashed one goes on with them.
"""
from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path

from timebill_ros.resources import key_of, write_whole

log = logging.getLogger(__name__)


class Uses:
    """Counts of one node's script. `folder`: where the file lies, named for the node's process and the script.

    `anew`: the node has just been configured, so that the counts begin at 0; otherwise its process was replaced.
    """

    def __init__(self, folder: Path, script: Path, *, anew: bool):
        self._path = folder / f'{os.getppid()}-{key_of([str(script)])}.json'
        self._counts: dict[str, int] = {}
        if anew:
            self._tidy(folder)
            return
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._counts = {str(i): int(n) for i, n in json.loads(self._path.read_text()).items()}

    def of(self, number: int) -> int:
        """Return how many goals the answer of this number has had."""
        return self._counts.get(str(number), 0)

    def count(self, number: int) -> None:
        """Count one more goal, before anything can go wrong with it."""
        self._counts[str(number)] = self.of(number) + 1
        try:
            write_whole(self._path, json.dumps(self._counts))
        except OSError as error:
            log.warning('how often answers of the script were used is forgotten where this process is replaced: %s',
                        error)

    def _tidy(self, folder: Path) -> None:
        """Remove this node's file, and those of nodes that are gone."""
        for path in [self._path, *folder.glob('*.json')]:
            if path == self._path or not Path('/proc', path.stem.partition('-')[0]).exists():
                with contextlib.suppress(OSError):
                    path.unlink()
