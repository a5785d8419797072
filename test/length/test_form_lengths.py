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

"""What a form says of a length: probability goes where it cannot be, and nowhere else."""
import pytest

from timebill_ros.length.form_lengths import within
from timebill_ros.length.length_distribution import LengthDistribution

EVEN = LengthDistribution(4, [0.25] * 4)  # up to 4, 8, 12 and 16 tokens


@pytest.mark.parametrize(('least', 'most', 'limit', 'expected'), [
    (1, None, None, [0.25] * 4),
    (4, None, None, [0.25] * 4),
    (5, None, None, [0, 1 / 3, 1 / 3, 1 / 3]),
    (1, 8, None, [0.5, 0.5, 0, 0]),
    (1, 9, None, [1 / 3, 1 / 3, 1 / 3, 0]),
    (1, None, 8, [0.5, 0.5, 0, 0]),
    (1, 4, 16, [1, 0, 0, 0]),
    (6, 7, None, [0, 1, 0, 0]),
])
def test_within(least, most, limit, expected):
    found = within(EVEN, least, most, limit)
    assert found.bucket_size == 4 and found.to_list() == pytest.approx(expected)


@pytest.mark.parametrize(('least', 'most', 'median'), [(40, None, 40), (40, 60, 40), (20, 30, 20)])
def test_what_was_thought_impossible_is_as_near_as_can_be(least, most, median):
    assert within(EVEN, least, most, None).median() == median


def test_a_shorter_form_than_anything_expected_has_its_longest():
    assert within(LengthDistribution.point(50, 16), 2, 9, None).median() == 9


def test_choices_are_all_that_can_come():
    found = within(EVEN, 3, 9, 20, (3, 3, 9))
    assert found.quantile(0.6) == 3 and found.quantile(0.7) == 9 and found.quantile(1.0) == 9
