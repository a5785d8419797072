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

"""Goals that run late, goals that are skipped for them, and goals that are preempted."""

import pytest
from fake_worker import MARGIN_S, Harness, end_of

from timebill_ros.codes import ErrorCode, FinishReason, Phase, Strategy, Verdict
from timebill_ros.dispatch.supervisor import HANG_GRACE_S

KILL, SKIP_NEXT, TRUNCATE = Strategy.KILL, Strategy.SKIP_NEXT, Strategy.TRUNCATE


def late(harness, by=1.0, **fields):
    """Return a SKIP_NEXT goal that runs `by` seconds after its deadline."""
    job = harness.submit(5.0, strategy=SKIP_NEXT, max_overrun_s=4.0, **fields)
    harness.worker.plan(job, Verdict.AT_RISK)
    harness.worker.text(job, 'so far\nand', 3)
    harness.advance(5.0 + by)
    assert job.outcome is None
    return job


# -- SKIP_NEXT -------------------------------------------------------------------------------------------------------


def test_a_late_goal_runs_to_its_end_and_says_by_how_much_it_is_late(harness):
    job = late(harness)
    assert harness.worker.ids('cancel') == []
    assert job.is_late and harness.changes[-1] == ('goal 0', Phase.PREFILL, None)  # told when its deadline passed
    harness.worker.done(job)
    harness.sync()
    assert end_of(job) == (ErrorCode.NONE, FinishReason.EOS, 'the answer')
    assert (job.timing.tardiness_s, job.timing.response_time_s) == (1.0, 6.0)
    assert harness.dispatcher.counts['late'] == 1


def test_the_overrun_is_told_once(harness):
    job = late(harness)
    told = len(harness.changes)
    harness.advance(1.0)
    assert len(harness.changes) == told and job.is_late


@pytest.mark.parametrize('strategy', [KILL, SKIP_NEXT, TRUNCATE])
def test_goals_released_while_another_is_late_are_skipped(harness, strategy):
    job = late(harness)
    skipped = [harness.submit(100.0, strategy=strategy, priority=9) for _ in range(2)]
    for other in skipped:
        assert end_of(other) == (ErrorCode.SKIPPED, FinishReason.SKIPPED, '')
        assert 'goal 0 is late by 1.000 s' in other.outcome.error_msg
        assert other.phase is Phase.SKIPPED and other.timing.response_time_s == 0.0
    harness.worker.done(job)
    following = harness.submit(100.0)
    assert following.outcome is None and harness.worker.ids('run') == ['goal 0', 'goal 3']
    assert harness.dispatcher.counts['skipped'] == 2


def test_a_goal_released_before_the_other_was_late_is_not_skipped(harness):
    job = harness.submit(5.0, strategy=SKIP_NEXT, max_overrun_s=4.0)
    waiting = harness.submit(100.0)
    harness.advance(6.0)
    assert (job.outcome, waiting.outcome) == (None, None)
    harness.worker.done(job)
    harness.sync()
    assert harness.worker.ids('run') == ['goal 0', 'goal 1']


@pytest.mark.parametrize('strategy', [KILL, TRUNCATE])
def test_goals_of_other_strategies_are_never_late_so_nothing_is_skipped_for_them(harness, strategy):
    job = harness.submit(5.0, strategy=strategy)
    harness.advance(4.99)
    assert job.outcome is not None
    assert harness.submit(100.0).outcome is None


def test_the_longest_overrun_is_kept_by_the_node_too(harness):
    job = late(harness, by=4.0 - MARGIN_S / 2 - 0.01)
    harness.advance(0.02)
    assert end_of(job) == (ErrorCode.NONE, FinishReason.DEADLINE, 'so far\nand')
    assert 0 < job.timing.tardiness_s <= 4.0
    assert harness.worker.ids('cancel') == ['goal 0']


def test_a_goal_that_waits_past_its_deadline_never_started_and_is_not_late(harness):
    harness.submit(100.0)
    waiting = harness.submit(5.0, strategy=SKIP_NEXT, max_overrun_s=50.0)
    harness.advance(5.0)
    assert end_of(waiting)[0] is ErrorCode.INFEASIBLE


def test_a_late_goal_can_be_canceled_and_lost(harness):
    job = late(harness)
    harness.dispatcher.cancel(job)
    harness.advance(HANG_GRACE_S)
    assert end_of(job) == (ErrorCode.CANCELED, FinishReason.CANCELED, 'so far\nand')
    other = Harness().configured()
    job = late(other, stop_at_line_end=True)
    other.worker.die()
    other.sync()
    assert end_of(job) == (ErrorCode.WORKER_LOST, FinishReason.ERROR, 'so far\n')
    other.dispatcher.close()


def test_a_late_promise_is_a_missed_one(harness):
    job = harness.submit(5.0, strategy=SKIP_NEXT, max_overrun_s=4.0)
    harness.worker.plan(job, Verdict.FITS)
    harness.advance(6.0)
    harness.worker.done(job, verdict=Verdict.FITS)
    harness.sync()
    assert (harness.dispatcher.counts['promised'], harness.dispatcher.counts['missed']) == (1, 1)


# -- preemption ------------------------------------------------------------------------------------------------------


@pytest.fixture
def preempting(request):
    harness = Harness(preempt=request.param, queue_size=1).configured()
    yield harness
    harness.dispatcher.close()


MORE_URGENT = {'priority': dict(priority=1, budget_s=50.0), 'deadline': dict(budget_s=5.0)}


@pytest.mark.parametrize(('preempting', 'how'), [
    ('priority', 'priority'), ('deadline', 'priority'), ('deadline', 'deadline')], indirect=['preempting'])
@pytest.mark.parametrize(('strategy', 'kept'), [(KILL, ''), (SKIP_NEXT, 'so far\n'), (TRUNCATE, 'so far\n')])
def test_a_more_urgent_goal_takes_the_place_of_the_running_one(preempting, how, strategy, kept):
    harness = preempting
    running = harness.submit(20.0, strategy=strategy, stop_at_line_end=True)
    waiting = harness.submit(30.0)  # fills the queue
    urgent = harness.submit(**MORE_URGENT[how])
    assert harness.worker.ids('cancel') == ['goal 0'] and running.outcome is None  # the worker's account is awaited
    harness.worker.done(running, 'so far\nand', FinishReason.CANCELED, error_code=ErrorCode.CANCELED, error_msg='c')
    harness.sync()
    assert end_of(running) == (ErrorCode.PREEMPTED, FinishReason.ERROR, kept)
    assert 'goal 2' in running.outcome.error_msg
    assert harness.worker.ids('run') == ['goal 0', 'goal 2'] and urgent.outcome is None and waiting.outcome is None
    assert harness.dispatcher.counts['preempted'] == 1


@pytest.mark.parametrize(('preempting', 'fields'), [
    ('never', dict(priority=9, budget_s=1.0)), ('priority', dict(budget_s=1.0)), ('deadline', dict(budget_s=30.0)),
    ('deadline', dict(budget_s=20.0)),
], indirect=['preempting'])
def test_what_is_not_more_urgent_waits(preempting, fields):
    running = preempting.submit(20.0)
    preempting.submit(**fields)
    assert preempting.worker.ids('cancel') == [] and running.outcome is None


@pytest.mark.parametrize('preempting', ['priority'], indirect=True)
def test_a_goal_that_ends_before_the_worker_hears_of_it_keeps_its_answer(preempting):
    running = preempting.submit(20.0)
    preempting.submit(20.0, priority=1)
    preempting.worker.done(running)
    preempting.sync()
    assert end_of(running) == (ErrorCode.NONE, FinishReason.EOS, 'the answer')


@pytest.mark.parametrize('preempting', ['priority'], indirect=True)
def test_a_worker_that_does_not_stop_for_the_urgent_goal_is_replaced(preempting):
    running = preempting.submit(1000.0)
    preempting.worker.text(running, 'so far', 2)
    urgent, first = preempting.submit(1000.0, priority=1), preempting.worker
    preempting.advance(HANG_GRACE_S)
    assert end_of(running) == (ErrorCode.PREEMPTED, FinishReason.ERROR, 'so far')
    preempting.advance(HANG_GRACE_S)
    assert not first.alive and preempting.worker.ids('run') == ['goal 1'] and urgent.outcome is None


@pytest.mark.parametrize('preempting', ['priority'], indirect=True)
def test_a_canceled_goal_is_canceled_whatever_took_its_place(preempting):
    running = preempting.submit(20.0)
    preempting.submit(20.0, priority=1)
    preempting.dispatcher.cancel(running)
    preempting.worker.done(running, 'x', FinishReason.CANCELED, error_code=ErrorCode.CANCELED, error_msg='c')
    preempting.sync()
    assert end_of(running) == (ErrorCode.CANCELED, FinishReason.CANCELED, 'x')


@pytest.mark.parametrize('preempting', ['priority'], indirect=True)
def test_a_goal_of_higher_priority_preempts_a_late_one_instead_of_being_skipped(preempting):
    job = late(preempting)
    urgent = preempting.submit(20.0, priority=1)
    assert urgent.outcome is None and preempting.worker.ids('cancel') == ['goal 0']
    assert end_of(preempting.submit(20.0))[0] is ErrorCode.SKIPPED
    preempting.worker.done(job, 'x', FinishReason.CANCELED, error_code=ErrorCode.CANCELED, error_msg='c')
    preempting.sync()
    assert end_of(job)[0] is ErrorCode.PREEMPTED and job.timing.tardiness_s == 1.0
