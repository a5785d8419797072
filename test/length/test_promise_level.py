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


"""The level of promises: the share missed stays within the miss rate, and comes near it."""
import json
import math
import random

import numpy as np
import pytest

from timebill_ros.length.conformal import ScoreWindow
from timebill_ros.length.promise_level import (
    HALF_LIFE_S,
    HIGHEST,
    HIGHEST_EACH,
    LOWEST,
    SHARES,
    PromiseLevel,
)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def frozen(miss_rate=0.05, **options):
    """A level for which no time passes."""
    return PromiseLevel(miss_rate, clock=Clock(), wall=Clock(), **options)


@pytest.mark.parametrize('miss_rate', [0, 1, -0.1, math.nan])
def test_a_miss_rate_is_between_0_and_1(miss_rate):
    with pytest.raises(ValueError, match=str(miss_rate)):
        PromiseLevel(miss_rate)


@pytest.mark.parametrize('step', [0.0, 0.09, 3.1, math.nan])
def test_a_step_that_does_not_follow_is_refused(step):
    with pytest.raises(ValueError, match=str(step)):
        PromiseLevel(0.05, step=step)


@pytest.mark.parametrize('miss_rate', [0.25, 0.05, 0.005])
def test_a_missed_promise_is_paid_for_by_kept_ones(miss_rate):
    level = frozen(miss_rate, step=1.0)
    assert level.value == pytest.approx(miss_rate)
    level.observe(False)
    assert level.value == pytest.approx(miss_rate * math.exp(miss_rate - 1))
    for _ in range(round(1 / miss_rate) - 1):
        level.observe(True)
    assert level.value == pytest.approx(miss_rate, rel=0.02)


def test_goals_without_a_promise_leave_it():
    level = frozen()
    level.observe(False)
    before = level.value
    for _ in range(1000):
        level.observe(None)
    assert level.value == before, 'easy goals that were not promised do not pay for a missed promise'


def test_promises_of_goals_with_time_to_spare_raise_it_to_the_miss_rate_alone():
    level = frozen()
    level.observe(False)
    for _ in range(1000):
        level.observe(True, ample=True)
    assert level.value == pytest.approx(0.05)
    for _ in range(10):
        level.observe(True)
    raised = level.value
    assert raised == pytest.approx(0.05 * math.exp(10 * level.step * 0.05))
    level.observe(True, ample=True)
    assert level.value == raised, 'nor do they lower it'
    level.observe(False, ample=True)
    assert level.value == pytest.approx(raised * math.exp(-level.step * 0.95)), 'a miss counts with any time'


def test_it_has_a_ceiling_and_so_has_each_bound():
    level = frozen()
    for _ in range(1000):
        level.observe(True)
    assert level.aim == level.value == pytest.approx(0.05 * HIGHEST)
    level = frozen(level_for=lambda aim: 0.8)
    level.come_back()
    level.length_share = 0.9
    assert (level.of_lengths, level.of_times) == (HIGHEST_EACH, pytest.approx(0.08))


def test_the_level_is_the_one_that_was_seen_to_be_missed_at_the_aim():
    level = frozen(level_for=lambda aim: 3 * aim)
    level.come_back()
    assert (level.aim, level.value) == (pytest.approx(0.05), pytest.approx(0.15))
    level.observe(False)
    assert level.value == 3 * level.aim < 0.15
    while level.aim:
        level.observe(False)
    assert level.value == 0, 'at the floor nothing is promised, whatever was seen'


def test_at_the_floor_bounds_are_infinite_until_enough_goals_have_passed():
    level, misses = frozen(step=1.0), 0
    while level.value:
        level.observe(False)
        misses += 1
    assert misses == math.ceil(math.log(1 / LOWEST) / 0.95) and level.of_lengths == level.of_times == 0
    for _ in range(50):
        level.observe(False)  # promises that even infinite bounds allow
    waits = 0
    while not level.value:
        level.observe(None)
        waits += 1
    assert waits == pytest.approx(0.95 / 0.05, abs=1)
    tried = level.value
    for _ in range(100):
        level.observe(None)
    assert level.value == tried == pytest.approx(LOWEST * 0.05, rel=1e-3), 'and no further'


# -- the share missed --------------------------------------------------------------------------------------------------

def slack(miss_rate, step):
    """How many more misses than the rate says there can be."""
    return math.log(HIGHEST / LOWEST) / step + 2


@pytest.mark.parametrize('level_for', [None, lambda aim: 1.0, lambda aim: 10 * aim], ids=['alone', 'all', 'ten times'])
@pytest.mark.parametrize('step', [0.5, 1.0, 2.0])
@pytest.mark.parametrize('miss_rate', [0.2, 0.05, 0.01])
@pytest.mark.parametrize('outcome', [lambda i, level, rng: True, lambda i, level, rng: i % 500 < 250,
                                     lambda i, level, rng: level > 0.3, lambda i, level, rng: rng.random() < level,
                                     lambda i, level, rng: rng.random() < 8 * level],
                         ids=['always', 'by turns', 'above a level', 'as often as it says', 'eight times as often'])
def test_the_rate_is_kept_whatever_becomes_of_promises(outcome, miss_rate, step, level_for):
    """Under infinite bounds nothing is promised, and the goal passes."""
    rng, level, missed, n = random.Random(3), frozen(miss_rate, step=step, level_for=level_for), 0, 0
    for i in range(4000):
        if not level.value:
            level.observe(None)
            continue
        is_missed = outcome(i, level.value, rng)
        level.observe(not is_missed)
        missed, n = missed + is_missed, n + 1
    passed = 4000 - n
    assert missed <= miss_rate * (n + passed) + slack(miss_rate, step)


@pytest.mark.parametrize('meets', [1.0, 0.5, 0.2, 0.1])
def test_the_rate_is_approached_where_bounds_that_are_exceeded_are_mostly_met(meets):
    """Of the goals whose bound is exceeded only a share `meets` is missed, because budgets are longer than needed."""
    # Beyond the ceiling of the aim the level is what other goals show.
    rng, level, missed = random.Random(4), frozen(level_for=(lambda aim: aim / meets) if meets < 0.4 else None), []
    for _ in range(6000):
        is_missed = rng.random() < meets * min(level.value, 1.0)
        missed.append(is_missed)
        level.observe(not is_missed)
    assert 0.04 < np.mean(missed[500:]) < 0.06
    assert np.mean(missed) <= 0.06


# Laws of scores, as of lengths. The first is that of a predictor whose distributions are right.
LAWS = {'exponential': lambda rng: rng.expovariate(1), 'uniform': lambda rng: rng.random(),
        'Pareto': lambda rng: rng.paretovariate(1.5), 'lognormal': lambda rng: math.exp(rng.gauss(0, 1)),
        'mixed': lambda rng: (8 if rng.random() < 0.1 else 1) * rng.expovariate(1)}


@pytest.mark.parametrize('share', [0.1, 0.3])
@pytest.mark.parametrize('law', LAWS)
def test_the_rate_holds_however_few_goals_are_promised(law, share):
    """The hardest for a bound: a promised answer is cut where it ends, any other before, so few long ones are seen."""
    rng, level, missed = random.Random(11), frozen(), []
    window = ScoreWindow(0.025, [LAWS[law](rng) for _ in range(2000)])
    for _ in range(int(600 / share)):
        bound, score = window.bound(level.value), LAWS[law](rng)
        promised = rng.random() < share and math.isfinite(bound)
        end = bound if promised else min(bound, 20.0) * rng.random()
        level.observe(score <= end if promised else None)
        window.observe(min(score, end), cut=score > end)
        if promised:
            missed.append(score > end)
    assert len(missed) > 500, 'the rate is not kept by promising nothing'
    assert 0.03 <= np.mean(missed) <= 0.065


# -- time and restarts -------------------------------------------------------------------------------------------------

def test_time_takes_back_what_misses_have_lowered_and_nothing_else():
    clock = Clock()
    level = PromiseLevel(0.05, step=1.5, clock=clock, wall=clock)
    for _ in range(2):
        level.observe(False)
    lowered = level.value
    clock.now += HALF_LIFE_S / 1.5
    assert level.value == lowered, 'it is the same while a goal is planned'
    level.come_back()
    assert level.value == pytest.approx(math.sqrt(0.05 * lowered))
    clock.now += 20 * HALF_LIFE_S
    level.come_back()
    assert level.value == pytest.approx(0.05)
    for _ in range(20):
        level.observe(True)
    raised = level.value
    clock.now += 20 * HALF_LIFE_S
    level.come_back()
    assert level.value == raised > 0.05


@pytest.mark.parametrize('kept', [True, False])
def test_it_survives_a_restart_and_time_passes_for_it(kept):
    wall = Clock()
    level, other = (PromiseLevel(0.05, clock=Clock(), wall=wall) for _ in range(2))
    for _ in range(2):
        level.observe(kept)
    level.length_share = 0.7
    state = json.loads(json.dumps(level.state()))
    other.restore(state)
    other.come_back()
    assert (other.value, other.length_share) == (level.value, 0.7)
    wall.now += HALF_LIFE_S / level.step
    other.restore(state)
    other.come_back()
    assert other.value == pytest.approx(level.value if kept else math.sqrt(0.05 * level.value))
    wall.now -= 3 * HALF_LIFE_S
    other.restore(state)  # the wall clock has been set back
    other.come_back()
    assert other.value == pytest.approx(level.value)


@pytest.mark.parametrize('change', [{'log_level': math.nan}, {'log_level': 'x'}, {'length_share': 0.0},
                                    {'length_share': 1.5}, {'date': math.inf}, {'date': None}])
def test_a_state_that_is_none_is_refused(change):
    level = frozen()
    with pytest.raises((ValueError, TypeError)):
        level.restore({**level.state(), **change})
    with pytest.raises(KeyError):
        level.restore({})


def test_a_state_beyond_the_limits_is_brought_within_them():
    level = frozen()
    for log_level, value in ((9.0, 0.05 * HIGHEST), (-99.0, 0.0)):
        level.restore({**level.state(), 'log_level': log_level})
        assert level.value == pytest.approx(value)


# -- its two bounds ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('best', SHARES)
def test_lengths_get_the_share_with_which_the_bounds_cost_least(best):
    level = frozen()
    level.share_by(lambda: 1.0 + abs(level.length_share - best))
    assert level.length_share == best
    assert level.of_lengths + level.of_times == pytest.approx(level.value)


def test_another_share_has_to_gain_something():
    level = frozen()
    level.share_by(lambda: 1.0 - 0.009 * (level.length_share == 0.9))
    assert level.length_share == 0.5
