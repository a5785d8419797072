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

"""Cancels and moved deadlines reach the request that they are about, before it starts, while it runs, and no other."""
import pytest

from timebill_ros.deadline import Deadline
from timebill_ros.inference.control import Control
from timebill_ros.worker.steering import Steering


@pytest.fixture
def steering():
    return Steering()


@pytest.fixture
def control():
    return Control(Deadline(100.0, lambda: 0.0))


def test_a_running_request_is_steered(steering, control):
    with steering.running('a', control):
        assert not control.canceled and control.deadline.at_s == 100.0
        steering.cancel('a')
        steering.move_deadline('a', 50.0)
        assert control.canceled and control.deadline.at_s == 50.0


def test_what_comes_before_its_request_waits_for_it(steering, control):
    steering.cancel('a')
    steering.move_deadline('a', 50.0)
    with steering.running('a', control):
        assert control.canceled and control.deadline.at_s == 50.0


def test_what_is_about_another_request_has_no_effect(steering, control):
    with steering.running('a', control):
        steering.cancel('b')
        steering.move_deadline('b', 50.0)
        assert not control.canceled and control.deadline.at_s == 100.0
    other = Control(Deadline(100.0, lambda: 0.0))
    with steering.running('b', other):
        assert other.canceled and other.deadline.at_s == 50.0, 'it came before its request'


def test_a_cancel_that_comes_too_late_is_forgotten(steering, control):
    with steering.running('a', control):
        pass
    steering.cancel('a')
    assert not control.canceled
    with steering.running('b', control):
        assert not control.canceled


def test_a_request_that_raises_is_no_longer_steered(steering, control):
    with pytest.raises(ZeroDivisionError), steering.running('a', control):
        raise ZeroDivisionError
    steering.cancel('a')
    assert not control.canceled


def test_requests_that_gave_way_are_steered_too(steering, control):
    other = Control(Deadline(100.0, lambda: 0.0))
    with steering.running('a', control):
        steering.pause('a')
        assert control.pausing and not steering.is_idle
        control.pausing, control.paused = False, True
        with steering.running('b', other):
            steering.pause('b')
            steering.move_deadline('a', 50.0)
            assert other.pausing and control.deadline.at_s == 50.0
            assert not steering.cancel('b') and steering.cancel('a'), 'only the one that gave way must be woken'
            assert other.canceled and control.canceled
            steering.resume('a')
            assert not control.paused
    assert steering.is_idle


def test_a_pause_that_comes_before_its_request_waits_for_it(steering, control):
    steering.pause('a')
    with steering.running('a', control):
        assert control.pausing
    steering.resume('a')  # it has ended meanwhile
    other = Control(Deadline(100.0, lambda: 0.0))
    with steering.running('a', other):
        assert not other.pausing and not other.paused
