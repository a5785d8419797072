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

"""Length distributions: quantiles, tails, buckets, and the values that are refused."""
import math

import numpy as np
import pytest

from timebill_ros.length.length_distribution import LengthDistribution, bucket_of

DISTRIBUTIONS = [
    LengthDistribution.point(1),
    LengthDistribution.point(17, 16),
    LengthDistribution(4, [0.2, 0.3, 0.5]),
    LengthDistribution(16, np.full(512, 1 / 512)),
]


def test_quantiles_are_upper_bucket_edges():
    d = LengthDistribution(4, [0.25, 0.25, 0.0, 0.5])
    assert [d.quantile(level) for level in (0.01, 0.25, 0.26, 0.5, 0.51, 1.0)] == [4, 4, 8, 8, 16, 16]
    assert d.median() == 8


def test_quantile_of_one_is_reached_in_spite_of_rounding():
    assert LengthDistribution(1, np.full(10, 0.1)).quantile(1.0) == 10
    assert LengthDistribution(1, [0.1] * 10).quantile(0.3) == 3


@pytest.mark.parametrize('level', [0, -0.1, 1.01, math.nan])
def test_quantile_refuses_levels_that_are_no_probability(level):
    with pytest.raises(ValueError, match=str(level)):
        DISTRIBUTIONS[2].quantile(level)


@pytest.mark.parametrize('bucket_size', [1, 4, 16])
def test_buckets_cover_lengths_without_gap(bucket_size):
    for n in range(1, 60):
        d = LengthDistribution.point(n, bucket_size)
        assert d.n_buckets == bucket_of(n, bucket_size) + 1
        assert d.median() - bucket_size < n <= d.median()


def test_from_lengths_counts_shares_and_puts_long_ones_last():
    d = LengthDistribution.from_lengths([1, 4, 5, 900], bucket_size=4, n_buckets=3)
    assert d.to_list() == [0.5, 0.25, 0.25]


def test_list_round_trip():
    d = LengthDistribution(4, [0.2, 0.3, 0.5])
    again = LengthDistribution.from_list(d.to_list(), 4)
    assert again.bucket_size == 4 and again.to_list() == d.to_list()


@pytest.mark.parametrize(('bucket_size', 'probabilities', 'message'), [
    (0, [1.0], 'got 0'),
    (1.5, [1.0], 'got 1.5'),
    (4, [], 'shape'),
    (4, [[1.0]], 'shape'),
    (4, [0.5, math.nan], 'bucket 1 is nan'),
    (4, [math.inf, 0.5], 'bucket 0 is inf'),
    (4, [1.2, -0.2], '-0.2'),
    (4, [0.5, 0.4], '0.9'),
])
def test_what_is_no_distribution_is_refused_with_the_value(bucket_size, probabilities, message):
    with pytest.raises(ValueError, match=message):
        LengthDistribution(bucket_size, probabilities)


def test_nothing_can_change_a_distribution():
    source = np.array([0.5, 0.5])
    d = LengthDistribution(4, source)
    source[0] = 9
    assert d.to_list() == [0.5, 0.5]
    with pytest.raises(ValueError):
        d.probabilities[0] = 1


def test_a_tail_is_what_is_left_for_a_length_and_longer_ones():
    d = LengthDistribution(4, [0.5, 0.3, 0.2])
    assert [d.tail(n) for n in (1, 4, 5, 9, 12, 1000)] == pytest.approx([1.0, 1.0, 0.5, 0.2, 0.2, 0.2])
    tiny = LengthDistribution(1, [1 - 1e-12, 1e-12 - 1e-30, 1e-30])
    assert tiny.tail(3) == pytest.approx(1e-30), 'tails are not summed from the far end'


@pytest.mark.parametrize(('level', 'edge'), [(1.0, 4), (0.51, 4), (0.5, 8), (0.3, 8), (0.2, None), (0.0, None)])
def test_the_longest_length_with_a_tail(level, edge):
    assert LengthDistribution(4, [0.5, 0.3, 0.2]).longest_with_tail(level) == edge


@pytest.mark.parametrize('d', DISTRIBUTIONS, ids=lambda d: f'B{d.bucket_size}x{d.n_buckets}')
def test_a_length_is_within_the_longest_that_has_its_tail(d):
    for n in range(1, d.bucket_size * d.n_buckets + 1, max(1, d.bucket_size // 2)):
        edge = d.longest_with_tail(d.tail(n))
        assert edge is None or edge >= n
