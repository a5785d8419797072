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

"""How busy the node is, and a goal's place in the queue."""
import pytest
from fake_worker import START_S

from timebill_ros.dispatch.load import Load, load_of, position_of


def test_nothing_is_held(harness):
    assert load_of(harness.dispatcher.held(), harness.now) == Load(0, 0, None, None)


def test_goals_that_run_and_wait_and_the_smallest_slack(harness):
    running, later, sooner = harness.submit(20.0), harness.submit(19.0), harness.submit(18.0)
    held = harness.dispatcher.held()
    assert held == [running, sooner, later]  # the order in which they start
    assert load_of(held, START_S) == Load(1, 2, 18.0, None)  # none has a plan: the time left
    harness.worker.plan(running, expected_s=1.0, wcet_s=5.0)
    harness.sync()
    assert load_of(harness.dispatcher.held(), START_S).smallest_slack_s == pytest.approx(15.0)
    assert [position_of(job, held) for job in (running, sooner, later)] == [0, 1, 2]


def test_a_goal_that_has_just_come_has_a_place_before_it_is_submitted(harness):
    harness.submit(20.0)
    waiting = harness.submit(19.0)
    urgent, patient = harness.job(5.0), harness.job(30.0)
    held = harness.dispatcher.held
    assert position_of(urgent, held((urgent,))) == 1 and position_of(patient, held((patient,))) == 2
    assert position_of(waiting, held((urgent,))) == 2
    assert position_of(waiting, held((waiting,))) == 1 and len(held((waiting,))) == 2  # it is there already
    assert position_of(urgent, held()) == 0


def test_the_speed_is_that_of_what_runs(harness):
    job = harness.submit(20.0)
    harness.worker.plan(job)
    harness.worker.text(job, 'a', 2)
    harness.advance(0.0)
    assert load_of(harness.dispatcher.held(), harness.now).tokens_per_s is None
    harness.advance(2.0)
    harness.worker.text(job, 'b', 12)
    harness.sync()
    assert load_of(harness.dispatcher.held(), harness.now).tokens_per_s == pytest.approx(5.0)
    harness.worker.done(job)
    harness.sync()
    assert load_of(harness.dispatcher.held(), harness.now) == Load()
