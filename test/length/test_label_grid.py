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

"""Lengths on a grid: CDFs of whole and cut answers, and the scores of predictions, against values by hand."""
import numpy as np
import pytest

from timebill_ros.length.label_grid import (
    EDGES,
    Labels,
    bucket_size_for,
    conditional,
    crps_of,
    from_cdf,
    from_left,
    left_on_grid,
    on_grid,
    proper,
    smoothing,
)
from timebill_ros.length.length_distribution import LengthDistribution


def labels(lengths, whole=True, size=10, weights=None):
    return Labels(np.array(lengths), np.broadcast_to(np.array(whole), (len(lengths),)), size, weights)


@pytest.mark.parametrize(('lengths', 'size'), [
    ([1], 1), ([EDGES], 1), ([EDGES + 1], 2), ([256] * 9, 9), ([20] * 99 + [4000], 3)])
def test_the_grid_holds_what_is_usual(lengths, size):
    assert bucket_size_for(np.array(lengths)) == size


def test_a_cdf_is_made_proper():
    assert proper(np.array([-0.1, 0.3, 0.2, 1.2])).tolist() == [0, 0.25, 0.25, 1]
    rising = np.array([[0.1, 0.5, 0.9]])
    assert (proper(rising) == rising).all()


@pytest.mark.parametrize('width', [0.0, 0.5, 1.0, 4.0, 20.0])
def test_a_smoothed_cdf_is_one_and_leaves_what_is_beyond_the_edges_there(width):
    steps = np.zeros((2, EDGES))
    steps[0, 15:], steps[1, 15:] = 1.0, 0.6
    found = steps @ smoothing(width)
    assert (np.diff(found) >= -1e-12).all() and found.min() >= 0 and found.max() <= 1 + 1e-12
    np.testing.assert_allclose(found[1], 0.6 * found[0])
    if width < 5:
        assert found[1, -1] == pytest.approx(0.6)
    spread = np.diff(found[0], prepend=0)
    middle = spread @ np.arange(EDGES)
    if width <= 4:
        assert middle == pytest.approx(15, abs=0.01)
        assert (spread @ np.square(np.arange(EDGES) - middle)) ** 0.5 == pytest.approx(width, rel=0.1, abs=0.01)


def test_what_survived_some_edges_ends_later():
    cdf = np.array([[0.2, 0.6, 0.8]] * 3 + [[1.0, 1.0, 1.0], [0.2, 0.6, 0.8]])
    found = conditional(cdf, np.array([0, 2, 1, 1, 3]), np.array([0, 0, 0.5, 0, 0.5]))
    np.testing.assert_allclose(found, [[0.2, 0.6, 0.8], [0, 0, 0.5], [0, 1 / 3, 2 / 3], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(('n', 'whole', 'survived'), [(1, True, 0), (10, True, 0), (11, True, 1), (10, False, 1),
                                                    (9, False, 0), (5000, True, EDGES), (5000, False, EDGES)])
def test_which_edges_an_answer_has_survived(n, whole, survived):
    assert labels([n], whole).survived.tolist() == [survived]


def test_a_cut_answer_says_nothing_of_later_edges():
    expected = np.tile(np.linspace(0.1, 1.0, EDGES), (2, 1))
    filled = labels([25, 25], [True, False]).filled(expected)
    assert filled[0].tolist() == [0, 0] + [1] * (EDGES - 2)
    assert (filled[1, :2] == 0).all() and (np.diff(filled[1]) >= 0).all() and 0 < filled[1, 2] < 0.1
    assert filled[1, -1] == pytest.approx(1)


def test_the_marginal_is_that_of_kaplan_and_meier():
    """Two end in bucket 0, two are cut behind it, two end in bucket 2: these two stand for four. The prior is small."""
    many = labels([5, 5, 10, 10, 25, 25] * 1000, [True, True, False, False, True, True] * 1000)
    found = many.marginal()
    np.testing.assert_allclose(found[:4], [1 / 3, 1 / 3, 1, 1], atol=1e-3)
    few = labels([5]).marginal()
    assert few[-1] < 1 and few[0] == pytest.approx((1 + 3 / (EDGES + 1)) / 4)


def test_answers_that_a_budget_cuts_outlive_those_that_end_before_in_the_same_bucket():
    """A hundred end after 31 tokens, 900 are cut after 39, and few go on for long: a tenth ends by 40, no more."""
    some = labels([31] * 100 + [39] * 900 + [300] * 20, [True] * 100 + [False] * 900 + [True] * 20)
    marginal = some.marginal()
    assert marginal[3] == pytest.approx(100 / 1020, abs=0.01)
    filled = some.filled(np.tile(marginal, (1020, 1)))
    assert filled[500, 3] < 0.02 and some.marginal_without(filled)[0, 3] == pytest.approx(100 / 1020, abs=0.02)
    assert some.likelihood(np.tile(marginal, (1020, 1)))[500] == pytest.approx(1 - 0.9 * marginal[3], abs=0.01)


def test_the_marginal_without_a_label_is_that_of_the_others():
    lengths = np.array([5, 15, 25, 35])
    some = labels(lengths, weights=np.array([1.0, 0.5, 2.0, 1.0]))
    found = some.marginal_without(some.filled(np.zeros((4, EDGES))))
    for i in range(4):
        rest = np.arange(4) != i
        others = labels(lengths[rest], weights=some.weights[rest])
        np.testing.assert_allclose(found[i], others.marginal(), atol=1e-12)


def test_crps_by_hand():
    cdf = np.zeros(EDGES)
    cdf[:] = 1.0
    cdf[0] = 0.5
    assert crps_of(cdf, 10, 5, whole=True) == pytest.approx(10 * 0.25)
    assert crps_of(cdf, 10, 15, whole=True) == pytest.approx(10 * 0.25)
    assert crps_of(cdf, 10, 25, whole=True) == pytest.approx(10 * (0.25 + 1))
    assert crps_of(cdf, 10, 25, whole=False) == pytest.approx(10 * (0.25 + 1)), 'of the third edge it says nothing'
    assert crps_of(cdf, 10, 9, whole=False) == 0


def test_likelihood_by_hand():
    cdf = np.tile(np.concatenate([[0.2, 0.5], np.full(EDGES - 2, 0.9)]), (4, 1))
    found = labels([5, 15, 15, 9999], [True, True, False, True]).likelihood(cdf)
    np.testing.assert_allclose(found, [0.2, 0.3, 0.65, 0.1], err_msg='half of the second bucket is outlived')


def test_a_distribution_goes_on_another_grid_and_back():
    even = LengthDistribution(8, np.full(4, 0.25))
    np.testing.assert_allclose(on_grid(even, 4, 9), [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1, 1])
    back = from_cdf(on_grid(even, 8, 3), 8)
    np.testing.assert_allclose(back.probabilities, even.probabilities)
    assert from_cdf(np.array([0.5, 1 + 1e-12]), 3).probabilities.tolist() == pytest.approx([0.5, 0.5, 0])


def test_what_is_left_of_a_response_is_conditioned_on_what_has_come():
    lengths = LengthDistribution(10, [0.5, 0.2, 0.2, 0.1])
    np.testing.assert_allclose(left_on_grid(lengths, 0, 10, 5), [0.5, 0.7, 0.9, 1.0, 1.0])
    np.testing.assert_allclose(left_on_grid(lengths, 10, 10, 3), [0.4, 0.8, 1.0])
    np.testing.assert_allclose(left_on_grid(lengths, 15, 5, 3), [0.25, 0.5, 0.75])
    assert left_on_grid(lengths, 40, 10, 3).tolist() == left_on_grid(lengths, 999, 10, 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize('n', [0, 1, 9, 10, 37, 400])
def test_what_is_left_becomes_a_distribution_of_the_whole_and_back(n):
    cdf = np.array([0.1, 0.4, 0.4, 0.7])
    whole = from_left(cdf, 10, n)
    assert whole.probabilities[:n // 10].sum() == 0 and whole.tail(n + 1) == pytest.approx(1.0)
    assert whole.tail(n + 41) == pytest.approx(0.3) or n % 10
    edges = (n // 10 + 1 + np.arange(4)) * 10  # of the whole, up to which what was given reaches
    expected = np.interp(edges - n, [0, 10, 20, 30, 40], [0, *cdf])
    np.testing.assert_allclose(on_grid(whole, 10, n // 10 + 4)[n // 10:], expected, atol=1e-12)
