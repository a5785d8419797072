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

"""The file that keeps what requests taught across restarts. It is JSON, written whole or not at all.

    {"format": 2, "model": ..., "profile": {"date": ..., "identity": {...}}, "policy": ..., "miss_rate": ...,
     "length": {...}, "lengths": [...], "promises": {...}, "shown": [...], "time_bound": [...],
     "factors": {"prefill": [...], "step": {"greedy": [...], ...}}}

Times are learned relative to one profile, so they say for which: its date and its facts (timing/profile.py). Later
versions may add names without a new format.
"""
from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

from timebill_ros.resources import write_whole

log = logging.getLogger(__name__)

FORMAT, OLDER = 2, (1,)


def save(path: Path, state: dict) -> None:
    """Write a state. OSError where that fails."""
    write_whole(path, json.dumps({'format': FORMAT, **state}))


def load(path: Path, restore: Callable[[dict], bool]) -> bool:
    """Hand the kept state, if there is one, to `restore`, and return what that returns; False where there is none.

    A state of an earlier version is not used, and the log says so. A file that cannot be used is set aside, with a
    warning. `restore` raises ValueError, KeyError, TypeError, AttributeError or OverflowError for such a one.
    """
    try:
        state = json.loads(path.read_text())
        if state['format'] in OLDER:
            log.warning('what requests taught an earlier version, in %s, is not used: it is learned again', path)
            return False
        if state['format'] != FORMAT:
            raise ValueError(f'its format is {state["format"]!r}, not {FORMAT}')
        return restore(state)
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        aside = path.with_name(path.name + '.corrupt')
        log.warning('tracked state %s cannot be used (%s: %s); set aside as %s', path, type(error).__name__, error,
                    aside.name)
        try:
            path.replace(aside)
        except OSError as problem:
            log.warning('nor can it be set aside: %s', problem)
        return False
