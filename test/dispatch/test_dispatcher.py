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

"""Every goal ends once and in time, whatever the worker does; on a fake worker and a clock that the tests move."""

import pytest
from fake_worker import MARGIN_S, START_S, end_of

from timebill_ros.codes import ErrorCode, FinishReason, Phase, Strategy, Verdict
from timebill_ros.dispatch.load import load_of
from timebill_ros.dispatch.supervisor import HANG_GRACE_S
from timebill_ros.request import Outcome, to_dict

KILL, TRUNCATE = Strategy.KILL, Strategy.TRUNCATE


def test_a_goal_from_end_to_end(harness):
    job, worker = harness.submit(), harness.worker
    assert worker.ids('run') == ['goal 0'] and worker.sent[-1]['request'] == to_dict(job.request)
    harness.now += 1.0
    worker.plan(job)
    worker.phase(job, Phase.PREFILL)  # no change, so nothing to report
    worker.phase(job)
    worker.text(job, 'the ', 1)
    worker.text(job, 'answer', 3)
    harness.sync()
    assert (job.text, job.n_tokens, job.outcome) == ('the answer', 3, None)
    harness.now += 1.0
    worker.done(job, finished_s=START_S + 1.5, verdict=Verdict.FITS)
    harness.sync()
    assert end_of(job) == (ErrorCode.NONE, FinishReason.EOS, 'the answer')
    assert job.finished_s == START_S + 1.5
    assert (job.timing.response_time_s, job.timing.tardiness_s, job.timing.verdict) == (2.0, 0.0, Verdict.FITS)
    assert [(phase, outcome is not None) for _, phase, outcome in harness.changes] == [
        (Phase.PREFILL, False), (Phase.PREFILL, False), (Phase.DECODE, False), (Phase.DONE, True)]
    assert harness.dispatcher.counts == {'accepted': 1, 'promised': 1, 'missed': 0, 'late': 0, 'skipped': 0,
                                         'preempted': 0, 'answered_onboard': 1, 'answered_offboard': 0,
                                         'worker_restarts': 0}


def test_one_at_a_time_and_of_equal_urgency_first_come_first_served(harness):
    jobs = [harness.submit() for _ in range(4)]
    for n, job in enumerate(jobs, start=1):
        assert harness.worker.ids('run') == [job.request.request_id for job in jobs[:n]]
        assert load_of(harness.dispatcher.held(), harness.now).waiting == 4 - n
        harness.worker.done(job)
        harness.sync()
        assert end_of(job)[0] is ErrorCode.NONE


@pytest.mark.parametrize('strategy', [KILL, TRUNCATE])
def test_cancel(harness, strategy, caplog):
    running, queued = harness.submit(strategy=strategy), harness.submit(strategy=strategy)
    harness.worker.text(running, 'some text', 2)
    harness.dispatcher.cancel(queued)
    harness.sync()
    assert end_of(queued) == (ErrorCode.CANCELED, FinishReason.CANCELED, '')
    assert running.outcome is None and harness.worker.ids('cancel') == []

    harness.dispatcher.cancel(running)
    harness.sync()
    assert running.outcome is None  # the worker's account is awaited
    assert harness.worker.ids('cancel') == ['goal 0']
    harness.worker.done(running, 'some text more', FinishReason.CANCELED, error_code=ErrorCode.CANCELED)
    for job in (running, queued, running):
        harness.dispatcher.cancel(job)  # too late, and without effect
    harness.sync()
    assert end_of(running) == (ErrorCode.CANCELED, FinishReason.CANCELED, 'some text more')
    assert [harness.ends(job) for job in (running, queued)] == [1, 1]
    assert harness.worker.ids('run') == ['goal 0']
    assert not caplog.records


def test_a_cancel_does_not_wait_for_the_deadline_of_a_worker_that_does_not_answer(harness):
    job = harness.submit(1000.0)
    harness.worker.text(job, 'some text', 2)
    harness.dispatcher.cancel(job)
    harness.advance(HANG_GRACE_S)
    assert end_of(job) == (ErrorCode.CANCELED, FinishReason.CANCELED, 'some text')


@pytest.mark.parametrize(('strategy', 'at_line_end', 'text', 'code', 'kept'), [
    (TRUNCATE, False, 'one\ntwo', ErrorCode.NONE, 'one\ntwo.'),
    (TRUNCATE, True, 'one\ntwo', ErrorCode.NONE, 'one\n.'),
    (TRUNCATE, True, 'one', ErrorCode.DEADLINE_MISSED, ''),
    (TRUNCATE, False, '', ErrorCode.DEADLINE_MISSED, ''),
    (KILL, False, 'one\ntwo', ErrorCode.DEADLINE_MISSED, ''),
    (KILL, False, '', ErrorCode.DEADLINE_MISSED, ''),
])
def test_a_late_worker_is_not_waited_for(harness, strategy, at_line_end, text, code, kept):
    job = harness.submit(5.0, strategy=strategy, stop_at_line_end=at_line_end, closing_text='.')
    following, worker = harness.submit(100.0), harness.worker
    worker.plan(job)
    if text:
        worker.text(job, text, 2)
    harness.advance(5.0 - MARGIN_S / 2 - 0.01)
    assert job.outcome is None
    harness.advance(0.02)
    assert end_of(job) == (code, FinishReason.DEADLINE, kept)
    assert job.timing.generated_tokens == (2 if text else 0)
    assert job.timing.tardiness_s == 0.0 and job.timing.response_time_s <= 5.0
    assert worker.ids('cancel') == ['goal 0'] and worker.ids('run') == ['goal 0']  # it is still at the first
    worker.text(job, 'late', 9)
    worker.done(job, 'late')
    harness.sync()
    assert harness.ends(job) == 1 and job.outcome.text == kept
    assert worker.ids('run') == ['goal 0', 'goal 1'] and following.outcome is None
    assert len(harness.workers) == 1


def test_queueing_time_is_told_from_running_time(harness):
    """Also for a goal that ends before the worker has reported anything."""
    first, second = harness.submit(3.0), harness.submit(10.0)
    harness.advance(2.0)
    harness.worker.done(first)
    harness.sync()
    harness.advance(8.0)
    assert second.timing.queue_s == 2.0 and second.timing.response_time_s == 10.0


def test_what_the_worker_tracks_is_there_for_diagnostics(harness):
    assert harness.dispatcher.facts.tracked == {'timing_factor': 1.0, 'unusual': False}
    job = harness.submit()
    harness.worker.say({'event': 'done', 'id': job.request.request_id, 'outcome': to_dict(Outcome(text='x')),
                        'finished_s': 0.0, 'tracked': {'timing_factor': 1.7, 'unusual': True}})
    harness.sync()
    assert harness.dispatcher.facts.tracked == {'timing_factor': 1.7, 'unusual': True} and job.outcome is not None


def test_end_all(harness):
    running, queued = harness.submit(strategy=KILL), harness.submit()
    harness.worker.text(running, 'so far', 2)
    assert harness.dispatcher.end_all(ErrorCode.INACTIVE, 'deactivated').wait(10.0)
    assert end_of(running) == (ErrorCode.INACTIVE, FinishReason.ERROR, 'so far')
    assert end_of(queued) == (ErrorCode.INACTIVE, FinishReason.ERROR, '')
    assert running.outcome.error_msg == queued.outcome.error_msg == 'deactivated'
    assert harness.worker.ids('cancel') == ['goal 0']
    following = harness.submit()  # active again before the worker is free
    assert harness.worker.ids('run') == ['goal 0']
    harness.worker.done(running)
    harness.sync()
    assert harness.worker.ids('run') == ['goal 0', 'goal 2'] and following.outcome is None
    assert harness.ends(running) == 1


def test_close_ends_all_and_stops_the_worker(harness):
    jobs = [harness.submit() for _ in range(3)]
    harness.dispatcher.close()
    assert [end_of(job)[0] for job in jobs] == [ErrorCode.INACTIVE] * 3
    assert harness.worker.closed and harness.dispatcher.worker_pid is None and not harness.dispatcher.is_ready
    harness.dispatcher.close()


def test_a_bug_in_a_callback_or_an_unknown_event_takes_nothing_down(harness, monkeypatch):
    def fail(job):
        raise RuntimeError('a bug')

    monkeypatch.setattr(harness.dispatcher, '_on_change', fail)
    first = harness.submit()
    for event in ({}, {'event': 'plan', 'id': 'goal 0'}, {'event': 'new'}, {'event': 'phase', 'id': 'goal 0',
                                                                            'phase': 77}):
        harness.worker.say(event)
    harness.sync()
    harness.advance(20.0)
    second = harness.submit()
    harness.advance(20.0)
    assert first.ended.is_set() and second.ended.is_set()


def test_a_listener_that_fails_changes_nothing(harness, monkeypatch):
    """The goal is sent, ends with the worker's answer, and the next one follows, though each report of it raises."""
    def fail(job):
        raise RuntimeError('a bug')

    monkeypatch.setattr(harness.dispatcher, '_on_change', fail)
    jobs = [harness.submit() for _ in range(3)]
    assert harness.worker.ids('run') == ['goal 0']
    harness.worker.plan(jobs[0])
    harness.worker.done(jobs[0])
    harness.sync()
    assert end_of(jobs[0]) == (ErrorCode.NONE, FinishReason.EOS, 'the answer')
    assert harness.worker.ids('run') == ['goal 0', 'goal 1']
    assert harness.dispatcher.end_all(ErrorCode.INACTIVE, 'deactivated').wait(10.0)
    assert [end_of(job)[0] for job in jobs[1:]] == [ErrorCode.INACTIVE] * 2


@pytest.mark.parametrize('broken', ['_counts', '_times'])
def test_a_goal_ends_though_its_account_fails(harness, monkeypatch, broken):
    job, following = harness.submit(), harness.submit()
    monkeypatch.setattr(getattr(harness.dispatcher, broken), 'observe', None)  # calling it raises TypeError
    harness.worker.done(job)
    harness.sync()
    assert end_of(job) == (ErrorCode.NONE, FinishReason.EOS, 'the answer') and harness.ends(job) == 1
    assert harness.worker.ids('run') == ['goal 0', 'goal 1'] and following.outcome is None


@pytest.mark.parametrize('finished', [{}, {'finished_s': None}, {'finished_s': 'soon'}])
def test_a_goal_ends_though_the_worker_does_not_say_when(harness, finished):
    job = harness.submit()
    harness.worker.say({'event': 'done', 'id': job.request.request_id, 'outcome': to_dict(Outcome(text='x')),
                        **finished})
    harness.sync()
    assert end_of(job)[0] is ErrorCode.UNKNOWN and 'result that cannot be' in job.outcome.error_msg


def test_an_outcome_of_the_worker_is_taken_as_it_is(harness):
    """Also a failure, with its code and sentence."""
    job = harness.submit()
    harness.worker.done(job, '', FinishReason.ERROR, error_code=ErrorCode.OUT_OF_MEMORY, error_msg='no room')
    harness.sync()
    assert end_of(job) == (ErrorCode.OUT_OF_MEMORY, FinishReason.ERROR, '') and job.outcome.error_msg == 'no room'


@pytest.mark.parametrize(('strategy', 'kept'), [(Strategy.TRUNCATE, 'so far'), (Strategy.KILL, '')])
@pytest.mark.parametrize('wrong', [
    {'error_code': 7000}, {'text': '', 'finish_reason': 5}, {'finish_reason': 99}, {'timing': {}}, {'timing': None},
])
def test_an_outcome_that_cannot_be_still_ends_its_goal(harness, wrong, strategy, kept):
    """Outcomes come from another process, maybe of another version: the goal ends, and the next one runs."""
    job, following = harness.submit(strategy=strategy), harness.submit()
    harness.worker.text(job, 'so far', 2)
    outcome = to_dict(Outcome(text='the answer', finish_reason=FinishReason.EOS))
    harness.worker.say({'event': 'done', 'id': job.request.request_id, 'outcome': {**outcome, **wrong},
                        'finished_s': harness.now})
    harness.sync()
    assert end_of(job) == (ErrorCode.UNKNOWN, FinishReason.ERROR, kept)
    assert 'result that cannot be' in job.outcome.error_msg
    harness.worker.done(following)
    harness.sync()
    assert end_of(following) == (ErrorCode.NONE, FinishReason.EOS, 'the answer') and len(harness.workers) == 1
