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

from timebill_ros.codes import ErrorCode, FinishReason, Strategy
from timebill_ros.dispatch.supervisor import BACKOFF_S, HANG_GRACE_PAUSES, HANG_GRACE_S, MAX_ERRORS
from timebill_ros.request import Outcome, to_dict

KILL, TRUNCATE = Strategy.KILL, Strategy.TRUNCATE
FAILED = {'event': 'failed', 'message': 'no such model'}


def test_a_hung_worker_is_killed_and_the_next_goal_served_by_its_successor(harness):
    hung, following, worker = harness.submit(5.0), harness.submit(100.0), harness.worker
    harness.advance(5.0)
    assert end_of(hung)[0] is ErrorCode.DEADLINE_MISSED
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
    assert end_of(job)[0] is ErrorCode.DEADLINE_MISSED
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
    (dies, r"ended \(exit code 1\) before it began: it may be that worker_python '/no/python' is no Python"),
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


def test_one_that_ends_after_it_began_is_no_fault_of_its_python(unconfigured):
    unconfigured.answer = None
    future = unconfigured.dispatcher.configure()
    unconfigured.sync()
    unconfigured.worker.say({'event': 'alive'})
    unconfigured.worker.die('exit code 1')
    with pytest.raises(RuntimeError, match=r'^the inference process ended \(exit code 1\)$'):
        future.result(10.0)


def test_the_end_waits_for_one_that_failed(unconfigured):
    fails(unconfigured)
    with pytest.raises(RuntimeError):
        unconfigured.dispatcher.configure().result(10.0)
    assert not unconfigured.worker.closed
    unconfigured.dispatcher.close()
    assert unconfigured.worker.closed


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


@pytest.mark.parametrize('first', [True, False])
def test_every_start_has_a_limit(unconfigured, first):
    """A worker that hangs while it loads is ended, the first one and each replacement."""
    if not first:
        unconfigured.configured()
    unconfigured.dispatcher.settings['worker_start_timeout_s'] = 20.0
    unconfigured.answer = None
    if first:
        future = unconfigured.dispatcher.configure()
    else:
        unconfigured.worker.die()
    unconfigured.sync()
    hung = unconfigured.worker
    unconfigured.creep(19.75)
    assert hung.alive and hung is unconfigured.worker and not unconfigured.dispatcher.is_ready
    unconfigured.creep(0.25)
    assert not hung.alive
    if first:
        with pytest.raises(RuntimeError, match='not ready after 20 s, and its start did not get on for 20 s'):
            future.result(0)
        return
    unconfigured.creep(BACKOFF_S[1] + 20.0)  # its successor hangs as well
    assert not unconfigured.worker.alive
    unconfigured.answer = READY
    unconfigured.creep(BACKOFF_S[2])
    assert unconfigured.dispatcher.is_ready


def progress(advanced=True):
    return {'event': 'progress', 'part': 3, 'of': 6, 'what': 'compiling', 'for_s': 9.0, 'left_s': 60.0,
            'advanced': advanced}


@pytest.mark.parametrize('first', [True, False])
def test_a_start_may_take_as_long_as_it_gets_on(unconfigured, first):
    if not first:
        unconfigured.configured()
    unconfigured.dispatcher.settings['worker_start_timeout_s'] = 20.0
    unconfigured.answer = None
    future = unconfigured.dispatcher.configure() if first else unconfigured.worker.die()
    unconfigured.sync()
    worker = unconfigured.worker
    for _ in range(30):  # 150 s
        unconfigured.creep(5.0)
        worker.say(progress())
        unconfigured.sync()
    assert worker.alive and worker is unconfigured.worker
    assert unconfigured.dispatcher.facts.stage.startswith('part 3 of 6, compiling')
    for _ in range(3):  # it hangs now, and its reports say so
        unconfigured.creep(5.0)
        worker.say(progress(advanced=False))
        unconfigured.sync()
    unconfigured.creep(4.75)
    assert worker.alive
    unconfigured.creep(0.25)
    assert not worker.alive
    if first:
        with pytest.raises(RuntimeError, match='not ready after 170 s.*for 20 s .*it was at part 3 of 6, compiling'):
            future.result(0)
    else:
        unconfigured.creep(BACKOFF_S[1] + 19.0)
        assert unconfigured.worker is not worker and unconfigured.worker.alive, 'its successor has a limit of its own'


@pytest.mark.parametrize(('one_time_s', 'served'), [(30.0, 25.0), (0.0, 40.0)])
def test_a_restart_is_expected_to_take_what_a_start_takes_that_finds_everything_made(unconfigured, one_time_s, served):
    """The first start takes 37 s. Compiling and measuring, whose results are kept, are not done again."""
    unconfigured.answer = None
    unconfigured.dispatcher.configure()
    unconfigured.sync()
    unconfigured.creep(37.0)
    unconfigured.worker.say({**READY, 'one_time_s': one_time_s})
    unconfigured.sync()
    unconfigured.worker.die()
    unconfigured.sync()
    restart_s = 37.0 - one_time_s
    hopeless, waiting = unconfigured.submit(restart_s - 1.0), unconfigured.submit(served)
    assert end_of(hopeless)[0] is ErrorCode.WORKER_LOST
    assert waiting.outcome is None
    unconfigured.creep(restart_s)
    unconfigured.worker.say(READY)
    unconfigured.sync()
    assert unconfigured.worker.ids('run') == ['goal 1']


def test_a_profile_that_is_measured_at_every_start_belongs_to_a_restart(unconfigured):
    """It could not be kept: the disk is full, or it was doubted. Goals know that the restart takes as long again."""
    unconfigured.answer = None
    unconfigured.dispatcher.configure()
    unconfigured.sync()
    unconfigured.creep(20.0)
    unconfigured.worker.say(progress())
    unconfigured.worker.say(READY)
    unconfigured.sync()
    unconfigured.worker.die()
    unconfigured.sync()
    assert end_of(unconfigured.submit(19.0))[0] is ErrorCode.WORKER_LOST
    assert unconfigured.submit(25.0).outcome is None


def fail(harness, code=ErrorCode.UNKNOWN, **fatal):
    """Run a goal that ends with an error."""
    job = harness.submit()
    outcome = to_dict(Outcome(code, 'RuntimeError: CUDA error', '', FinishReason.ERROR))
    harness.worker.say({'event': 'done', 'id': job.request.request_id, 'outcome': outcome, 'finished_s': 0.0, **fatal})
    harness.sync()
    assert end_of(job)[0] is code
    return job


def succeed(harness):
    job = harness.submit()
    harness.worker.done(job)
    harness.sync()
    assert end_of(job)[0] is ErrorCode.NONE


@pytest.mark.parametrize('code', [ErrorCode.UNKNOWN, ErrorCode.OUT_OF_MEMORY])
def test_a_worker_whose_goals_all_fail_is_replaced(harness, code):
    """One that fails now and then is not."""
    for _ in range(3):
        for _ in range(MAX_ERRORS - 1):
            fail(harness, code)
        succeed(harness)
    assert len(harness.workers) == 1
    harness.answer = None
    for _ in range(MAX_ERRORS):
        fail(harness, code)
    assert not harness.workers[0].alive and len(harness.workers) == 2
    assert not harness.dispatcher.is_ready  # so the node says that it is degraded
    waiting = harness.submit()
    assert waiting.outcome is None
    harness.worker.say(READY)
    harness.sync()
    assert harness.dispatcher.is_ready and harness.worker.ids('run') == [waiting.request.request_id]


def test_a_fatal_error_replaces_the_worker_at_once(harness):
    fail(harness, fatal='CUDA error: an illegal memory access was encountered')
    assert not harness.workers[0].alive and len(harness.workers) == 2
    following = harness.submit()
    assert harness.workers[0].ids('run') == ['goal 0'] and harness.worker.ids('run') == [following.request.request_id]


def test_a_fatal_error_counts_though_the_node_has_ended_the_goal(harness):
    job = harness.submit(5.0)
    harness.advance(5.0)
    assert end_of(job)[0] is ErrorCode.DEADLINE_MISSED
    outcome = to_dict(Outcome(ErrorCode.UNKNOWN, 'CUDA error', '', FinishReason.ERROR))
    harness.worker.say({'event': 'done', 'id': 'goal 0', 'outcome': outcome, 'finished_s': 0.0, 'fatal': 'CUDA error'})
    harness.sync()
    assert not harness.workers[0].alive and harness.dispatcher.counts['worker_restarts'] == 1


def test_restarts_that_mend_nothing_back_off(harness):
    for wait in [*BACKOFF_S, BACKOFF_S[-1]]:
        spawned = len(harness.workers)
        fail(harness, fatal='a device that is broken')
        if wait:
            harness.creep(wait - 0.25)
            assert len(harness.workers) == spawned and not harness.dispatcher.is_ready
            harness.creep(0.25)
        assert len(harness.workers) == spawned + 1 and harness.dispatcher.is_ready
    succeed(harness)
    fail(harness, fatal='another error')
    assert len(harness.workers) == spawned + 2


def test_a_listener_that_fails_does_not_keep_a_worker_from_being_replaced(unconfigured):
    def fail():
        raise RuntimeError('a bug')

    unconfigured.dispatcher._supervisor._on_health = fail
    unconfigured.configured()
    unconfigured.worker.die()
    unconfigured.sync()
    assert len(unconfigured.workers) == 2 and unconfigured.dispatcher.is_ready
