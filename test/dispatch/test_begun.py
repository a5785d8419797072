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

"""Goals that give way: they go on in their order, and every one of them ends, whatever happens to it meanwhile."""
import pytest
from fake_worker import READY, START_S, Harness, end_of

from timebill_ros.codes import ErrorCode, FinishReason, Phase, Strategy, Verdict
from timebill_ros.dispatch.load import load_of, position_of
from timebill_ros.request import Timing

PAUSE_S = 0.5
KILL, SKIP_NEXT, TRUNCATE = Strategy.KILL, Strategy.SKIP_NEXT, Strategy.TRUNCATE


@pytest.fixture
def harness(request):
    harness = Harness(**{'preempt': 'priority', **getattr(request, 'param', {})})
    harness.answer = {**READY, 'pauses': [[0, PAUSE_S], [100, PAUSE_S]]}
    yield harness.configured()
    harness.dispatcher.close()


def with_settings(**settings):
    return pytest.mark.parametrize('harness', [settings], indirect=True)


def running(harness, budget_s=20.0, text='begun ', expected_s=2.0, wcet_s=4.0, **request):
    """A goal that runs and is decoded, with a promise."""
    job = harness.submit(budget_s, **request)
    harness.worker.plan(job, Verdict.FITS, expected_s=expected_s, wcet_s=wcet_s)
    harness.worker.phase(job)
    if text:
        harness.worker.text(job, text, 3)
    harness.sync()
    return job


def gives_way(harness, job):
    assert harness.worker.ids('pause')[-1] == job.request.request_id
    harness.worker.say({'event': 'paused', 'id': job.request.request_id})
    harness.sync()


def put_aside(harness, by=1, **fields):
    """(a goal that gave way, the one of a higher priority that runs in its place)."""
    job = running(harness, **fields)
    urgent = harness.submit(30.0, priority=by)
    gives_way(harness, job)
    return job, urgent


def ends(harness, job, **outcome):
    harness.worker.done(job, finished_s=harness.now, **outcome)
    harness.sync()


def test_a_goal_gives_way_and_goes_on():
    harness = Harness(preempt='priority')
    harness.answer = {**READY, 'pauses': [[0, PAUSE_S], [100, PAUSE_S]]}
    harness.configured()
    job = running(harness)
    urgent = harness.submit(30.0, priority=1)
    assert harness.worker.ids('run') == ['goal 0'] and harness.worker.ids('cancel') == [], 'it is still under way'
    gives_way(harness, job)
    assert harness.worker.ids('run') == ['goal 0', 'goal 1'] and harness.worker.ids('resume') == []
    assert (job.phase, job.timing.preemptions, job.outcome) == (Phase.QUEUED, 1, None)
    held = harness.dispatcher.held()
    assert held == [urgent, job] and position_of(job, held) == 1 and load_of(held, harness.now).waiting == 1

    harness.advance(3.0)
    assert job.remaining_s(harness.now) == (2.0, 4.0), 'nobody works at it'
    ends(harness, urgent)
    assert harness.worker.ids('resume') == ['goal 0']
    assert (job.phase, job.timing.paused_s, job.preempted_by) == (Phase.DECODE, 3.0, '')
    harness.advance(1.0)
    assert job.remaining_s(harness.now) == (1.0, 3.0) and job.ran_s(harness.now) == 1.0
    harness.worker.text(job, 'and done', 5)
    ends(harness, job, text='begun and done', timing=Timing(preemptions=1, paused_s=2.9))
    assert end_of(job) == (ErrorCode.NONE, FinishReason.EOS, 'begun and done')
    assert (job.outcome.timing.preemptions, job.outcome.timing.paused_s) == (1, 2.9), 'the worker knows it better'
    assert harness.dispatcher.counts['preempted'] == 0
    phases = [phase for name, phase, _ in harness.changes if name == 'goal 0']
    assert [phase for i, phase in enumerate(phases) if not i or phase != phases[i - 1]] == [
        Phase.PREFILL, Phase.DECODE, Phase.QUEUED, Phase.DECODE, Phase.DONE]
    harness.dispatcher.close()


def test_it_can_give_way_again(harness):
    job, urgent = put_aside(harness)
    ends(harness, urgent)
    other = harness.submit(30.0, priority=2)
    assert harness.worker.ids('pause') == ['goal 0'] * 2
    gives_way(harness, job)
    ends(harness, other)
    assert harness.worker.ids('resume') == ['goal 0'] * 2 and job.timing.preemptions == 2


def test_how_fast_it_is_decoded_does_not_count_what_it_gave_way_for(harness):
    job = running(harness)
    harness.advance(1.0)
    harness.worker.text(job, 'more ', 13)
    harness.sync()
    urgent = harness.submit(30.0, priority=1)
    gives_way(harness, job)
    harness.advance(0.9)
    ends(harness, urgent)
    assert job.tokens_per_s == pytest.approx(10.0)


def test_those_that_gave_way_last_go_on_first_and_before_all_that_would_not_have_stopped_them(harness):
    first, second = put_aside(harness, by=3)
    third = harness.submit(30.0, priority=5)
    gives_way(harness, second)
    waiting = [harness.submit(30.0, priority=priority) for priority in (0, 2, 4)]
    assert harness.dispatcher.held() == [third, waiting[2], second, waiting[1], first, waiting[0]]
    order = []
    for _ in range(6):
        now = harness.dispatcher.held()[0]
        order.append(now)
        ends(harness, now)
    assert order == [third, waiting[2], second, waiting[1], first, waiting[0]]
    assert harness.worker.ids('resume') == ['goal 1', 'goal 0']


@with_settings(preempt='deadline', scheduling='edf')
def test_of_the_same_priority_the_earlier_deadline_goes_first(harness):
    job = running(harness, budget_s=40.0, expected_s=10.0, wcet_s=20.0)
    urgent = harness.submit(5.0)
    gives_way(harness, job)
    later, earlier = harness.submit(60.0), harness.submit(8.0)
    assert harness.dispatcher.held() == [urgent, earlier, job, later]


@pytest.mark.parametrize(('strategy', 'budget_s', 'keeps'), [
    (TRUNCATE, 1.0, True), (TRUNCATE, 0.55, False), (KILL, 3.0, True), (KILL, 2.5, False)])
def test_a_goal_that_could_not_go_on_in_time_ends_at_once(harness, strategy, budget_s, keeps):
    """It needs half a second for being put aside and taken up again, and 0.1 s for delivery; under KILL 2 s more."""
    running(harness, budget_s=budget_s, strategy=strategy)
    harness.submit(30.0, priority=1)
    assert harness.worker.ids('pause' if keeps else 'cancel') == ['goal 0']


def test_what_the_other_goal_usually_takes_counts(harness):
    job = running(harness)
    ends(harness, job, timing=Timing(prompt_tokens=9, kept_tokens=9, decode_s=6.0))
    running(harness, budget_s=8.0)  # the other one takes 1.8 s for its prompt, and 6 s for its answer
    harness.submit(30.0, priority=1)
    assert harness.worker.ids('cancel') == ['goal 1'] and harness.worker.ids('pause') == []


@pytest.mark.parametrize(('strategy', 'text'), [(TRUNCATE, 'begun '), (KILL, '')])
def test_a_goal_that_cannot_go_on_any_more_ends_preempted(harness, strategy, text):
    job, urgent = put_aside(harness, budget_s=10.0, strategy=strategy)
    needs_s = 0.1 + PAUSE_S + (2.0 if strategy is KILL else 0.0)
    harness.advance(10.0 - needs_s - 0.05)
    assert job.outcome is None
    harness.advance(0.1)
    assert end_of(job) == (ErrorCode.PREEMPTED, FinishReason.ERROR, text)
    assert 'goal 1 of priority 1' in job.outcome.error_msg and 'too little time is left' in job.outcome.error_msg
    assert job.outcome.timing.paused_s == pytest.approx(harness.now - START_S)
    assert job.outcome.timing.preemptions == 1 and job.outcome.timing.verdict is Verdict.FITS
    assert harness.worker.ids('cancel') == ['goal 0'], 'the worker need not keep it'
    # What the worker says of it later concerns nobody.
    ends(harness, job, text='begun', reason=FinishReason.CANCELED, error_code=ErrorCode.CANCELED)
    ends(harness, urgent)
    assert end_of(urgent)[0] is ErrorCode.NONE and harness.ends(job) == 1
    assert harness.submit().phase is Phase.PREFILL


def test_a_late_goal_goes_on_and_those_that_come_meanwhile_are_skipped(harness):
    job, urgent = put_aside(harness, budget_s=5.0, strategy=SKIP_NEXT, max_overrun_s=20.0)
    harness.advance(6.0)
    assert job.is_late and job.outcome is None
    skipped = harness.submit()
    assert end_of(skipped)[0] is ErrorCode.SKIPPED and 'goal 0' in skipped.outcome.error_msg
    ends(harness, urgent)
    assert harness.worker.ids('resume') == ['goal 0']


def test_a_goal_that_a_late_one_would_make_way_for_is_not_skipped_while_it_does_so_for_another(harness):
    job = running(harness, budget_s=5.0, strategy=SKIP_NEXT, max_overrun_s=20.0)
    harness.advance(6.0)
    urgent = harness.submit(priority=1)
    others = [harness.submit(priority=1)]  # the late goal is still to give way
    gives_way(harness, job)
    others.append(harness.submit(priority=1))
    assert job.is_late and end_of(harness.submit())[0] is ErrorCode.SKIPPED
    assert harness.dispatcher.held() == [urgent, *others, job]


def test_a_goal_whose_deadline_moves_ahead_again_is_not_late(harness):
    job = harness.job(5.0, strategy=SKIP_NEXT, max_overrun_s=20.0)
    job.ros_deadline_s = 50.0
    harness.dispatcher.submit(job)
    harness.advance(6.0)
    assert job.is_late
    harness.dispatcher.renew_deadlines(lambda at_s: START_S + 7.0, 0)
    assert harness.submit().outcome is None and not job.is_late
    harness.advance(1.5)
    assert job.is_late and end_of(harness.submit())[0] is ErrorCode.SKIPPED


def test_a_goal_that_gave_way_is_canceled_at_once(harness):
    job, urgent = put_aside(harness)
    harness.dispatcher.cancel(job)
    harness.sync()
    assert end_of(job) == (ErrorCode.CANCELED, FinishReason.CANCELED, 'begun ')
    assert harness.worker.ids('cancel') == ['goal 0'] and urgent.outcome is None
    ends(harness, urgent)
    assert harness.worker.ids('resume') == []


def test_a_cancel_that_crosses_with_the_pause_ends_it(harness):
    job = running(harness)
    harness.submit(30.0, priority=1)
    harness.dispatcher.cancel(job)
    harness.sync()
    gives_way(harness, job)
    ends(harness, job, text='begun', reason=FinishReason.CANCELED, error_code=ErrorCode.CANCELED)
    assert end_of(job) == (ErrorCode.CANCELED, FinishReason.CANCELED, 'begun')
    harness.sync()
    assert harness.worker.ids('resume') == []


def test_where_there_is_no_room_it_ends_with_the_reason(harness):
    job = running(harness)
    harness.submit(30.0, priority=1)
    harness.worker.say({'event': 'refused', 'id': 'goal 0', 'why': 'no room'})
    ends(harness, job, text='begun', reason=FinishReason.CANCELED, error_code=ErrorCode.CANCELED)
    assert end_of(job) == (ErrorCode.PREEMPTED, FinishReason.ERROR, 'begun')
    assert 'could not be kept for later (no room)' in job.outcome.error_msg


def test_a_goal_that_ends_before_it_gives_way_has_its_result(harness):
    job = running(harness)
    urgent = harness.submit(30.0, priority=1)
    ends(harness, job)
    assert end_of(job)[0] is ErrorCode.NONE and harness.worker.ids('run')[-1] == urgent.request.request_id


def test_a_worker_that_does_not_let_go_is_not_waited_for(harness):
    job = running(harness, budget_s=60.0)
    harness.submit(60.0, priority=1)
    harness.advance(3.0)
    assert end_of(job) == (ErrorCode.PREEMPTED, FinishReason.ERROR, 'begun ')


@pytest.mark.parametrize('text', ['begun ', ''])
def test_a_lost_worker_ends_what_was_answered_in_part_and_the_rest_waits_for_the_next(harness, text):
    job, urgent = put_aside(harness, text=text)
    harness.worker.die()
    harness.sync()
    assert end_of(urgent)[0] is ErrorCode.WORKER_LOST
    if text:
        assert end_of(job) == (ErrorCode.WORKER_LOST, FinishReason.ERROR, text)
    else:
        assert job.outcome is None and harness.worker.ids('run') == ['goal 0'], 'of another worker'
        assert (job.phase, job.timing.preemptions) == (Phase.PREFILL, 1)
        ends(harness, job)
        assert end_of(job)[0] is ErrorCode.NONE
    assert harness.submit().phase is Phase.PREFILL


def test_a_goal_that_was_canceled_is_not_answered_anew_by_the_next_worker(harness):
    """It was told to give way, canceled, and has given way when the worker is lost."""
    job = running(harness, text='')
    harness.submit(30.0, priority=1)
    harness.dispatcher.cancel(job)
    harness.sync()
    gives_way(harness, job)
    harness.worker.die()
    harness.sync()
    assert job.ended.is_set() and harness.worker.ids('run') == []


@pytest.mark.parametrize(('harness', 'stops'), [({'scheduling': 'edf'}, True), ({'scheduling': 'fcfs'}, False)],
                         indirect=['harness'])
def test_a_goal_gives_way_only_where_it_does_not_go_on_before_the_other(harness, stops):
    """First come, first served: one that does not stop it comes before the one that would."""
    running(harness)
    harness.submit(30.0)
    harness.submit(30.0, priority=1)
    assert (harness.worker.ids('pause') == ['goal 0']) == stops


def test_all_of_them_end_when_the_node_is_deactivated(harness):
    first, second = put_aside(harness)
    third = harness.submit(30.0, priority=2)
    gives_way(harness, second)
    assert harness.dispatcher.end_all(ErrorCode.INACTIVE, 'deactivated').wait(10.0)
    assert [end_of(job) for job in (first, second, third)] == [
        (ErrorCode.INACTIVE, FinishReason.ERROR, text) for text in ('begun ', '', '')]
    assert set(harness.worker.ids('cancel')) == {'goal 0', 'goal 1', 'goal 2'}


def test_waiting_goals_count_what_goes_on_before_them(harness):
    job, urgent = put_aside(harness, expected_s=3.0, wcet_s=6.0)
    harness.worker.plan(urgent, expected_s=2.0, wcet_s=4.0)
    waiting = harness.submit(11.0)  # 4 + 6.5 s in the worst case, and 0.1 s for delivery
    harness.sync()
    assert waiting.timing.verdict is Verdict.UNKNOWN
    later = harness.submit(10.5)
    harness.sync()
    assert later.timing.verdict is Verdict.AT_RISK
    last = harness.submit(5.5, strategy=KILL)
    assert end_of(last)[0] is ErrorCode.INFEASIBLE and job.outcome is None


def test_an_estimate_counts_them_too(harness):
    put_aside(harness, expected_s=3.0, wcet_s=6.0)
    urgent = harness.jobs[-1]
    harness.worker.plan(urgent, expected_s=2.0, wcet_s=4.0)
    harness.sync()
    found = [harness.dispatcher.estimate(harness.job(priority=priority).request) for priority in (0, 1, 2)]
    harness.sync()
    assert [future.result(0).waiting_s for future in found] == pytest.approx([4.0 + 6.0 + PAUSE_S, 4.0, PAUSE_S])


def test_a_deadline_that_moves_is_told_to_the_worker(harness):
    job = harness.job(20.0)
    job.ros_deadline_s = 50.0
    harness.dispatcher.submit(job)
    harness.sync()
    harness.worker.plan(job)
    urgent = harness.submit(30.0, priority=1)
    gives_way(harness, job)
    harness.dispatcher.renew_deadlines(lambda at_s: harness.now + 7.0, 0)
    harness.sync()
    assert job.request.deadline_s == harness.now + 7.0 and urgent.outcome is None
    assert harness.worker.ids('deadline') == ['goal 0']
    harness.advance(7.0)
    assert end_of(job)[0] is ErrorCode.PREEMPTED
