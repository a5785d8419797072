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

"""Length distributions as single numbers, by hand."""
import pytest

from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.training.length_estimates import interpolated_quantile, mean


def test_mean_counts_each_bucket_at_its_middle():
    assert mean(LengthDistribution(1, [0.5, 0.5])) == pytest.approx(1.5)
    assert mean(LengthDistribution(4, [0.5, 0.5])) == pytest.approx(4.5)  # lengths 1..8, all equally likely


def test_interpolated_quantiles_spread_each_bucket_evenly():
    d = LengthDistribution(4, [0.5, 0.0, 0.5])
    assert interpolated_quantile(d, 0.25) == 2.5  # the middle of 1..4
    assert interpolated_quantile(d, 0.75) == 10.5  # the middle of 9..12
    assert interpolated_quantile(d, 1.0) == 12.5
    assert interpolated_quantile(LengthDistribution.point(7), 0.5) == 7.0
    for level in (0.1, 0.4, 0.6, 0.9):  # plans err on the safe side
        assert interpolated_quantile(d, level) <= d.quantile(level) + 0.5
