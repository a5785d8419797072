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

"""Simulated ROS time on the monotonic clock: paces, pauses, jumps and jitter, on a clock that the tests move."""
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebill_ros.node.ros_time import STEPS, RosTime

START_S = 5000.0
RATE_HZ = 50.0
TIMEOUT_S = 5.0


def instant(ros: RosTime, ros_s: float) -> float | None:
    """Map ROS time to an instant as renewed deadlines do."""
    mapping = ros.mapping()
    return mapping.instant(ros_s) if mapping else None


class Simulation:
    """Publishes /clock; messages arrive up to `jitter_s` late, in order."""

    def __init__(self, factor=1.0, jitter_s=0.0, seed=0):
        self.now, self.ros_s, self.factor, self.jitter_s = START_S, 100.0, factor, jitter_s
        self.rng = random.Random(seed)
        self.arrived_s = 0.0
        self.time = RosTime(TIMEOUT_S, lambda: self.arrived_s or self.now)

    def run(self, seconds, *, messages=True, paused=False):
        for _ in range(round(seconds * RATE_HZ)):
            self.now += 1 / RATE_HZ
            if not paused:
                self.ros_s += self.factor / RATE_HZ
            if messages:
                late = self.now + self.rng.random() * self.jitter_s
                self.arrived_s = max(self.arrived_s, late)
                self.time.observe(self.ros_s)
            self.arrived_s = 0.0 if not messages else self.arrived_s
        self.arrived_s = 0.0
        return self

    def found(self, ros_s):
        return instant(self.time, ros_s)

    def instant(self, ros_s):
        return self.now + (ros_s - self.ros_s) / self.factor


@pytest.mark.parametrize('jitter_s', [0.0, 0.005, 0.02])
@pytest.mark.parametrize('factor', [0.3, 0.5, 1.0, 2.0, 3.0])
def test_the_pace_is_found_within_a_second(factor, jitter_s):
    sim = Simulation(factor, jitter_s).run(1.0)
    assert sim.time.factor == pytest.approx(factor, rel=0.02 if jitter_s else 0.001)
    ahead = sim.ros_s + 10 * factor
    assert sim.found(ahead) == pytest.approx(sim.instant(ahead), abs=0.25 if jitter_s else 0.02)
    assert sim.time.left_s(ahead) == pytest.approx(sim.found(ahead) - sim.now)
    assert sim.time.state == 'live' and sim.time.epoch == 0


@pytest.mark.parametrize(('factor', 'step_s'), [(0.05, 0.01), (0.05, 0.02), (0.1, 0.05), (0.02, 0.01)])
def test_a_slow_simulator_that_repeats_the_time_of_its_last_step_does_not_stand_still(factor, step_s):
    sim = Simulation(factor)

    def run(seconds):
        for _ in range(round(seconds * RATE_HZ)):
            sim.now += 1 / RATE_HZ
            sim.ros_s += factor / RATE_HZ
            sim.time.observe(sim.ros_s // step_s * step_s)

    run(8 * STEPS * step_s / factor)
    assert sim.time.factor == pytest.approx(factor, rel=0.15)
    ahead = sim.ros_s + 0.2
    assert sim.found(ahead) == pytest.approx(sim.instant(ahead), abs=2 * step_s / factor)
    before = sim.found(ahead)
    sim.run(4.0, paused=True)  # a real pause is seen all the same
    assert sim.found(ahead) == pytest.approx(before + 4.0, abs=5 * step_s / factor)


@pytest.mark.parametrize('seed', range(5))
def test_delays_longer_than_messages_are_apart_blur_the_pace_little(seed):
    sim = Simulation(0.5, 0.05, seed).run(1.5)
    assert sim.time.factor == pytest.approx(0.5, rel=0.06)
    ahead = sim.ros_s + 1.0
    assert sim.found(ahead) == pytest.approx(sim.instant(ahead), abs=0.15)


def test_a_deadline_that_comes_near_is_known_within_the_jitter():
    sim = Simulation(2.0, 0.04)
    deadline = sim.ros_s + 4.0
    sim.run(1.95)
    assert sim.found(deadline) == pytest.approx(START_S + 2.0, abs=0.04)


@pytest.mark.parametrize(('before', 'after'), [(1.0, 0.3), (0.5, 3.0), (3.0, 0.3)])
def test_a_change_of_pace_is_followed(before, after):
    sim = Simulation(before, 0.005).run(3.0)
    sim.factor = after
    sim.run(1.5)
    assert sim.time.factor == pytest.approx(after, rel=0.05)
    ahead = sim.ros_s + after
    assert sim.found(ahead) == pytest.approx(sim.instant(ahead), abs=0.06)


@pytest.mark.parametrize('messages', [True, False])
@pytest.mark.parametrize('factor', [0.5, 1.0, 2.0])
def test_a_pause(factor, messages):
    sim = Simulation(factor).run(2.0)
    deadline = sim.ros_s + 4.0
    before = sim.found(deadline)
    sim.run(2.0, messages=messages, paused=True)
    # With messages the deadline moves away; without messages, nobody knows of the pause.
    assert sim.found(deadline) == pytest.approx(before + (2.0 if messages else 0.0), abs=0.05)
    assert sim.time.factor == pytest.approx(factor, rel=0.01) and sim.time.state == 'live'
    sim.run(TIMEOUT_S, messages=messages, paused=True)
    assert sim.time.state == 'stopped' and sim.found(deadline) is None, 'the last instant holds'
    assert sim.time.left_s(deadline) == pytest.approx(4.0 / factor, abs=0.05), 'for a goal released now'
    sim.run(1.5)
    assert sim.time.state == 'live' and sim.time.factor == pytest.approx(factor, rel=0.02)
    assert sim.found(deadline) == pytest.approx(sim.instant(deadline), abs=0.05), 'it moves again'


def test_a_pause_with_messages_cannot_move_a_deadline_for_ever():
    sim = Simulation().run(2.0)
    deadline = sim.ros_s + 1.0
    instants = []
    for _ in range(200):
        sim.run(0.1, paused=True)
        instants.append(sim.found(deadline))
    last = max(instant for instant in instants if instant is not None)
    assert last <= START_S + 2.0 + TIMEOUT_S + 1.0 + 0.1 and instants[-1] is None


def test_a_jump_back_begins_another_epoch_and_keeps_the_pace():
    sim = Simulation(2.0).run(2.0)
    sim.ros_s = 0.0
    sim.run(0.04)
    assert sim.time.epoch == 1 and sim.time.state == 'jumped' and sim.time.factor == pytest.approx(2.0, rel=0.02)
    assert sim.found(sim.ros_s + 4.0) == pytest.approx(sim.now + 2.0, abs=0.05)
    sim.run(TIMEOUT_S)
    assert sim.time.state == 'live' and sim.time.epoch == 1


def test_a_jump_forward_brings_deadlines_nearer_and_keeps_the_pace():
    sim = Simulation(0.5).run(2.0)
    deadline = sim.ros_s + 30.0
    sim.ros_s += 20.0
    sim.run(0.04)
    assert sim.time.epoch == 0 and sim.time.factor == pytest.approx(0.5, rel=0.02)
    assert sim.found(deadline) == pytest.approx(sim.now + 20.0, abs=0.1)


def test_without_a_message_nothing_is_known_and_the_first_is_enough():
    sim = Simulation()
    assert (sim.time.state, sim.time.left_s(200.0), sim.found(200.0)) == ('none', None, None)
    sim.run(1 / RATE_HZ)
    assert sim.time.left_s(sim.ros_s + 3.0) == pytest.approx(3.0) and sim.time.state == 'live'


@pytest.mark.parametrize('rate_hz', [10.0, 1000.0])
def test_slow_and_fast_messages(rate_hz, monkeypatch):
    monkeypatch.setattr(f'{__name__}.RATE_HZ', rate_hz)
    sim = Simulation(1.5).run(2.0)
    assert sim.time.factor == pytest.approx(1.5, rel=0.01)
    assert len(sim.time._window) <= 105
    assert sim.found(sim.ros_s + 3.0) == pytest.approx(sim.now + 2.0, abs=0.02)


@pytest.mark.parametrize('rate_hz', [50.0, 100.0, 1000.0])
@pytest.mark.parametrize('silent_s', [0.5, 3.0, 60.0])
def test_a_silence_is_no_pace(rate_hz, silent_s, monkeypatch):
    monkeypatch.setattr(f'{__name__}.RATE_HZ', rate_hz)
    sim = Simulation(2.0).run(2.0).run(silent_s, messages=False, paused=True)
    for _ in range(20):
        sim.run(0.02)
        assert sim.time.factor == pytest.approx(2.0, rel=0.01)
        assert sim.time.left_s(sim.ros_s + 2.0) == pytest.approx(1.0, abs=0.02)


def test_messages_that_were_lost_are_no_pause_and_no_jump():
    sim = Simulation(2.0).run(2.0)
    deadline = sim.ros_s + 100.0
    before = sim.found(deadline)
    sim.run(30.0, messages=False).run(0.5)
    assert sim.time.factor == pytest.approx(2.0, rel=0.01) and sim.time.state == 'live'
    assert sim.found(deadline) == pytest.approx(before, abs=0.05)


def test_a_time_published_again_and_again_between_steps_is_no_pause():
    now = [START_S]
    ros = RosTime(TIMEOUT_S, lambda: now[0])
    for i in range(2000):
        now[0] += 1e-3
        ros.observe(10.0 + 0.5 * 0.02 * (i // 20))  # steps at 50 Hz, messages at 1 kHz
    assert ros.factor == pytest.approx(0.5, rel=0.01) and ros.state == 'live'
    assert ros.left_s(12.0) == pytest.approx((12.0 - 11.0) / 0.5, abs=0.03)


def test_a_mapping_stays_as_it_was_taken():
    sim = Simulation(2.0).run(2.0)
    mapping, instant = sim.time.mapping(), sim.found(150.0)
    sim.ros_s = 0.0
    sim.run(0.2)
    assert mapping.instant(150.0) == instant and mapping.epoch == 0
    assert sim.time.mapping().epoch == 1 and sim.found(150.0) > instant + 40
    sim.run(TIMEOUT_S + 0.1, messages=False)
    assert sim.time.mapping() is None


@pytest.mark.parametrize('useless', [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_a_message_without_a_time_is_ignored(useless):
    sim = Simulation().run(1.0)
    before = sim.time.mapping()
    sim.time.observe(useless)
    assert sim.time.mapping() == before and sim.time.epoch == 0


@given(st.lists(st.tuples(st.floats(0, 20) | st.just(0.0) | st.floats(0, 0.05),
                          st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 3) | st.floats(0, 5e9)),
                max_size=60),
       st.floats(0, 1e9))
def test_no_sequence_of_messages_gives_anything_but_a_time(messages, deadline):
    now = [START_S]
    ros = RosTime(TIMEOUT_S, lambda: now[0])
    for wait_s, ros_s in messages:
        now[0] += wait_s
        ros.observe(ros_s)
        for value in (instant(ros, deadline), ros.left_s(deadline), ros.factor):
            assert value is None or math.isfinite(value)
        assert 0.01 <= ros.factor <= 100
