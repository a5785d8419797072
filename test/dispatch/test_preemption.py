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

"""Nobody is stopped for a goal that cannot make its deadline, nor for one of the same priority that can wait."""
import pytest
from fake_worker import Harness, end_of

from timebill_ros.codes import ErrorCode, FinishReason, Strategy, Verdict

# The fake worker's profile: a token takes 0.2 s to read, 2 s at most. The prompt of a goal is 9 tokens, 4.5 for each
# character, as its plan says. A prompt of 100 characters therefore takes 2 s.
LONG = 'x' * 100


@pytest.fixture
def harness(request):
    harness = Harness(preempt=getattr(request, 'param', 'deadline'), queue_size=2).configured()
    yield harness
    harness.dispatcher.close()


both = pytest.mark.parametrize('harness', ['priority', 'deadline'], indirect=True)


def is_stopped(harness, job):
    return job.request.request_id in harness.worker.ids('cancel')


def promised(harness, budget_s=20.0, worst_s=2.0, **request):
    """A goal that runs with a promise."""
    job = harness.submit(budget_s, **request)
    harness.worker.plan(job, Verdict.FITS, expected_s=worst_s / 2, wcet_s=worst_s)
    harness.sync()
    return job


def finished(harness, decode_s, **request):
    """A goal that ran to its natural end."""
    job = promised(harness, **request)
    job.timing.decode_s = decode_s
    harness.worker.done(job, timing=job.timing)
    harness.sync()


@both
@pytest.mark.parametrize('budget_s', [0.05, 1.0, 2.0])
@pytest.mark.parametrize('knows_answers', [False, True])
def test_a_hopeless_goal_preempts_nobody(harness, budget_s, knows_answers):
    """Reading its prompt alone takes 2 s. It is more urgent by priority and by deadline."""
    if knows_answers:
        finished(harness, decode_s=1.0)
    running = promised(harness)
    newcomer = harness.submit(budget_s, priority=1, prompt=LONG)
    assert not is_stopped(harness, running)
    harness.worker.done(running)
    harness.sync()
    assert end_of(running)[:2] == (ErrorCode.NONE, FinishReason.EOS) and newcomer.request.priority == 1


@both
@pytest.mark.parametrize(('strategy', 'stops'), [(Strategy.KILL, False), (Strategy.TRUNCATE, True)])
def test_an_answer_that_must_be_complete_needs_the_time_to_decode_it(harness, strategy, stops):
    for decode_s in (4.0, 5.0, 6.0):
        finished(harness, decode_s)
    running = promised(harness)
    harness.submit(5.0, priority=1, strategy=strategy)  # 1.8 s for its prompt, 4 s for its answer
    assert is_stopped(harness, running) == stops


@both
def test_a_goal_that_can_make_its_deadline_preempts(harness):
    running = promised(harness)
    newcomer = harness.submit(2.5, priority=1, prompt=LONG)
    assert is_stopped(harness, running) and newcomer.outcome is None
    assert running.preempted_by.endswith('nothing is kept here of goals that give way (prefix_cache_mib)')


@both
def test_a_goal_behind_more_urgent_ones_preempts_only_if_it_can_make_it_after_them(harness):
    finished(harness, decode_s=4.0)
    running = promised(harness)
    first = harness.submit(7.0, priority=2)  # stops it, and takes 5.8 s itself
    harness.worker.done(running, '', FinishReason.CANCELED, error_code=ErrorCode.CANCELED)
    harness.sync()
    harness.submit(15.0, priority=1)
    assert not is_stopped(harness, first) and first.outcome is None


@pytest.mark.parametrize(('budget_s', 'knows_answers', 'stops'), [
    (12.0, True, False),  # the running goal takes 2 s at most, then 1.8 + 3 s remain to be spent
    (6.5, True, True),
    (12.0, False, False),
    (3.0, False, True),
])
def test_a_goal_of_the_same_priority_that_can_wait_preempts_nobody(harness, budget_s, knows_answers, stops):
    if knows_answers:
        finished(harness, decode_s=3.0)
    running = promised(harness)
    newcomer = harness.submit(budget_s)
    assert is_stopped(harness, running) == stops and newcomer.outcome is None
    if not stops:
        harness.worker.done(running)
        harness.sync()
        assert harness.worker.ids('run')[-1] == newcomer.request.request_id


@pytest.mark.parametrize(('budget_s', 'worst_s', 'stops'), [
    (14.0, 2.0, [False, False]), (14.0, 11.0, [False, True]), (4.0, 2.0, [True, True])])
def test_the_plan_of_a_goal_that_is_read_is_waited_for(harness, budget_s, worst_s, stops):
    """Before its plan nothing but its deadline bounds how long it takes. Its prompt is read in 1.8 s."""
    finished(harness, decode_s=3.0)
    running = harness.submit(15.0)
    harness.submit(budget_s)
    before = is_stopped(harness, running)
    harness.worker.plan(running, Verdict.FITS, expected_s=worst_s / 2, wcet_s=worst_s)
    harness.sync()
    assert [before, is_stopped(harness, running)] == stops


def test_a_goal_that_waited_preempts_once_it_cannot_wait_any_longer(harness):
    """The running goal takes longer than its worst case."""
    finished(harness, decode_s=3.0)
    running = promised(harness)
    harness.submit(9.0)
    for n in range(3):
        harness.advance(1.0)
        harness.worker.text(running, 'more ', n + 1)
        harness.sync()
    assert not is_stopped(harness, running)
    for n in range(3, 5):
        harness.advance(1.0)
        harness.worker.text(running, 'more ', n + 1)
        harness.sync()
    assert is_stopped(harness, running)


def test_a_goal_that_finds_no_place_to_wait_preempts(harness):
    running = promised(harness)
    waiting = [harness.submit(30.0) for _ in range(2)]
    newcomer = harness.submit(12.0)
    assert is_stopped(harness, running) and newcomer.outcome is None
    assert not any(job.outcome for job in waiting)


@both
def test_a_goal_is_not_given_up_while_another_one_stops_for_it(harness):
    """The running goal would have taken longer than the other one, which is lost where it is cut, can wait."""
    finished(harness, decode_s=0.5)
    running = promised(harness, worst_s=20.0)
    newcomer = harness.submit(2.8, priority=1, strategy=Strategy.KILL)  # 1.8 s for its prompt, 0.5 s for its answer
    assert is_stopped(harness, running) and newcomer.outcome is None
    assert newcomer.timing.verdict is Verdict.AT_RISK  # the running goal has 2 s for stopping, and takes none usually
    harness.worker.done(running, '', FinishReason.CANCELED, error_code=ErrorCode.CANCELED)
    harness.sync()
    assert harness.worker.ids('run')[-1] == newcomer.request.request_id
