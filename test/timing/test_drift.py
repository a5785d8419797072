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

"""The timing factor follows lasting changes, forgets old ones, and is not moved by single requests."""
import json
import math

import pytest

from timebill_ros.timing.drift import FASTEST, MEMORY_S, SLOWEST, StepFactors, TimingFactor, is_unusual


def after(*ratios):
    factor = TimingFactor()
    for ratio in ratios:
        factor.observe(ratio * 0.02, 0.02)
    return factor.value


def test_it_starts_at_one_and_does_not_believe_the_first_request():
    assert after() == 1.0 and after(3.0) == 1.0
    assert after(*[1.5] * 2) == pytest.approx(1.5) and after(*[0.7] * 4) == pytest.approx(0.7)


def test_a_lasting_change_is_followed_and_a_slower_device_sooner():
    slower = [after(*[1.0] * 20, *[1.5] * n) for n in range(6)]
    assert slower == pytest.approx([1.0] * 2 + [1.5] * 4)
    faster = [after(*[1.5] * 20, *[1.0] * n) for n in range(7)]
    assert faster == pytest.approx([1.5] * 5 + [1.0] * 2)


def test_single_requests_that_were_preempted_do_not_move_it():
    assert after(*[1.0] * 8, 30.0) == pytest.approx(1.0)
    assert after(*[1.0, 1.0, 30.0] * 5) == pytest.approx(1.0)
    assert after(*[1.0] * 8, 0.1) == pytest.approx(1.0)


def test_the_quickest_is_that_of_the_last_few_and_never_above_the_value():
    factor = TimingFactor()
    assert factor.quickest == 1.0
    for ratio, expected in ((3.0, 1.0), (3.0, 3.0), (1.2, 1.2), (3.0, 1.2), (2.5, 1.2), (3.0, 2.5), (2.6, 2.5)):
        factor.observe(ratio * 0.02, 0.02)
        assert factor.quickest == pytest.approx(expected) and factor.quickest <= factor.value + 1e-9


def test_it_is_bounded():
    assert after(*[100.0] * 9) == SLOWEST and after(*[0.01] * 9) == FASTEST


def test_without_bounds_it_corrects_a_profile_that_is_wrong_by_more():
    factor = TimingFactor(bounded=False)
    for ratio in [100.0] * 9:
        factor.observe(ratio * 0.02, 0.02)
    assert factor.value == pytest.approx(100.0)
    for ratio in [0.01] * 9:
        factor.observe(ratio * 0.02, 0.02)
    assert factor.value == pytest.approx(0.01)


@pytest.mark.parametrize(('measured', 'profiled'), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (math.nan, 1.0),
                                                    (1.0, math.nan), (math.inf, 1.0)])
def test_what_is_no_ratio_of_times_is_left_out(measured, profiled):
    factor = TimingFactor()
    for _ in range(20):
        factor.observe(measured, profiled)
    assert factor.state() == [] and factor.value == 1.0


@pytest.mark.parametrize(('ratio', 'unusual'), [(0.79, True), (0.81, False), (1.0, False), (1.49, False), (1.51, True)])
def test_what_is_worth_a_warning(ratio, unusual):
    assert is_unusual(after(*[ratio] * 9)) == unusual


def test_state_round_trip():
    factor, other = TimingFactor(), TimingFactor()
    for i in range(30):
        factor.observe(1.0 + i / 100, 1.0)
    other.restore(json.loads(json.dumps(factor.state())))
    assert other.value == factor.value and len(other.state()) == TimingFactor.window


@pytest.mark.parametrize('state', [[0.0], [-1.0], [math.nan], ['x'], 3, [None],
                                   [[1.7e9, 120.0, 1.0, 0.0]], [[1.7e9, 120.0, 1.0, math.nan]]])
def test_a_state_that_is_none_is_refused(state):
    with pytest.raises((ValueError, TypeError)):
        TimingFactor().restore(state)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_stalls_are_forgotten_with_time_and_a_device_that_is_slower_for_good_is_not():
    clock = Clock()
    factor = TimingFactor(clock=clock)
    for _ in range(6):
        factor.observe(0.06, 0.02)
        clock.now += 1.0
    assert factor.value == pytest.approx(3.0)
    clock.now += MEMORY_S
    assert factor.value == 1.0
    for _ in range(20):
        factor.observe(0.06, 0.02)
        clock.now += 1800.0
    assert factor.value == pytest.approx(3.0), 'asked every half hour'


def doubted(stalled, ratio=3.0):
    """A factor after as many stalled goals, and the refusals that it took until it let a goal through."""
    factor = TimingFactor(clock=Clock())
    for _ in range(stalled):
        factor.observe(ratio * 0.02, 0.02)
    refusals = 0
    while factor.value > 1.0 and refusals < 100:
        factor.refused()
        refusals += 1
    return factor, refusals


@pytest.mark.parametrize('stalled', range(2, 10))
def test_a_few_refusals_let_a_goal_through_that_shows_whether_they_were_right(stalled):
    """Nothing else can correct a factor that refuses every goal."""
    factor, refusals = doubted(stalled)
    assert 1 <= refusals <= 3
    factor.observe(0.06, 0.02)
    assert factor.value == pytest.approx(3.0), 'a device that is really slower is known again at once'
    factor, _ = doubted(stalled)
    factor.observe(0.021, 0.02)
    assert factor.value == 1.0
    for _ in range(2):
        factor.observe(0.06, 0.02)
    assert factor.value == pytest.approx(3.0), 'stalls of now'
    factor, _ = doubted(stalled)
    for ratio in (1.0, 1.0, 1.0, 30.0, 1.0):  # one goal was preempted
        factor.observe(ratio * 0.02, 0.02)
        assert factor.value == pytest.approx(1.0)


def test_of_a_device_that_is_really_slower_most_hopeless_goals_are_refused():
    factor, refused = TimingFactor(clock=Clock()), 0
    for _ in range(9):
        factor.observe(0.08, 0.02)
    for _ in range(100):
        if factor.value > 2.0:
            factor.refused()
            refused += 1
        else:
            factor.observe(0.08, 0.02)
    assert 70 <= refused <= 80


def test_a_usual_factor_is_not_doubted():
    """Under load many goals just miss what it takes; were they to make it 1, others would be late."""
    assert doubted(9, ratio=1.3)[1] == 100 and doubted(9, ratio=1.3)[0].value == pytest.approx(1.3)


def test_sampled_goals_say_nothing_of_greedy_ones_and_greedy_ones_something_of_them():
    factors = StepFactors(clock=Clock())
    for _ in range(9):
        factors.observe('greedy', 0.02, 0.02)
        factors.observe('top_p', 0.10, 0.02)
    assert factors.value('greedy') == pytest.approx(1.0) and factors.value('top_p') == pytest.approx(5.0)
    assert factors.value('top_k') == pytest.approx(1.0) and factors.latest == 'top_p'
    for _ in range(9):
        factors.observe('greedy', 0.04, 0.02)
    assert factors.value('top_k') == pytest.approx(2.0), 'the device is slower, whatever it draws'
    assert factors.value('top_p') == pytest.approx(5.0)


def test_the_factors_of_all_kinds_survive_a_restart():
    factors, other = StepFactors(), StepFactors()
    for _ in range(3):
        factors.observe('greedy', 0.03, 0.02)
        factors.observe('top_k', 0.05, 0.02)
    other.restore(json.loads(json.dumps(factors.state())))
    assert (other.value('greedy'), other.value('top_k')) == (pytest.approx(1.5), pytest.approx(2.5))
