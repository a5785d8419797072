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

"""The level at which promises are missed as often as they may be is found from goals with and without promises."""
import json
import math
import random

import numpy as np
import pytest

from timebill_ros.length.promise_level import PromiseLevel
from timebill_ros.planning.shown_goals import LOWEST, MEMORY_S, ShownGoals


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def shown(miss_rate=0.05, clock=None, wall=None):
    return ShownGoals(miss_rate, clock=clock or Clock(), wall=wall or Clock())


@pytest.mark.parametrize('miss_rate', [0, 1, -0.1, math.nan])
def test_a_miss_rate_is_between_0_and_1(miss_rate):
    with pytest.raises(ValueError, match=str(miss_rate)):
        ShownGoals(miss_rate)


@pytest.mark.parametrize('miss_rate', [0.001, 0.01, 0.05, 0.2, 0.5])
def test_levels_go_from_below_the_miss_rate_to_certainty(miss_rate):
    levels = shown(miss_rate).levels
    assert levels == sorted(levels) and levels[0] <= LOWEST * miss_rate and levels[-1] == pytest.approx(1.0)


@pytest.mark.parametrize('least', [0.0, 0.004, 0.03, 0.5, 1.0, 1.01])
def test_the_least_level_with_a_promise(least):
    goals, asked = shown(), []

    def is_promised(level):
        asked.append(level)
        return level >= least

    found = goals.needed(is_promised)
    assert found == next((level for level in goals.levels if level >= least), math.inf)
    assert len(asked) <= 5, 'a plan for each'


def test_without_goals_the_level_is_the_aim():
    goals = shown()
    assert [goals.level(aim) for aim in (0.001, 0.05, 0.2)] == [0.001, 0.05, 0.2]


def test_goals_that_no_level_promises_show_nothing():
    goals = shown()
    for _ in range(300):
        goals.observe(math.inf, True)
    assert goals.state() == [] and goals.level(0.05) == 0.05


def test_a_higher_level_needs_goals_that_show_it():
    goals = shown()
    levels = []
    for _ in range(12):
        levels.append(goals.level(0.05))
        goals.observe(goals.levels[-2], True)
    assert levels[:9] == [0.05] * 9 and levels[9:] == [goals.levels[-2]] * 3, 'half a miss of ten is one in twenty'
    goals.observe(goals.levels[-1], False)
    assert goals.level(0.05) == goals.levels[-2], 'none is as high as one that only goals that were missed have shown'


def test_an_aim_below_the_miss_rate_lowers_the_level_in_proportion():
    """The misses that have lowered the aim are among the goals: with both, two would undo what fifty have shown."""
    goals = shown()
    for _ in range(58):
        goals.observe(0.5, True)
    for _ in range(2):
        goals.observe(0.5, False)
    assert [goals.level(aim) for aim in (0.05, 0.025, 0.001)] == pytest.approx([0.5, 0.25, 0.01])


def test_goals_that_low_levels_promise_say_nothing_of_high_ones():
    goals = shown()
    for _ in range(200):
        goals.observe(goals.levels[0], True)
    assert goals.level(0.05) == 0.05


def test_a_miss_below_the_aim_lowers_the_level_below_it():
    goals = shown()
    below = [level for level in goals.levels if level < 0.05]
    goals.observe(below[-1], False)
    assert goals.level(0.05) == below[-2]
    for _ in range(19):
        goals.observe(below[-1], True)
    assert goals.level(0.05) == 0.05


def test_where_all_is_missed_the_lowest_level_stays_for_the_aim_to_end():
    goals = shown()
    for _ in range(50):
        goals.observe(goals.levels[0], False)
    assert goals.level(0.05) == goals.levels[0]


def world(rng, hard):
    """A goal: which level would promise it, and whether it is in time; those of higher levels are missed more often."""
    needed = 10 ** rng.uniform(-2.5, 0.3)
    return needed, rng.random() > hard * min(needed, 1.0)


@pytest.mark.parametrize('miss_rate', [0.01, 0.05, 0.2])
@pytest.mark.parametrize('hard', [0.2, 1.0])
@pytest.mark.parametrize('rare', [1.0, 0.15])
def test_the_rate_is_approached_from_below_within_hundreds_of_goals(miss_rate, hard, rare):
    """Few goals are promised: the others show the level all the same."""
    rng, promised, missed, best = random.Random(5), [], [], []
    for _ in range(20):
        goals = shown(miss_rate)
        level = PromiseLevel(miss_rate, level_for=goals.level, clock=Clock(), wall=Clock())
        for i in range(600):
            needed, in_time = world(rng, hard) if rng.random() < rare else (math.inf, False)
            level.come_back()
            is_promised = needed <= level.value
            if i >= 300:
                promised.append(is_promised)
                missed += [not in_time] if is_promised else []
                best.append(needed <= 1.0 and (hard, miss_rate) == (0.2, 0.2))
            level.observe(in_time if is_promised else None)
            goals.observe(min((one for one in goals.levels if one >= needed), default=math.inf), in_time)
    assert np.mean(missed) <= 1.15 * miss_rate + 2 * math.sqrt(miss_rate / len(missed))
    assert np.mean(missed) >= 0.5 * miss_rate or np.mean(promised) >= 0.9 * np.mean(best) > 0


def test_goals_are_forgotten_with_time():
    clock = Clock()
    goals = shown(clock=clock)
    for _ in range(20):
        goals.observe(goals.levels[0], False)
    clock.now += 0.9 * MEMORY_S
    assert goals.level(0.05) < 0.05
    clock.now += 0.2 * MEMORY_S
    assert goals.level(0.05) == 0.05


def test_they_survive_a_restart():
    wall = Clock()
    goals, other = shown(wall=wall), shown(wall=wall)
    rng = random.Random(3)
    for _ in range(150):
        goals.observe(rng.choice(goals.levels), rng.random() < 0.95)
    other.restore(json.loads(json.dumps(goals.state())))
    assert [other.level(aim) for aim in (0.01, 0.05, 0.1)] == [goals.level(aim) for aim in (0.01, 0.05, 0.1)]


@pytest.mark.parametrize('value', [[0.1], [0.0, True], [1.5, True], [math.nan, True], [0.1, 'x'], 7, ['x', True],
                                   ['0.5', True]])
def test_a_state_that_is_none_is_refused(value):
    with pytest.raises((ValueError, TypeError)):
        shown().restore([[0.0, 600.0, 1.0, value]])
