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

"""Scores of predicted lengths, by hand."""
import math

import pytest

from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.training.length_scores import LEAST, Score, mean_of, score, score_of_point


def test_a_sure_prediction_has_the_absolute_error_as_its_crps():
    for n, error in ((30, 0), (20, 10), (64, 34)):
        found = score(LengthDistribution.point(30), n, 64)
        assert found.crps == pytest.approx(error) and found.absolute_error == error
        assert found.log_loss == pytest.approx(0 if n in (29, 30) else -math.log(LEAST))
    assert score_of_point(30.0, 20, 64) == Score(10.0)


def test_a_spread_prediction_by_hand():
    # Lengths 1 to 4 are equally likely. The CDF is 1/4, 1/2, 3/4, 1; the response has 3 tokens.
    found = score(LengthDistribution(1, [0.25] * 4), 3, 64)
    assert found.crps == pytest.approx(1 / 16 + 1 / 4 + 1 / 16)
    assert found.log_loss == pytest.approx(-math.log(0.5)), 'buckets of 2 tokens: 3 and 4'
    assert found.absolute_error == pytest.approx(0.5), 'the median lies between 2 and 3'


@pytest.mark.parametrize('longest', [64, 200])
def test_beyond_the_limit_nothing_is_told_apart(longest):
    """A distribution that goes on, and one that ends at the limit, predict the same of a response that was cut."""
    found = score(LengthDistribution(1, [0.0] * (longest - 1) + [1.0]), 64, 64)
    assert (found.absolute_error, found.crps) == (0, 0) and found.log_loss == pytest.approx(0)


def test_means():
    assert mean_of([Score(1.0, 2.0, 3.0), Score(3.0, 4.0, 5.0)]) == Score(2.0, 3.0, 4.0)
    assert mean_of([Score(1.0), Score(2.0)]) == Score(1.5)
    with pytest.raises(ValueError, match='no scores'):
        mean_of([])


def test_the_right_distribution_has_the_best_mean_score():
    lengths = [4] * 2 + [20] * 6 + [50] * 2
    right = LengthDistribution.from_lengths(lengths, 2, 32)
    others = [LengthDistribution.from_lengths([4] * 6 + [20] * 2 + [50] * 2, 2, 32),
              LengthDistribution(2, [1 / 32] * 32)]
    best = mean_of([score(right, n, 64) for n in lengths])
    for other in others:
        found = mean_of([score(other, n, 64) for n in lengths])
        assert found.crps > best.crps and found.log_loss > best.log_loss
