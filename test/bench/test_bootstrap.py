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

"""Intervals of means over tasks."""
import random

import pytest

from timebill_ros.bench.bootstrap import difference, interval


def test_an_interval_holds_the_mean_and_is_as_wide_as_it_should_be():
    rng = random.Random(0)
    values = [rng.gauss(0.5, 0.2) for _ in range(400)]
    mean, low, high = interval(values)
    assert mean == pytest.approx(sum(values) / len(values))
    assert high - low == pytest.approx(2 * 1.96 * 0.2 / 400 ** 0.5, rel=0.15) and low < mean < high
    assert interval(values) == (mean, low, high), 'the same numbers, the same interval'


def test_about_95_of_100_intervals_hold_the_truth():
    rng = random.Random(1)
    found = [interval([rng.random() for _ in range(50)]) for _ in range(100)]
    assert 88 <= sum(low <= 0.5 <= high for _, low, high in found) <= 100


def test_differences_are_paired():
    rng = random.Random(0)
    theirs = [rng.random() for _ in range(100)]
    mean, low, high = difference([value + 0.01 for value in theirs], theirs)
    assert (mean, low, high) == pytest.approx((0.01, 0.01, 0.01)), 'tasks differ, but not the difference'
    with pytest.raises(ValueError):
        difference([1.0], [1.0, 2.0])


@pytest.mark.parametrize(('values', 'expected'), [([0.25], (0.25, 0.25, 0.25)), ([1, 1, 1], (1, 1, 1))])
def test_values_without_spread(values, expected):
    assert interval(values) == expected


def test_no_values_are_no_mean():
    with pytest.raises(ValueError, match='no values'):
        interval([])
