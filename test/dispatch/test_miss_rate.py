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

"""When misses are more than chance explains."""
import itertools

import pytest

from timebill_ros.dispatch.miss_rate import ERROR_CHANCE, WARN_CHANCE, Level, MissRate


@pytest.mark.parametrize(('promised', 'warns', 'fails'), [
    (1, None, None), (2, 2, None), (5, 3, 4), (20, 5, 7), (100, 12, 16)])  # as in docs/operating.md
def test_levels_at_the_default_rate(promised, warns, fails):
    levels = [MissRate(promised, missed, 0.05).level for missed in range(promised + 1)]
    assert levels == sorted(levels)
    for level, first in ((Level.WARN, warns), (Level.ERROR, fails)):
        assert next((missed for missed, found in enumerate(levels) if found >= level), None) == first


@pytest.mark.parametrize('allowed', [0.01, 0.05, 0.5])
def test_the_chance_is_that_of_independent_misses(allowed):
    """Every way in which 6 goals can be missed or kept, each with its probability."""
    for missed in range(7):
        chance = sum(allowed ** sum(way) * (1 - allowed) ** (6 - sum(way))
                     for way in itertools.product((0, 1), repeat=6) if sum(way) >= missed)
        assert MissRate(6, missed, allowed).chance == pytest.approx(chance)


def test_without_goals_nothing_is_wrong():
    rate = MissRate(0, 0, 0.05)
    assert (rate.rate, rate.chance, rate.level) == (None, 1.0, Level.OK)
    assert str(rate) == 'no promised goal ended lately; 5.0% may miss their deadline'


def test_it_says_both_rates():
    assert str(MissRate(20, 3, 0.05)) == '3 of the last 20 promised goals missed their deadline (15.0%; 5.0% may)'
    assert WARN_CHANCE > MissRate(20, 6, 0.05).chance > ERROR_CHANCE
