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
import math

import pytest
from fake_worker import MARGIN_S, START_S, Harness, end_of

from timebill_ros.dispatch.supervisor import HANG_GRACE_S
from timebill_ros.request import ErrorCode, FinishReason, Outcome, Phase, Strategy, Timing, Verdict, to_dict

KILL, TRUNCATE = Strategy.KILL, Strategy.TRUNCATE


@pytest.fixture
def harness():
    harness = Harness().configured()
    yield harness
    harness.dispatcher.close()


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
                                         'preempted': 0, 'worker_restarts': 0}


def test_one_at_a_time_and_of_equal_urgency_first_come_first_served(harness):
    jobs = [harness.submit() for _ in range(4)]
    for n, job in enumerate(jobs, start=1):
        assert harness.worker.ids('run') == [job.request.request_id for job in jobs[:n]]
        assert harness.dispatcher.n_waiting == 4 - n
        harness.worker.done(job)
        harness.sync()
        assert end_of(job)[0] is ErrorCode.NONE


@pytest.mark.parametrize('queue_size', [0, 1, 3])
def test_a_full_queue_is_busy(queue_size):
    harness = Harness(queue_size=queue_size).configured()
    jobs = [harness.submit() for _ in range(queue_size + 3)]
    assert [job.outcome is not None for job in jobs] == [False] * (queue_size + 1) + [True] * 2
    for job in jobs[-2:]:
        assert end_of(job) == (ErrorCode.BUSY, FinishReason.ERROR, '')
        assert f'{queue_size} goals' in job.outcome.error_msg
    harness.dispatcher.update({'queue_size': queue_size + 1})
    assert harness.submit().outcome is None
    harness.dispatcher.close()


def test_a_goal_of_higher_priority_takes_a_place_in_a_full_queue():
    harness = Harness(queue_size=2).configured()
    running, first, second = harness.submit(100.0), harness.submit(20.0), harness.submit(10.0)
    urgent, equal = harness.submit(30.0, priority=1), harness.submit(5.0)
    assert end_of(first) == (ErrorCode.BUSY, FinishReason.ERROR, '') and 'priority 1' in first.outcome.error_msg
    assert end_of(equal)[0] is ErrorCode.BUSY  # a deadline alone displaces nobody
    for job in (running, urgent, second):
        harness.worker.done(job)
        harness.sync()
    assert harness.worker.ids('run') == ['goal 0', 'goal 3', 'goal 2']
    harness.dispatcher.close()


@pytest.mark.parametrize(('scheduling', 'ran'), [('edf', [0, 3, 2, 1]), ('fcfs', [0, 1, 2, 3])])
def test_the_order_of_waiting_goals(scheduling, ran):
    harness = Harness(scheduling=scheduling).configured()
    jobs = [harness.submit(budget_s, priority=priority) for budget_s, priority in (
        (100.0, 0), (50.0, 0), (40.0, 0), (60.0, 1))]
    for i in ran:
        harness.worker.done(jobs[i])
        harness.sync()
    assert harness.worker.ids('run') == [f'goal {i}' for i in ran]
    harness.dispatcher.close()


@pytest.mark.parametrize(('drop', 'strategy', 'ends'), [
    ('kill', KILL, True), ('kill', TRUNCATE, False), ('never', KILL, False), ('all', TRUNCATE, True)])
def test_a_goal_that_the_running_one_blocks_for_too_long(drop, strategy, ends):
    """Its chance is told at once; whether it ends for it is a matter of the parameter."""
    harness = Harness(drop_infeasible=drop).configured()
    running = harness.submit(100.0)
    waiting = harness.submit(5.0, strategy=strategy)
    harness.worker.plan(running, expected_s=2.0, wcet_s=4.0)
    harness.sync()
    assert (waiting.timing.verdict, waiting.outcome) == (Verdict.UNKNOWN, None)
    harness.worker.plan(running, expected_s=2.0, wcet_s=6.0)
    harness.sync()
    assert (waiting.timing.verdict, waiting.outcome) == (Verdict.AT_RISK, None)
    harness.worker.plan(running, expected_s=5.5, wcet_s=6.0)
    harness.sync()
    assert waiting.timing.verdict is Verdict.INFEASIBLE and (waiting.outcome is not None) is ends
    if ends:
        assert end_of(waiting) == (ErrorCode.INFEASIBLE, FinishReason.ERROR, '')
        assert '5.500 s' in waiting.outcome.error_msg and '5.000 s' in waiting.outcome.error_msg
        released = harness.submit(5.0, strategy=strategy)  # at its release
        assert end_of(released)[0] is ErrorCode.INFEASIBLE
    else:
        harness.worker.done(running)
        harness.sync()
        assert harness.worker.ids('run') == ['goal 0', 'goal 1']
        assert waiting.timing.verdict is Verdict.UNKNOWN  # started: its plan will tell
    harness.dispatcher.close()


@pytest.mark.parametrize('strategy', [KILL, TRUNCATE])
def test_where_not_even_the_prompt_can_be_read_any_more_every_goal_ends(strategy):
    harness = Harness(drop_infeasible='never').configured()
    first = harness.submit(100.0)
    harness.worker.done(first, timing=Timing(prompt_tokens=20, decode_s=1.0))
    harness.submit(100.0)
    waiting = harness.submit(5.0, strategy=strategy)  # the same prompt: half of it takes 2 s, delivery 0.1 s
    harness.advance(2.85)
    assert waiting.outcome is None
    harness.advance(0.1)
    assert end_of(waiting) == (ErrorCode.INFEASIBLE, FinishReason.ERROR, '')
    assert '2.000 s for reading' in waiting.outcome.error_msg
    harness.dispatcher.close()


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
    (TRUNCATE, True, 'one', ErrorCode.TIMEOUT, ''),
    (TRUNCATE, False, '', ErrorCode.TIMEOUT, ''),
    (KILL, False, 'one\ntwo', ErrorCode.TIMEOUT, ''),
    (KILL, False, '', ErrorCode.TIMEOUT, ''),
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


@pytest.mark.parametrize('strategy', [KILL, TRUNCATE])
def test_a_goal_whose_deadline_comes_in_the_queue(harness, strategy):
    harness.submit(100.0)
    short, shorter = harness.submit(5.0, strategy=strategy), harness.submit(3.0, strategy=strategy)
    harness.advance(3.0 - MARGIN_S - 0.01)
    assert (short.outcome, shorter.outcome) == (None, None)
    harness.advance(0.02)
    assert short.outcome is None and end_of(shorter) == (ErrorCode.INFEASIBLE, FinishReason.ERROR, '')
    harness.advance(1.99)
    assert end_of(short) == (ErrorCode.INFEASIBLE, FinishReason.ERROR, '')
    assert '5.000 s' in short.outcome.error_msg and short.timing.queue_s == pytest.approx(4.9)
    assert harness.worker.ids('run') == ['goal 0'] and harness.worker.ids('cancel') == []


@pytest.mark.parametrize('budget_s', [1e-9, MARGIN_S / 4, -1.0])
def test_a_goal_without_time_even_for_its_delivery_is_told_so_at_once(harness, budget_s):
    job = harness.submit(budget_s)
    assert end_of(job) == (ErrorCode.INFEASIBLE, FinishReason.ERROR, '')
    assert job.timing.verdict is Verdict.INFEASIBLE and f'{budget_s:.3f} s' in job.outcome.error_msg
    assert harness.worker.ids('run') == []


def test_queueing_time_is_told_from_running_time(harness):
    """Also of a goal that ends before the worker has told anything."""
    first, second = harness.submit(3.0), harness.submit(10.0)
    harness.advance(2.0)
    harness.worker.done(first)
    harness.sync()
    harness.advance(8.0)
    assert second.timing.queue_s == 2.0 and second.timing.response_time_s == 10.0


@pytest.mark.parametrize(('verdict', 'end', 'promised', 'missed'), [
    (Verdict.FITS, {}, 1, 0),
    (Verdict.FITS_WITH_EVICTION, {'reason': FinishReason.LENGTH}, 1, 0),
    (Verdict.FITS, {'reason': FinishReason.CAPPED}, 1, 1),
    (Verdict.FITS, {'reason': FinishReason.DEADLINE}, 1, 1),
    (Verdict.FITS, {'reason': FinishReason.CANCELED, 'error_code': ErrorCode.CANCELED}, 0, 0),
    (Verdict.FITS, None, 1, 1),  # the worker says nothing more
    (Verdict.AT_RISK, {'reason': FinishReason.DEADLINE}, 0, 0),
    (Verdict.INFEASIBLE, None, 0, 0),
])
def test_promises_are_counted(harness, verdict, end, promised, missed):
    job = harness.submit()
    harness.worker.plan(job, verdict)
    if end is not None:
        harness.worker.done(job, verdict=verdict, **end)
    harness.advance(20.0)
    assert (harness.dispatcher.counts['promised'], harness.dispatcher.counts['missed']) == (promised, missed)
    assert harness.dispatcher.counts['late'] == (end is None)  # this clock jumped over the deadline


@pytest.mark.parametrize('silent', [False, True])
def test_a_plan_made_again_is_told_at_once_and_the_promise_stays_the_first(harness, silent):
    job = harness.submit()
    harness.worker.plan(job, Verdict.FITS, expected_s=1.0, wcet_s=2.0)
    harness.worker.phase(job)
    harness.sync()
    told = len(harness.changes)
    harness.advance(1.0)
    harness.worker.plan(job, Verdict.AT_RISK, expected_s=3.0, wcet_s=20.0)
    harness.sync()
    assert len(harness.changes) == told + 1 and job.timing.verdict is Verdict.AT_RISK
    assert job.remaining_s(harness.now) == (3.0, 20.0), 'from when it was made'
    if not silent:
        harness.worker.done(job, reason=FinishReason.DEADLINE, verdict=Verdict.FITS)
    harness.advance(20.0)
    assert job.outcome.timing.verdict is Verdict.FITS
    assert (harness.dispatcher.counts['promised'], harness.dispatcher.counts['missed']) == (1, 1)


def test_what_the_worker_tracks_is_there_for_diagnostics(harness):
    assert harness.dispatcher.tracked == {'timing_factor': 1.0, 'unusual': False}
    job = harness.submit()
    harness.worker.say({'event': 'done', 'id': job.request.request_id, 'outcome': to_dict(Outcome(text='x')),
                        'finished_s': 0.0, 'tracked': {'timing_factor': 1.7, 'unusual': True}})
    harness.sync()
    assert harness.dispatcher.tracked == {'timing_factor': 1.7, 'unusual': True} and job.outcome is not None


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


def test_remaining_time_of_a_job(harness):
    job = harness.submit()
    assert all(math.isnan(x) for x in job.remaining_s(harness.now))
    harness.worker.plan(job, expected_s=1.0, wcet_s=2.0)
    harness.sync()
    assert [job.remaining_s(harness.now + dt) for dt in (0.0, 0.5, 1.5, 5.0)] == [(1.0, 2.0), (0.5, 1.5), (0.0, 0.5),
                                                                                 (0.0, 0.0)]
    harness.worker.done(job)
    harness.sync()
    assert job.remaining_s(harness.now) == (0.0, 0.0)


def test_an_outcome_of_the_worker_is_taken_as_it_is(harness):
    """Also a failure, with its code and sentence."""
    job = harness.submit()
    harness.worker.done(job, '', FinishReason.ERROR, error_code=ErrorCode.OUT_OF_MEMORY, error_msg='no room')
    harness.sync()
    assert end_of(job) == (ErrorCode.OUT_OF_MEMORY, FinishReason.ERROR, '') and job.outcome.error_msg == 'no room'
