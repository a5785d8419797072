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

"""The bound of whole requests' times follows what they show, and forgets it again."""
import json

import pytest

from timebill_ros.length.promise_level import PromiseLevel
from timebill_ros.planning.time_bound import MEMORY_S, MOST, TimeBound, limited

QUIET = [1.0 + i / 1000 for i in range(41)]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def seen(bound, *ratios):
    for ratio in ratios:
        bound.observe(ratio)
    return bound


def make(clock=None):
    """A bound that is exceeded by a share of 0.025."""
    return TimeBound(PromiseLevel(0.05), QUIET, **({'clock': clock} if clock else {}))


@pytest.mark.parametrize(('bound', 'largest', 'found'), [
    (0.7, 0.9, 1.0), (1.3, 2.0, 1.3), (float('inf'), 2.0, 2.1), (7.0, 7.0, MOST), (float('inf'), 9.0, MOST)])
def test_a_bound_of_times_has_limits(bound, largest, found):
    assert limited(bound, largest) == pytest.approx(found)


def test_stalls_raise_it_and_time_takes_them_back():
    clock = Clock()
    bound = make(clock)
    start = bound.value
    seen(bound, *[1.01] * 20)
    calm = bound.value
    clock.now += 2 * MEMORY_S
    assert seen(bound, *[4.0] * 6).value == MOST
    clock.now += 1.0
    seen(bound, *[1.01] * 10)
    assert bound.value == MOST, 'ten good requests do not yet speak against six bad ones'
    clock.now += MEMORY_S - 0.5
    assert bound.value <= max(start, calm) and len(bound.state()) == 10


def test_it_follows_the_level():
    bound = seen(make(), *[1.0 + i / 100 for i in range(200)])
    bound.level = PromiseLevel(0.05, level_for=lambda aim: 20 * aim * aim)  # from 0.05 to 0.8
    values = [bound.value]
    for _ in range(80):
        bound.level.observe(True)
        values.append(bound.value)
    assert values == sorted(values, reverse=True) and values[-1] < values[0] - 0.3
    for _ in range(20):
        bound.level.observe(False)
    assert bound.level.of_times == 0 and bound.value == MOST


def test_a_state_of_an_earlier_version_is_taken_over():
    bound, other = make(), make()
    seen(bound, 1.2, 1.3)
    other.restore([[date, keep_s, weight, [*ratio, True]] for date, keep_s, weight, ratio in bound.state()])
    assert other.value == bound.value


def test_it_survives_a_restart():
    one, other = (make() for _ in range(2))
    seen(one, *[1.0 + i / 50 for i in range(30)])
    other.restore(json.loads(json.dumps(one.state())))
    assert other.value == one.value > 1.04


@pytest.mark.parametrize('value', [3, [], [0.0], [float('nan')], ['x']])
def test_a_state_that_is_none_is_refused(value):
    with pytest.raises((ValueError, TypeError)):
        make().restore([[1.7e9, 600.0, 1.0, value]])
