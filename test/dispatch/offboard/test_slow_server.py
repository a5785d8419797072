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

"""A server that is only slow, or whose answers are long, is not taken for one that fails."""
import pytest

from timebill_ros.codes import Verdict
from timebill_ros.dispatch.offboard.breaker import FAILURES, LONGER, WAITS_S
from timebill_ros.dispatch.offboard.second_tier import ASKED, BROKEN, HOPELESS


def test_a_pace_is_learned_from_answers_that_are_not_waited_for(harness):
    jobs = []
    for _ in range(FAILURES + 1):
        jobs.append(harness.ask(5.0, max_new_tokens=100))
        if jobs[-1].is_contested:
            for n in (1, 2, 3):
                harness.now += 1.0
                harness.server_says(jobs[-1], 'word ', n)
        harness.on_board_ends(jobs[-1], 'on board')
        harness.advance(5.0)
    assert harness.dispatcher.tier.state == ASKED
    assert [job.timing.offboard_verdict for job in jobs] == [Verdict.UNKNOWN] + [Verdict.INFEASIBLE] * FAILURES
    assert all(job.outcome.text == 'on board' for job in jobs)


def test_a_first_answer_that_was_cut_does_not_keep_later_goals_from_the_server(harness):
    cut = harness.ask(2.0, max_new_tokens=100)
    harness.on_board_ends(cut, 'on board')
    for n in (1, 2, 3):
        harness.now += 0.5
        harness.server_says(cut, 'word ', n)
    harness.advance(0.5)
    jobs = [harness.ask(2.0, max_new_tokens=100) for _ in range(HOPELESS)]
    assert {job.timing.offboard_verdict for job in jobs} == {Verdict.INFEASIBLE}, 'for all that is known, they are long'
    asked, = (job for job in jobs if job.is_contested)
    for job in jobs:
        harness.on_board_ends(job, 'on board')
    assert asked.outcome is None, 'otherwise none would ever show how long an answer is'
    harness.now += 1.0
    harness.server_ends(asked, 'short', 2)
    assert asked.outcome.text == 'short' and harness.ask(2.0).timing.offboard_verdict is Verdict.AT_RISK


@pytest.mark.parametrize(('stalls', 'state'), [(False, ASKED), (True, BROKEN)])
def test_a_long_answer_that_still_flows_at_its_deadline_is_no_failure_and_one_that_stalls_is(harness, stalls, state):
    for _ in range(9):  # short answers, so that the next ones are expected in time
        job = harness.ask(max_new_tokens=100)
        harness.server_says(job, 'word ', 1)
        harness.now += 0.4
        harness.server_ends(job, 'word', 5)
        harness.worker.say({'event': 'done', 'id': job.request.request_id, 'outcome': {}, 'finished_s': 0.0})
        harness.sync()
    for _ in range(FAILURES):
        job = harness.ask(5.0, max_new_tokens=100)
        harness.on_board_ends(job, 'on board')
        for n in range(1, 49):
            harness.now += 0.1
            if n < 5 or not stalls:
                harness.server_says(job, 'word ', n)
        harness.advance(0.15)
        assert job.outcome.text == 'on board'
    harness.sync()
    assert harness.dispatcher.tier.state == state


def test_a_try_whose_answer_flows_shows_that_the_server_is_back(harness):
    for _ in range(FAILURES):
        job = harness.ask()
        harness.server_fails(job)
        harness.on_board_ends(job)
    harness.advance(WAITS_S[0])
    job = harness.ask(2.0)
    for n in range(1, 20):
        harness.now += 0.1
        harness.server_says(job, 'word ', n)
    assert harness.dispatcher.tier.state == BROKEN
    harness.on_board_ends(job)
    harness.advance(0.1)
    harness.sync()
    assert job.outcome is not None and harness.dispatcher.tier.state == ASKED


def test_urgent_goals_do_not_keep_one_that_has_time_from_the_server(harness):
    for _ in range(FAILURES):  # the server takes a second, and nothing of it is known yet
        harness.on_board_ends(harness.ask(0.5))
        harness.advance(0.5)
    assert harness.dispatcher.tier.state == BROKEN and not harness.ask(0.5 * LONGER).is_contested
    patient = harness.ask(10.0)
    harness.now += 1.0
    harness.server_ends(patient)
    assert patient.outcome.text == 'the better answer' and harness.dispatcher.tier.state == ASKED


@pytest.mark.parametrize('finished', [False, True])
def test_a_bug_in_the_comparison_ends_no_goal_without_a_result(harness, monkeypatch, finished):
    job, other = harness.ask(5.0), harness.ask(5.0)
    if finished:
        monkeypatch.setattr('timebill_ros.dispatch.offboard.race.Race.wins_at_once', lambda *_: False)
        harness.server_ends(other)
    harness.on_board_ends(job, 'on board')
    for name in ('answer', 'better'):
        monkeypatch.setattr(f'timebill_ros.dispatch.offboard.race.Race.{name}', lambda *_: 1 / 0)
    harness.advance(5.1)
    assert job.outcome.text == 'on board' and other.outcome is not None
    assert not harness.dispatcher.tier._races
