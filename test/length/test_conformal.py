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

from timebill_ros.length.conformal import OnlineQuantile, conformal_quantile, thinned

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


@pytest.mark.parametrize('step', [0.0, 0.029, 1.5])
def test_a_step_that_does_not_follow_is_refused(step):
    with pytest.raises(ValueError, match=str(step)):
        OnlineQuantile(0.05, step=step)


def test_where_nothing_was_promised_only_a_level_that_fell_comes_back():
    quantile = OnlineQuantile(0.05, SCORES)
    quantile.observe(True, 9.0, counts=False)
    assert quantile.level == 0.05 and quantile.scores[-1] == 9.0
    quantile.observe(True, 9.0)
    fallen = quantile.level
    assert fallen < 0.05
    for _ in range(1000):
        quantile.observe(False, 1.0, counts=False)
    assert quantile.level == 0.05, 'back to the miss rate and no further'


def test_memory_is_bounded_and_the_level_comes_back():
    quantile = OnlineQuantile(0.05, [1.0] * 10_000)
    assert len(quantile.scores) == 300
    for _ in range(1000):
        quantile.observe(True, 5.0)
    assert quantile.bound() == math.inf and len(quantile.scores) == 300
    for _ in range(200):
        quantile.observe(False, 1.0)
    assert math.isfinite(quantile.bound())
