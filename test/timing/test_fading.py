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

"""Observations are forgotten with time, by refusals and after later ones, also while no process runs."""
import json
import math

import pytest

from timebill_ros.timing.fading import FADE, GAPS, JITTER_S, Fading


class Clocks:
    """A process's clock and the wall's."""

    def __init__(self):
        self.now, self.date = 500.0, 1.7e9

    def wait(self, seconds):
        self.now, self.date = self.now + seconds, self.date + seconds

    def restart(self, seconds):
        """Begin another process, `seconds` later, in which the clock begins anywhere."""
        self.now, self.date = 3.0, self.date + seconds

    def memory(self, window=9, memory_s=100.0):
        return Fading(window, memory_s, clock=lambda: self.now, wall=lambda: self.date)


def values(fading):
    return [value for value, _ in fading.recall()]


def test_only_the_last_are_kept():
    fading = Clocks().memory(window=3)
    for i in range(5):
        fading.observe(i)
    assert values(fading) == [2, 3, 4]


def test_a_burst_is_forgotten_after_its_memory():
    clocks = Clocks()
    fading = clocks.memory()
    for i in range(4):
        fading.observe(i)
        clocks.wait(1.0)
    clocks.wait(96.5)
    assert values(fading) == [1, 2, 3] and not fading.forget()
    clocks.wait(10.0)
    assert fading.forget() and values(fading) == []


def test_what_had_to_be_waited_for_is_kept_for_longer():
    clocks = Clocks()
    fading = clocks.memory()
    for i in range(8):
        fading.observe(i)
        clocks.wait(3600.0)
    assert values(fading) == list(range(8))[-int(GAPS):], 'a node that is asked once an hour still knows the last hours'
    clocks.wait(GAPS * 3600.0)
    assert values(fading) == []


def test_refusals_make_it_less_sure():
    fading = Clocks().memory()
    fading.observe('a')
    fading.fade()
    fading.observe('b')
    fading.fade()
    assert fading.recall() == [('a', FADE ** 2), ('b', FADE)]


def test_what_is_doubted_is_confirmed_or_dropped():
    fading = Clocks().memory()
    fading.observe('a')
    assert not fading.is_doubted
    fading.fade()
    fading.observe('b')
    assert fading.is_doubted
    fading.settle(confirmed=True)
    assert fading.recall() == [('a', 1.0), ('b', 1.0)]
    fading.fade()
    fading.observe('c')
    fading.settle(confirmed=False)
    assert fading.recall() == [('c', 1.0)] and not fading.is_doubted


@pytest.mark.parametrize('down_s', [0.0, 30.0, 80.0])
def test_time_goes_on_while_no_process_runs(down_s):
    clocks = Clocks()
    before = clocks.memory()
    before.observe('a')
    clocks.wait(15.0)
    before.observe('b')
    before.fade()
    kept = json.loads(json.dumps(before.state()))
    clocks.restart(down_s)
    after = clocks.memory()
    after.restore(kept, lambda value: True)
    assert after.recall() == [('a', FADE), ('b', FADE)]
    clocks.wait(86.0 - down_s)
    assert values(after) == ['b'], 'a is 101 s old'
    clocks.wait(15.0)
    assert values(after) == []


@pytest.mark.parametrize(('back_s', 'kept'), [(JITTER_S / 2, ['a']), (JITTER_S * 2, []), (1.7e9, [])])
def test_a_wall_clock_that_was_set_back_makes_ages_unknown(back_s, kept):
    clocks = Clocks()
    before = clocks.memory()
    before.observe('a')
    state = before.state()
    clocks.restart(-back_s)
    after = clocks.memory()
    after.restore(state, lambda value: True)
    assert values(after) == kept


@pytest.mark.parametrize('state', [3, [3], [[1.0]], [['x', 1.0, 1.0, 2]], [[1.0, 'x', 1.0, 2]], [[1.0, 1.0, 0.0, 2]],
                                   [[1.0, math.nan, 1.0, 2]], [[1.0, 1.0, 1.0, -2]], [[1.0, 1.0, 1.0, 'x']]])
def test_a_state_that_is_none_is_refused(state):
    with pytest.raises((ValueError, TypeError)):
        Clocks().memory().restore(state, lambda value: value > 0)
