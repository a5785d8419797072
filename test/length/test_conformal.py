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

"""Bounds on the next score: the conformal quantile, and the level that follows outcomes."""
import math
import random

import numpy as np
import pytest

from timebill_ros.length.conformal import OnlineQuantile, censored_quantile, conformal_quantile, thinned

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


# -- the level ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('step', [0.0, 0.03, 0.099, 1.5])
def test_a_step_that_does_not_follow_is_refused(step):
    with pytest.raises(ValueError, match=str(step)):
        OnlineQuantile(0.05, step=step)


# Laws of scores. The first is that of a predictor whose distributions are right.
LAWS = {'exponential': lambda rng: rng.expovariate(1), 'uniform': lambda rng: rng.random(),
        'Pareto': lambda rng: rng.paretovariate(1.5), 'lognormal': lambda rng: math.exp(rng.gauss(0, 1)),
        'mixed': lambda rng: (8 if rng.random() < 0.1 else 1) * rng.expovariate(1)}


def serve(quantile, draw, rng, share, cases):
    """Return for each promise whether it was missed. `share`: of the cases, what could be promised.

    The hardest for the bound: a promised answer is cut where the bound ends, and any other before, so that little is
    seen of long ones. Under an infinite bound nothing is promised.
    """
    missed = []
    for _ in range(cases):
        bound, score = quantile.bound(), draw(rng)
        promised = rng.random() < share and math.isfinite(bound)
        end = bound if promised else min(bound, 20.0) * rng.random()
        quantile.observe(promised and score > end, min(score, end), cut=score > end, counts=promised)
        if promised:
            missed.append(score > end)
    return missed


@pytest.mark.parametrize('share', [0.1, 0.3])
@pytest.mark.parametrize('law', LAWS)
def test_the_miss_rate_holds_however_few_cases_are_promised(law, share):
    rng = random.Random(11)
    quantile = OnlineQuantile(0.025, [LAWS[law](rng) for _ in range(2000)])
    missed = serve(quantile, LAWS[law], rng, share, cases=int(600 / share))
    assert len(missed) > 500, 'the rate is not kept by promising nothing'
    assert np.mean(missed) <= 0.033


@pytest.mark.parametrize('law', ['exponential', 'Pareto'])
def test_a_small_miss_rate_holds_too(law):
    rng = random.Random(12)
    quantile = OnlineQuantile(0.005, [LAWS[law](rng) for _ in range(2000)])
    missed = serve(quantile, LAWS[law], rng, share=0.3, cases=7000)
    assert len(missed) > 2000 and np.mean(missed) <= 0.008


@pytest.mark.parametrize('miss_rate', [0.25, 0.025, 0.005, 0.0005])
def test_one_miss_makes_no_bound_infinite_that_was_finite(miss_rate):
    quantile = OnlineQuantile(miss_rate, [random.Random(i).expovariate(1) for i in range(5000)])
    before = quantile.bound()
    quantile.observe(True, before, cut=True)
    assert quantile.level == pytest.approx(miss_rate - 0.5 * miss_rate * (1 - miss_rate))
    assert math.isfinite(quantile.bound()) == math.isfinite(before)
    assert quantile.bound() >= before


def test_only_promised_cases_move_the_level_and_all_scores_are_kept():
    quantile = OnlineQuantile(0.05, SCORES)
    for _ in range(50):
        quantile.observe(True, 9.0, counts=False)
        quantile.observe(False, 0.1, counts=False)
    assert quantile.level == 0.05 and list(quantile.scores)[-2:] == [9.0, 0.1]
    quantile.observe(True, 9.0)
    fallen = quantile.level
    assert fallen == pytest.approx(0.05 - 0.5 * 0.05 * 0.95)
    for _ in range(1000):
        quantile.observe(False, 1.0, counts=False)
    assert quantile.level == fallen, 'easy cases that were not promised do not pay for a missed promise'


def test_below_zero_every_miss_stretches_the_bound_and_then_it_is_infinite():
    quantile = OnlineQuantile(0.1, range(1, 102))  # the median is 51, the largest 101
    bounds = []
    while math.isfinite(quantile.bound()):
        bounds.append(quantile.bound())
        quantile.observe(True)
    assert bounds == sorted(bounds) and len(bounds) == 6
    assert bounds[:2] == [92, 97]  # by the levels 0.1 and 0.055
    assert bounds[-3:] == [pytest.approx(101 + 50 * debt) for debt in (0.7, 1.6, 2.5)]
    assert bounds[2] == 101


def test_at_the_floor_cases_that_were_not_promised_let_one_more_promise_be_tried():
    quantile = OnlineQuantile(0.05, SCORES)
    for _ in range(20):
        quantile.observe(True)
    floor = quantile.level
    assert floor == pytest.approx(-3 * 0.025 - 0.025 * 0.95), 'one miss below the level of silence'
    waits = 0
    while math.isinf(quantile.bound()):
        quantile.observe(False, 1.0, counts=False)
        waits += 1
    assert waits == 19 and quantile.level == pytest.approx(-0.075)
    quantile.observe(False, 1.0, counts=False)
    assert quantile.level == pytest.approx(-0.075), 'and no further'


def test_even_where_every_promise_is_missed_misses_are_a_small_share_of_all_cases():
    quantile, missed = OnlineQuantile(0.05, SCORES), 0
    for _ in range(4000):
        promised = math.isfinite(quantile.bound())
        quantile.observe(promised, counts=promised)
        missed += promised
    assert missed <= 0.05 * 4000 + 10


def test_the_level_rises_to_four_times_the_miss_rate():
    quantile = OnlineQuantile(0.05, SCORES)
    for _ in range(1000):
        quantile.observe(False, 1.0)
    assert quantile.level == pytest.approx(0.2)
    for level, kept in ((9.0, 0.2), (-9.0, -0.09875)):
        quantile.restore({'level': level, 'scores': [1.0]})
        assert quantile.level == pytest.approx(kept)


@pytest.mark.parametrize(('miss_rate', 'window'), [(0.1, 300), (0.05, 300), (0.025, 600), (0.005, 1000)])
def test_a_smaller_miss_rate_keeps_more_scores(miss_rate, window):
    assert len(OnlineQuantile(miss_rate, [1.0] * 10_000).scores) == window


def test_which_scores_were_cut_survives_a_restart():
    quantile, other = OnlineQuantile(0.05, SCORES), OnlineQuantile(0.05)
    for i in range(200):
        quantile.observe(False, 2.0 + i / 100, cut=i % 3 == 0, counts=i % 2 == 0)
    other.restore(quantile.state())
    assert (other.bound(), other.state()) == (quantile.bound(), quantile.state())
    assert len(other.state()['cut']) > 50


def test_memory_is_bounded_and_the_level_comes_back():
    quantile = OnlineQuantile(0.05, [1.0] * 10_000)
    assert len(quantile.scores) == 300
    for _ in range(1000):
        quantile.observe(True, 5.0)
    assert quantile.bound() == math.inf and len(quantile.scores) == 300
    for _ in range(200):
        quantile.observe(False, 1.0)
    assert math.isfinite(quantile.bound())
