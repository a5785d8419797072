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

"""Skip-Next by the paper's accounting: jobs arrive one period apart, and a late one costs those that arrive meanwhile.

The period is the time budget. A job that ends at t, counted from its release, skips the next ceil(t / period) - 1
releases (PAPER: overrun strategies). Which jobs are skipped depends on the order of arrival, so that several orders are
replayed over the same measured times.
"""
from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

SEEDS = (0, 1, 2)


def order(keys: Sequence[str], seed: int) -> list[str]:
    """Return the tasks in one order of arrival."""
    shuffled = list(keys)
    random.Random(seed).shuffle(shuffled)
    return shuffled


def served(arriving: Sequence[str], seconds: Mapping[str, float], period_s: float) -> list[bool]:
    """Return of each job whether it was served, False: skipped. `seconds`: from release to end, by task."""
    found: list[bool] = []
    while len(found) < len(arriving):
        skipped = max(0, math.ceil(seconds[arriving[len(found)]] / period_s) - 1)
        found += [True] + [False] * skipped
    return found[:len(arriving)]
