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

"""Forgetting what requests taught, on a user's demand: the kept states, and what running workers know.

`forget` removes the files. It also leaves a mark in the folder of the cache, where the worker of every running node
that keeps its state there finds it (forgotten.py): before its next request such a worker starts from its profile again.
Without the mark it would write down again what was to be forgotten. A node forgets in the same way what a server has
taught it.
"""
from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from timebill_ros.forgotten import MARK, STATES
from timebill_ros.length import state_file


@dataclass(frozen=True)
class Removed:
    """A file that was removed, and a sentence on what was in it."""

    path: Path
    content: str


class NotToldError(OSError):
    """Running workers could not be told to forget. `removed`: the files that were removed all the same."""

    def __init__(self, sentence: str, removed: list[Removed]):
        super().__init__(sentence)
        self.removed = removed


def forget(cache: Path) -> list[Removed]:
    """Remove all states that are kept below `cache`, and have running workers forget.

    OSError with a sentence where a state cannot be removed. NotToldError where only the mark cannot be written, not
    even in the room that the states have left.
    """
    is_marked = not cache.is_dir() or not _why_unmarked(cache)  # first: a worker may save between
    found = [Removed(path, describe(path)) for path in _files(cache / STATES)]
    for removed in found:
        try:
            removed.path.unlink(missing_ok=True)  # a worker may have set it aside meanwhile
        except OSError as error:
            raise OSError(f'{removed.path} cannot be removed ({error.strerror}): run this as a user who may write to '
                          f'{removed.path.parent}') from error
    if not is_marked and (reason := _why_unmarked(cache)):
        raise NotToldError(f'{cache} cannot be written to ({reason}): nodes that run with it as cache_dir were not '
                           'told, and will write down again what they know. Make room there, or let this user write '
                           'to it, and run this again', found)
    return found


def _why_unmarked(cache: Path) -> str:
    """Leave the mark. Return why that cannot be done; empty: it is done, with or without its text."""
    mark = cache / MARK
    try:
        mark.touch()  # what counts is its time, which takes no room where the file is there
    except OSError as error:
        return str(error.strerror)
    with contextlib.suppress(OSError):
        mark.write_text('Running nodes start from their profile again.\n')
    return ''


def _files(folder: Path) -> Iterable[Path]:
    """Return states, and files that were set aside or not finished."""
    return sorted(path for pattern in ('*.json*', f'*{state_file.SUFFIX}*') for path in folder.glob(pattern)
                  if path.is_file())


def describe(path: Path) -> str:
    """Return for which model, profile and promise a file keeps a state, or for which server."""
    try:
        if path.suffix == state_file.SUFFIX:
            return f'hidden states of prompts of {state_file.facts_of(path)["model"]}, with the lengths of answers'
        state = json.loads(path.read_text())
        if 'offboard' in state:
            return f'times of the server at {state["offboard"]["url"]}, asked for {state["offboard"]["model"]}'
        profile, facts = state['profile'], state['profile'].get('identity', {})
        name = state.get('model') or f'model {facts.get("model", "unknown")}'
        return (f'{name} on {facts.get("device", "an unknown device")} (profile of '
                f'{profile.get("date", "an unknown day")}; {state["policy"]}, miss rate {state["miss_rate"]})')
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return 'of an earlier version, or damaged'
