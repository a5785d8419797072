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

"""A server that fails again and again is left alone, but for one goal from time to time."""
from timebill_ros.dispatch.offboard.breaker import FAILURES, LONGER, WAITS_S, Breaker


def opened():
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    assert [breaker.failed(breaker.sent()) for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [True]
    return breaker, now


def test_a_single_failure_changes_nothing():
    breaker = Breaker(lambda: 0.0)
    for _ in range(10):
        assert not breaker.failed(breaker.sent()) and breaker.allows() and not breaker.is_open
        assert not breaker.succeeded()


def test_tries_come_one_at_a_time_and_ever_less_often():
    breaker, now = opened()
    for wait_s in (*WAITS_S, WAITS_S[-1]):
        now[0] += wait_s - 0.1
        assert not breaker.allows()
        now[0] += 0.1
        assert breaker.allows() and breaker.sent() and not breaker.allows()
        assert not breaker.failed(True), 'it was open already'
    assert breaker.is_open


def test_an_answer_closes_it_and_it_opens_as_slowly_as_at_first():
    breaker, now = opened()
    now[0] += WAITS_S[0]
    assert breaker.sent() and breaker.succeeded() and breaker.allows() and not breaker.is_open
    assert not breaker.sent()
    assert [breaker.failed(False) for _ in range(FAILURES)][-1]
    now[0] += WAITS_S[0]
    assert breaker.allows()


def test_goals_from_before_it_opened_put_no_try_off():
    breaker, now = opened()
    breaker.failed(False)
    now[0] += WAITS_S[0]
    assert breaker.allows()


def test_a_try_that_was_dropped_leaves_its_place_to_the_next_goal():
    breaker, now = opened()
    now[0] += WAITS_S[0]
    breaker.sent()
    breaker.dropped(False)
    assert not breaker.allows()
    breaker.dropped(True)
    assert breaker.allows()


def test_a_goal_that_can_wait_far_longer_than_those_that_waited_in_vain_is_a_try_at_once():
    breaker = Breaker(lambda: 0.0)
    for _ in range(FAILURES):
        breaker.failed(breaker.sent(), 0.3)
    assert not breaker.allows(LONGER * 0.3) and breaker.allows(10.0)
    assert breaker.sent() and not breaker.allows(100.0), 'one at a time'
    breaker.failed(True, 10.0)
    assert not breaker.allows(LONGER * 10.0) and breaker.allows(30.0)
    breaker.failed(breaker.sent())
    assert not breaker.allows(1e9), 'it does not only say nothing'


def test_a_try_that_fails_after_another_answer_closed_it_puts_the_next_ones_not_off():
    breaker, now = opened()
    now[0] += WAITS_S[0]
    breaker.sent()
    breaker.succeeded()
    breaker.failed(True)
    for _ in range(FAILURES - 1):
        breaker.failed(False)
    now[0] += WAITS_S[0]
    assert breaker.allows()
