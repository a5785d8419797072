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
import numpy as np
import pytest

from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.shifting import later


@pytest.mark.parametrize('size', [1, 4, 16])
@pytest.mark.parametrize('n', [0, 1, 4, 7, 33])
def test_all_lengths_are_longer_by_as_much(size, n):
    before = LengthDistribution(size, np.array([0.1, 0.0, 0.5, 0.4]))
    after = later(before, n)
    assert after.bucket_size == size
    mean = [float(((np.arange(one.n_buckets) + 0.5) * size * one.probabilities).sum()) for one in (before, after)]
    assert mean[1] - mean[0] == pytest.approx(n)
    for level in (0.3, 0.5, 0.9):
        assert n <= after.quantile(level) - before.quantile(level) + size - 1 <= n + 2 * size


def test_whole_buckets_are_exact():
    before = LengthDistribution.from_lengths([3, 9, 30], 8, 6)
    assert later(before, 16).to_list() == [0.0, 0.0, *before.to_list()]
    assert later(before, 0).to_list() == before.to_list()
