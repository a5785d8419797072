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

"""Bounds on the next score: the conformal quantile, also of scores that were cut, and the window of scores."""
import math
import random

import numpy as np
import pytest

from timebill_ros.length.conformal import ScoreWindow, censored_quantile, conformal_quantile, interleaved, thinned

SCORES = [-math.log((i + 0.5) / 200) for i in range(200)]  # those of a predictor whose distributions are right


@pytest.mark.parametrize(('n', 'miss_rate', 'bound'), [
    (99, 0.05, 95), (99, 0.01, 99), (98, 0.01, math.inf), (19, 0.05, 19), (18, 0.05, math.inf), (0, 0.5, math.inf),
    (3, 0.5, 2), (10, 0.99, 1),
])
def test_a_conformal_quantile_counts_the_score_to_come(n, miss_rate, bound):
    scores = list(range(1, n + 1))
    random.Random(0).shuffle(scores)
    assert conformal_quantile(scores, miss_rate) == bound


def test_thinned_scores_have_the_same_distribution():
    scores = [random.Random(0).gauss(0, 1) for _ in range(1)] + list(np.random.default_rng(0).normal(size=5000))
    few = thinned(scores, 300)
    assert len(few) == 300 and np.quantile(few, [0.1, 0.5, 0.9]) == pytest.approx(
        np.quantile(scores, [0.1, 0.5, 0.9]), abs=0.02)
    assert thinned([3, 1, 2], 300) == [1, 2, 3]


# -- scores that were not seen whole -----------------------------------------------------------------------------------

def test_without_cut_scores_the_quantile_is_the_conformal_one():
    rng = random.Random(1)
    for n in (0, 1, 7, 19, 200):
        scores = [rng.choice([rng.random(), 0.5]) for _ in range(n)]
        for miss_rate in (0.01, 0.05, 0.3, 0.9):
            assert censored_quantile(scores, [False] * n, miss_rate) == conformal_quantile(scores, miss_rate)


@pytest.mark.parametrize(('cut', 'miss_rate', 'bound'), [
    ((), 0.4, 3), ((2,), 0.4, 4),  # the share 1/5 of 2 goes to 3, 4 and the score to come
    ((2,), 0.54, 3), ((4,), 0.4, 3), ((4,), 0.39, math.inf), ((3, 4), 0.4, math.inf), ((1, 2, 3, 4), 0.9, math.inf),
])
def test_a_cut_score_hands_its_share_on_to_the_larger_ones(cut, miss_rate, bound):
    order = [3, 1, 4, 2]
    assert censored_quantile(order, [score in cut for score in order], miss_rate) == bound


def test_of_equal_scores_the_cut_one_is_the_larger():
    assert censored_quantile([1, 1, 2], [True, False, False], 0.5) == 2 \
        and censored_quantile([1, 1, 2], [True, False, False], 0.75) == 1


def test_cutting_answers_does_not_make_the_bound_smaller():
    """Half of the scores are cut, most of the large ones among them."""
    rng = random.Random(5)
    scores, cuts = [rng.expovariate(1) for _ in range(4000)], [rng.expovariate(1) for _ in range(4000)]
    whole = [score for score, at in zip(scores, cuts, strict=True) if score <= at]
    found = censored_quantile([min(pair) for pair in zip(scores, cuts, strict=True)],
                              [score > at for score, at in zip(scores, cuts, strict=True)], 0.05)
    assert found == pytest.approx(math.log(20), rel=0.1)
    assert conformal_quantile(whole, 0.05) < 0.6 * math.log(20), 'the scores that were seen whole are the short ones'


# -- the window --------------------------------------------------------------------------------------------------------

def test_the_bound_is_the_quantile_of_the_scores_that_are_kept():
    rng, window = random.Random(2), ScoreWindow(0.05, SCORES)
    kept = list(window.scores)
    assert sorted(kept) == sorted(SCORES)
    for i in range(400):
        score, cut = rng.expovariate(0.5), i % 7 == 0
        window.observe(score, cut=cut)
        kept.append(score)
        assert window.bound(0.2) == window.bound(0.2) >= window.bound(0.3)
    assert list(window.scores) == kept[-300:], 'the oldest ones are forgotten'
    cuts = [i % 7 == 0 for i in range(400)][-300:]
    assert window.bound(0.2) == censored_quantile(kept[-300:], cuts, 0.2)


def test_later_scores_push_out_small_and_large_ones_alike():
    """The same scores come again. Were the smallest of the first ones forgotten first, the bound would rise to 3.7."""
    scores = [-math.log((i + 0.5) / 300) for i in range(300)]
    window = ScoreWindow(0.05, scores)
    for score in interleaved(scores[::-1]):
        window.observe(score)
        assert window.bound(0.05) == pytest.approx(math.log(20), rel=0.07)


def test_where_the_scores_name_no_quantile_every_factor_of_e_stretches_the_bound():
    window = ScoreWindow(0.05, range(1, 102))  # the median is 51, the largest 101
    assert window.bound(1 / 101) == 101
    assert [window.bound(math.exp(-by) / 102) for by in (0.0, 1.0, 2.5)] == pytest.approx([101, 151, 226])
    assert window.bound(0.0) == math.inf


@pytest.mark.parametrize(('n', 'is_known'), [(0, False), (18, False), (19, True)])
def test_few_scores_carry_no_bound(n, is_known):
    window = ScoreWindow(0.05, [1.0] * n)
    assert math.isfinite(window.bound(0.01)) == is_known
    assert window.bound(0.6) == (1.0 if n else math.inf), 'at a probability that they do name'


@pytest.mark.parametrize(('miss_rate', 'window'), [(0.1, 300), (0.05, 300), (0.025, 600), (0.005, 1000)])
def test_a_smaller_miss_rate_keeps_more_scores(miss_rate, window):
    kept = ScoreWindow(miss_rate, [1.0] * 10_000)
    for _ in range(20):
        kept.observe(2.0, cut=True)
    assert len(kept.scores) == window


def test_which_scores_were_cut_survives_a_restart():
    window, other = ScoreWindow(0.05, SCORES), ScoreWindow(0.05)
    for i in range(200):
        window.observe(2.0 + i / 100, cut=i % 3 == 0)
    other.restore(window.state())
    assert other.state() == window.state() and len(other.state()['cut']) > 50
    assert all(other.bound(p) == window.bound(p) for p in (0.5, 0.1, 0.01))
