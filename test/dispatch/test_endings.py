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

"""The outcomes that the node gives itself: each has a code, a sentence, and the text that the strategy keeps."""
import pytest

from timebill_ros.codes import ErrorCode, FinishReason, Part, Strategy, Verdict
from timebill_ros.dispatch import endings
from timebill_ros.dispatch.job import Job
from timebill_ros.request import Outcome, Request

KILL, TRUNCATE = Strategy.KILL, Strategy.TRUNCATE
NOW = 1006.0


def make_job(name='a goal', **fields):
    job = Job(Request(name, 1000.0, 1005.0, prompt='hi', delivery_margin_s=0.1, **fields))
    job.text, job.n_tokens = 'so far', 2
    return job


@pytest.mark.parametrize(('ending', 'code', 'reason', 'words'), [
    (lambda job: endings.refused(job, ErrorCode.INACTIVE, 'why'), ErrorCode.INACTIVE, FinishReason.ERROR, 'why'),
    (lambda job: endings.skipped(job, make_job('the late one'), NOW), ErrorCode.SKIPPED, FinishReason.SKIPPED,
     'goal the late one is late by 1.000 s'),
    (lambda job: endings.busy(job, 3), ErrorCode.BUSY, FinishReason.ERROR, '3 goals'),
    (lambda job: endings.busy(job, 3, Request('b', 0.0, 1.0, priority=7)), ErrorCode.BUSY, FinishReason.ERROR,
     'priority 7'),
])
def test_a_goal_that_never_started_has_no_text(ending, code, reason, words):
    outcome = ending(make_job())
    assert (outcome.error_code, outcome.finish_reason, outcome.text) == (code, reason, '')
    assert words in outcome.error_msg


@pytest.mark.parametrize(('is_ready', 'is_blocked', 'code', 'blocked'), [
    (True, True, ErrorCode.INFEASIBLE, 'another goal runs'), (True, False, ErrorCode.INFEASIBLE, 'others'),
    (False, False, ErrorCode.WORKER_LOST, 'the inference process is restarting')])
def test_a_hopeless_goal_is_told_what_blocks_it(is_ready, is_blocked, code, blocked):
    outcome = endings.hopeless(make_job(), 1001.0, starts_s=1004.5, least_s=0.5, is_ready=is_ready,
                               is_blocked=is_blocked)
    assert outcome.error_code is code and f'3.500 s from now ({blocked}' in outcome.error_msg
    assert '4.000 s of its time budget of 5.000 s' in outcome.error_msg and '0.500 s for reading' in outcome.error_msg


@pytest.mark.parametrize('starts_s', [1000.0, 1001.0, 1001.0004])
def test_a_goal_that_could_start_at_once_is_told_that_this_is_too_late(starts_s):
    outcome = endings.hopeless(make_job(), 1001.0, starts_s=starts_s, least_s=4.5, is_ready=True, is_blocked=False)
    assert 'even if it started now' in outcome.error_msg and '0.000 s from now' not in outcome.error_msg
    assert 'restarting' not in outcome.error_msg


@pytest.mark.parametrize(('is_ready', 'code', 'blocked'), [
    (False, ErrorCode.WORKER_LOST, 'the inference process is restarting'),
    (True, ErrorCode.INFEASIBLE, 'another goal runs')])
def test_a_goal_that_has_waited_too_long_is_told_for_what(is_ready, code, blocked):
    outcome = endings.hopeless(make_job(), 1004.96, starts_s=1004.0, least_s=0.5, is_ready=is_ready,
                               is_blocked=is_ready)
    assert outcome.error_code is code and f'it has not started yet ({blocked})' in outcome.error_msg
    assert 'even if it started now; 0.040 s of its time budget of 5.000 s are left' in outcome.error_msg


@pytest.mark.parametrize(('canceled', 'preempted_by', 'strategy', 'end'), [
    (True, '', KILL, (ErrorCode.CANCELED, FinishReason.CANCELED, 'so far')),
    (False, 'goal b took its place', KILL, (ErrorCode.PREEMPTED, FinishReason.ERROR, '')),
    (False, 'goal b took its place', TRUNCATE, (ErrorCode.PREEMPTED, FinishReason.ERROR, 'so far')),
    (True, 'goal b took its place', TRUNCATE, (ErrorCode.CANCELED, FinishReason.CANCELED, 'so far')),
])
@pytest.mark.parametrize('reported', [False, True])
def test_a_stopped_goal(canceled, preempted_by, strategy, end, reported):
    job = make_job(strategy=strategy)
    job.canceled, job.preempted_by = canceled, preempted_by
    account = Outcome(ErrorCode.CANCELED, 'canceled', 'more than so far', FinishReason.CANCELED) if reported else None
    outcome = endings.stopped(job, account)
    assert (outcome.error_code, outcome.finish_reason) == end[:2]
    assert outcome.text == (end[2] and ('more than so far' if reported else 'so far'))


@pytest.mark.parametrize(('stop_by_s', 'code', 'reason'), [
    (NOW, ErrorCode.CANCELED, FinishReason.CANCELED), (NOW + 1, ErrorCode.NONE, FinishReason.DEADLINE)])
def test_a_goal_past_its_guard_ends_as_stopped_or_at_its_deadline(stop_by_s, code, reason):
    job = make_job()
    job.canceled, job.stop_by_s = True, stop_by_s
    outcome = endings.overdue(job, NOW)
    assert (outcome.error_code, outcome.finish_reason, outcome.text) == (code, reason, 'so far')


@pytest.mark.parametrize('form', [dict(response_schema='{}'), dict(choices=['so far', 'left']), dict(regex='[a-z ]+')])
def test_what_the_worker_did_not_complete_does_not_have_the_form_asked_for(form):
    outcome = endings.overdue(make_job(**form), 1004.96)
    assert (outcome.error_code, outcome.text) == (ErrorCode.DEADLINE_MISSED, '') and 'the form' in outcome.error_msg


@pytest.mark.parametrize(('strategy', 'kept'), [(KILL, ''), (TRUNCATE, 'so far')])
def test_a_goal_whose_worker_is_lost(strategy, kept):
    outcome = endings.lost(make_job(strategy=strategy), 'signal SIGKILL')
    assert (outcome.error_code, outcome.finish_reason, outcome.text) == (
        ErrorCode.WORKER_LOST, FinishReason.ERROR, kept)
    assert '(signal SIGKILL) after 2 tokens' in outcome.error_msg


def test_a_goal_that_was_canceled_stays_so_where_its_worker_is_lost():
    job = make_job()
    job.canceled, job.preempted_by = True, 'goal b took its place'
    outcome = endings.lost(job, 'signal SIGKILL')
    assert (outcome.error_code, outcome.finish_reason, outcome.text) == (
        ErrorCode.CANCELED, FinishReason.CANCELED, 'so far')


def test_a_goal_that_the_node_gives_up_keeps_its_text_whatever_the_strategy():
    outcome = endings.given_up(make_job(strategy=KILL), ErrorCode.INACTIVE, 'deactivated')
    assert (outcome.error_code, outcome.error_msg, outcome.text) == (ErrorCode.INACTIVE, 'deactivated', 'so far')
    assert outcome.timing.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize('strategy', [KILL, TRUNCATE])
def test_what_was_thought_is_kept_as_the_text_is(strategy):
    job = make_job(strategy=strategy)
    job.beside[Part.REASONING] = '\nhm, '
    kept = 'hm,' if strategy is TRUNCATE else ''
    for outcome in (endings.overdue(job, 1004.96), endings.lost(job, 'why'), endings.unreadable(job, ValueError('x'))):
        assert outcome.reasoning == kept
    assert endings.given_up(job, ErrorCode.INACTIVE, 'why').reasoning == 'hm,'
    told = Outcome(ErrorCode.CANCELED, 'canceled', '', FinishReason.CANCELED, reasoning='hm, yes')
    job.preempted_by = 'goal b took its place'
    assert endings.stopped(job, told).reasoning == (kept and 'hm, yes') and endings.stopped(job).reasoning == kept
    job.canceled = True
    assert endings.stopped(job, told).reasoning == 'hm, yes' and endings.stopped(job).reasoning == 'hm,'
