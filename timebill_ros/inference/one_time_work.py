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

"""Work that the first start does for all later ones: how long it took in this process.

A start that compiles, measures or downloads takes many times as long as the next one, which finds the results on disk.
The node asks for these seconds, so that it expects of a restart what a restart will do.
"""
from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

total_s = 0.0  # so far in this process; written by the thread that loads


@dataclass
class Work:
    """One piece of work. Set `kept` to False where its result is not on disk in the end: later starts repeat it."""

    kept: bool = True


@contextlib.contextmanager
def one_time_work() -> Iterator[Work]:
    """Count the seconds of the block, where it does not raise. Blocks may lie in each other; none counts twice."""
    global total_s
    before_s, start_s, work = total_s, time.monotonic(), Work()
    yield work
    if work.kept:
        total_s = before_s + time.monotonic() - start_s
