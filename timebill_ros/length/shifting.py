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

"""Lengths of what has something in front of it."""
from __future__ import annotations

import numpy as np

from timebill_ros.length.length_distribution import LengthDistribution


def later(distribution: LengthDistribution, n: int) -> LengthDistribution:
    """Return the distribution of lengths that are `n` tokens longer, in buckets as wide.

    A bucket that the shift splits is shared by the two that it then lies in, as if all lengths in it were alike.
    """
    whole, part = divmod(n, distribution.bucket_size)
    share = part / distribution.bucket_size
    moved = np.zeros(distribution.n_buckets + whole + (1 if part else 0))
    moved[whole:whole + distribution.n_buckets] = (1 - share) * distribution.probabilities
    if part:
        moved[whole + 1:] += share * distribution.probabilities
    return LengthDistribution(distribution.bucket_size, moved)
