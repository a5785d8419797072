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

"""The supervisor in its dispatcher: workers that hang, are lost, do not come up, and are restarted."""

import pytest
from fake_worker import READY, end_of

from timebill_ros.dispatch.supervisor import BACKOFF_S, HANG_GRACE_PAUSES, HANG_GRACE_S
from timebill_ros.request import ErrorCode, FinishReason, Strategy

KILL, TRUNCATE = Strategy.KILL, Strategy.TRUNCATE
FAILED = {'event': 'failed', 'message': 'no such model'}


def test_a_hung_worker_is_killed_and_the_next_goal_served_by_its_successor(harness):
    hung, following, worker = harness.submit(5.0), harness.submit(100.0), harness.worker
    harness.advance(5.0)
    assert end_of(hung)[0] is ErrorCode.TIMEOUT
    harness.advance(HANG_GRACE_S - 0.25)
    assert worker.alive
    harness.advance(0.25)
    assert not worker.alive and len(harness.workers) == 2
    assert worker.ids('run') == ['goal 0'] and harness.worker.ids('run') == ['goal 1']
    harness.worker.done(following)
    harness.sync()
    assert end_of(following) == (ErrorCode.NONE, FinishReason.EOS, 'the answer')
    assert harness.dispatcher.counts['worker_restarts'] == 1


def test_a_slow_worker_is_not_taken_for_hung(unconfigured):
    unconfigured.answer = {**READY, 'longest_pause_s': 4.0}
    unconfigured.configured()
    job, worker = unconfigured.submit(5.0), unconfigured.worker
    unconfigured.advance(5.0)
    assert end_of(job)[0] is ErrorCode.TIMEOUT
    unconfigured.advance(HANG_GRACE_S + HANG_GRACE_PAUSES * 4.0 - 0.25)
    assert worker.alive
    unconfigured.advance(0.25)
    assert not worker.alive


@pytest.mark.parametrize(('strategy', 'text', 'kept'), [
    (TRUNCATE, 'one\ntwo', 'one\n'), (TRUNCATE, '', ''), (KILL, 'one\ntwo', ''),
])
def test_a_worker_lost_with_a_goal(harness, strategy, text, kept):
    job, following, first = harness.submit(strategy=strategy, stop_at_line_end=True), harness.submit(), harness.worker
    first.plan(job)
    first.text(job, text, 3)
    first.die('signal SIGSEGV')
    harness.sync()
    assert end_of(job) == (ErrorCode.WORKER_LOST, FinishReason.ERROR, kept)
    assert 'SIGSEGV' in job.outcome.error_msg and '3 tokens' in job.outcome.error_msg
    assert harness.worker.ids('run') == ['goal 1']
    first.done(following, 'a ghost speaks')  # nobody listens to a dead worker
    first.say(FAILED)
    harness.sync()
    assert following.outcome is None and len(harness.workers) == 2
    assert harness.worker.sent[0]['op'] == 'configure'


def never(harness):
    harness.refuse = True


def fails(harness):
    harness.answer = FAILED


def dies(harness):
    harness.answer = {'event': 'lost', 'reason': 'exit code 1'}


@pytest.mark.parametrize('why', [never, fails, dies])
def test_restarts_back_off_and_queued_goals_end_by_their_deadlines(harness, why):
    running, queued = harness.submit(1000.0), harness.submit(4.0)
    why(harness)
    harness.worker.die()
    harness.sync()
    assert end_of(running)[0] is ErrorCode.WORKER_LOST
    during = harness.submit(2.0)  # accepted: the worker may come back in time
    assert (during.outcome, queued.outcome) == (None, None)
    harness.creep(2.0)
    assert end_of(during) == (ErrorCode.WORKER_LOST, FinishReason.ERROR, '') and queued.outcome is None
    harness.creep(2.0)
    assert end_of(queued) == (ErrorCode.WORKER_LOST, FinishReason.ERROR, '')
    assert 'restarting' in queued.outcome.error_msg
    assert not harness.dispatcher.is_ready

    harness.creep(120.0)
    waits = [b - a for a, b in zip(harness.spawned_s[1:], harness.spawned_s[2:], strict=False)]
    assert waits == [*BACKOFF_S[1:], BACKOFF_S[-1], BACKOFF_S[-1]]

    harness.refuse, harness.answer = False, READY
    harness.advance(30.0)
    assert harness.submit().outcome is None and harness.worker.ids('run')
    spawned = len(harness.spawned_s)
    harness.worker.die()  # it had come up, so the next start is at once
    harness.sync()
    assert len(harness.spawned_s) == spawned + 1 and harness.dispatcher.is_ready


@pytest.mark.parametrize(('why', 'sentence'), [
    (never, "worker_python '/no/python' cannot be started: no such file"), (fails, 'no such model'),
    (dies, 'exit code 1'),
])
def test_a_configure_that_fails_says_why(unconfigured, why, sentence):
    why(unconfigured)
    future = unconfigured.dispatcher.configure()
    with pytest.raises(RuntimeError, match=sentence):
        future.result(10.0)
    unconfigured.advance(100.0)
    assert not any(worker.alive for worker in unconfigured.workers)
    assert len(unconfigured.spawned_s) == 1  # whoever asked decides whether to try again
    assert end_of(unconfigured.submit())[0] is ErrorCode.INACTIVE
    unconfigured.refuse, unconfigured.answer = False, READY
    assert unconfigured.configured().dispatcher.is_ready


def test_closing_while_configuring(unconfigured):
    unconfigured.answer = None
    future = unconfigured.dispatcher.configure()
    unconfigured.sync()
    unconfigured.dispatcher.close()
    with pytest.raises(RuntimeError, match='shutting down'):
        future.result(10.0)
    assert unconfigured.worker.closed


def test_settings_reach_a_worker_that_runs_and_one_that_starts(harness):
    harness.dispatcher.update({'pessimistic_factor': 2.0})
    harness.sync()
    assert harness.worker.sent[-1] == {'op': 'set', 'settings': {'pessimistic_factor': 2.0}}
    harness.answer = None
    harness.worker.die()
    harness.sync()
    assert harness.worker.sent[0]['settings']['pessimistic_factor'] == 2.0
    harness.dispatcher.update({'pessimistic_factor': 3.0})
    harness.sync()
    assert harness.worker.sent[-1] == {'op': 'set', 'settings': {'pessimistic_factor': 3.0}}
