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

"""A predicted length distribution as one number, for judging predictors.

Plans never use these: they take `LengthDistribution.quantile`, which errs on the safe side.
"""
import numpy as np

from timebill_ros.length.length_distribution import LengthDistribution


def interpolated_quantile(distribution: LengthDistribution, level: float) -> float:
    """Return the quantile at `level`, in (0, 1], in tokens; the lengths in a bucket are taken as equally likely."""
    edge = distribution.quantile(level)
    i = edge // distribution.bucket_size - 1
    below = float(distribution.probabilities[:i].sum())
    share = (level - below) / float(distribution.probabilities[i])
    return edge - distribution.bucket_size + 0.5 + min(max(share, 0.0), 1.0) * distribution.bucket_size


def mean(distribution: LengthDistribution) -> float:
    """Return the expected length in tokens, each bucket counted at its middle."""
    size = distribution.bucket_size
    middles = np.arange(distribution.n_buckets) * size + (size + 1) / 2
    return float(distribution.probabilities @ middles)
