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

"""How sure a mean over tasks is: percentile bootstrap intervals (Efron, 1979).

Methods that answered the same tasks are compared by their differences on each task, which vary less than the scores.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
DRAWS_AT_ONCE = 1_000_000  # bounds the memory


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Return (mean, low, high): the 95 % interval of the mean, from means of tasks that are drawn again.

    ValueError without values.
    """
    if not len(values):
        raise ValueError('there is no mean of no values')
    found = np.asarray(values, dtype=float)
    rng = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    at_once = max(1, DRAWS_AT_ONCE // len(found))
    for first in range(0, RESAMPLES, at_once):
        part = means[first:first + at_once]
        part[:] = found[rng.integers(0, len(found), (len(part), len(found)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(found.mean()), float(low), float(high)


def difference(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Return (mean, low, high) of ours - theirs, scores of the same tasks in the same order (paired)."""
    return interval([a - b for a, b in zip(ours, theirs, strict=True)], seed)
