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

"""A profile that is doubted: the process that measured it uses it, and hands it over to the one that takes its place.

It is no profile for later starts of a node, which measure again. But a worker that takes another's place would measure
on the same machine for as long, and would hardly know more.
"""
from __future__ import annotations

import contextlib
import time
from pathlib import Path

from timebill_ros.timing.execution_time import ProfileError
from timebill_ros.timing.profile import Identity, Profile

SUFFIX = '.doubted'  # in the place of the kept profile's own
LONGEST_S = 86400.0  # one of longer ago is not used: it may be that of an earlier run of a node


def hand_over(path: Path, profile: Profile) -> bool:
    """Write a doubted profile beside `path`, where one that is trusted would be kept. Return whether that worked."""
    try:
        profile.save(path.with_suffix(SUFFIX))
    except OSError:
        return False
    return True


def handed_over(path: Path, expected: Identity) -> Profile | None:
    """Return the doubted profile beside `path`; None where there is none of these things and circumstances."""
    doubted = path.with_suffix(SUFFIX)
    try:
        if time.time() - doubted.stat().st_mtime > LONGEST_S:
            return None
        profile = Profile.load(doubted)
        profile.check(expected, str(doubted))
    except (OSError, ProfileError):
        return None
    return profile


def forget(path: Path) -> None:
    """Remove the doubted profile beside `path`: there is a better one."""
    with contextlib.suppress(OSError):
        path.with_suffix(SUFFIX).unlink()
