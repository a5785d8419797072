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

"""Visits of a measurement that is not over, kept on disk: after an interruption, the next one goes on from there."""
from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from pathlib import Path

from timebill_ros.resources import write_whole

log = logging.getLogger(__name__)

LONGEST_S = 86400.0  # visits of longer ago are not gone on with: the machine may have changed


class ProfileJournal:
    """Visits of one case in the file `path`; None: nothing is kept. `profiling.measure` asks for them one by one.

    A file that cannot be used is ignored, and one that cannot be written is no failure: it only saves time.
    """

    def __init__(self, path: Path | None):
        self._path = path
        self._visits: list[dict] = []  # {'n': tokens, 'seconds': of the whole visit, 'points': by kind}
        self._left: list[dict] = []  # of an earlier measurement, not asked for yet
        if path is not None:
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError,
                                     RecursionError):
                if time.time() - path.stat().st_mtime < LONGEST_S:
                    self._left = [_checked(visit) for visit in json.loads(path.read_text())['visits']]
        self.n_found = len(self._left)

    def take(self, n: int) -> tuple[dict[str, list[list[float]]], float] | None:
        """Return (points, seconds) of the next visit of length `n` tokens that is known, None if there is none."""
        found = next((visit for visit in self._left if visit['n'] == n), None)
        if found is None:
            return None
        self._left.remove(found)
        self._visits.append(found)
        return found['points'], found['seconds']

    def add(self, n: int, points: dict[str, list[list[float]]], seconds: float) -> None:
        """Keep a visit that was just made."""
        self._visits.append({'n': n, 'seconds': seconds, 'points': points})
        if self._path is not None:
            try:
                write_whole(self._path, json.dumps({'visits': self._visits + self._left}) + '\n')
            except OSError as error:
                log.debug('the points of the profile cannot be kept: %s', error)
                self._path = None

    def close(self) -> None:
        """Remove the file: the measurement is over."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def _checked(visit: dict) -> dict:
    """Return a visit as it was written. ValueError, TypeError, KeyError or AttributeError for anything else."""
    points = {str(kind): [[int(n), _positive(seconds)] for n, seconds in measured]
              for kind, measured in visit['points'].items()}
    if not points['prefill'] or not all(points.values()):
        raise ValueError('no visit')
    return {'n': int(visit['n']), 'seconds': _positive(visit['seconds']), 'points': points}


def _positive(seconds: float) -> float:
    """Return seconds. ValueError unless they are positive and finite, as a fit needs them."""
    if not 0 < float(seconds) < math.inf:
        raise ValueError(f'{seconds!r} is no time')
    return float(seconds)
