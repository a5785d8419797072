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

"""What the form of an answer says of its length: no shorter than its shortest, no longer than its longest."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from timebill_ros.length.length_distribution import LengthDistribution


def within(distribution: LengthDistribution, least: int, most: int | None, limit: int | None,
           lengths: Sequence[int] = ()) -> LengthDistribution:
    """Return what is expected of an answer, given that its form has from `least` to `most` tokens.

    most:     None: there is no longest, or it is not known
    limit:    tokens that no answer exceeds, however it is spelled; None: there are none
    lengths:  of each answer that is possible, where there are few: then these are all that can come
    """
    if lengths:
        return LengthDistribution.from_lengths(list(lengths), 1, max(lengths))
    most = most or limit
    edges = (np.arange(distribution.n_buckets) + 1) * distribution.bucket_size
    weights = np.where(edges >= least, distribution.probabilities, 0.0)
    if most is not None:
        weights = np.where(edges - distribution.bucket_size < most, weights, 0.0)
    total = weights.sum()
    if total <= 0:  # as long as was expected it cannot be: it is as near to that as it can
        return LengthDistribution.point(least if most is None or distribution.median() < least else most)
    return LengthDistribution(distribution.bucket_size, weights / total)
