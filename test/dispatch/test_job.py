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

"""A job while it runs: its plans and promise, its remaining time, and a deadline that moves."""
import math

import pytest
from fake_worker import START_S, end_of, planned

from timebill_ros.codes import ErrorCode, FinishReason, Part, Verdict
from timebill_ros.request import Timing, to_dict


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


def test_while_a_goal_thinks_its_plan_is_still_to_come_true(harness):
    job = harness.submit()
    harness.worker.plan(job, expected_s=1.0, wcet_s=8.0, planned_s=2.0)
    said = {'event': 'text', 'id': job.request.request_id, 'n': 3}
    harness.worker.say({**said, 'delta': 'hm', 'part': int(Part.REASONING)})
    harness.worker.say({**said, 'delta': ''})  # half a character, of which nobody knows where it belongs
    harness.sync()
    harness.advance(1.5)
    assert job.thinks and job.remaining_s(harness.now) == (1.0, 2.0)
    harness.worker.plan(job, expected_s=1.0, wcet_s=2.0)  # that of the answer
    harness.sync()
    assert not job.thinks and job.remaining_s(harness.now + 0.5) == (0.5, 1.5)
    harness.worker.say({**said, 'delta': 'hm', 'part': int(Part.REASONING)})  # what was on its way
    harness.worker.say({**said, 'delta': 'The cup'})
    harness.sync()
    assert not job.thinks and (job.text, job.beside) == ('The cup', {Part.REASONING: 'hmhm'})


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


@pytest.mark.parametrize('wrong', [{'plan': {'n_keep': 10}}, {'timing': {'kept_tokens': 10}}])
def test_a_plan_that_cannot_be_is_a_line_in_the_log(harness, wrong, caplog):
    job = harness.submit()
    event = {'event': 'plan', 'id': job.request.request_id, 'plan': to_dict(planned(Verdict.FITS)),
             'timing': to_dict(Timing(prompt_tokens=9))}
    harness.worker.say({**event, **{part: {**event[part], **fields} for part, fields in wrong.items()}})
    harness.sync()
    assert job.plan is None and job.promise is Verdict.UNKNOWN and 'got 10' in caplog.text
    harness.worker.say(event)
    harness.worker.done(job)
    harness.sync()
    assert repr(job.plan) == repr(planned(Verdict.FITS)), 'the next one counts'
    assert end_of(job) == (ErrorCode.NONE, FinishReason.EOS, 'the answer')


def test_deadlines_in_ros_time_move_with_its_pace(harness):
    running, waiting, budget = harness.job(10.0), harness.job(20.0), harness.job(30.0)
    running.ros_deadline_s, waiting.ros_deadline_s = 100.0, 200.0
    waiting.budget_deadline_s = START_S + 25.0
    for job in (running, waiting, budget):
        harness.dispatcher.submit(job)
    harness.dispatcher.renew_deadlines(lambda ros_s: START_S + ros_s / 4, 0)
    harness.sync()
    assert [job.request.deadline_s - START_S for job in (running, waiting, budget)] == [25.0, 25.0, 30.0]
    assert harness.worker.sent[-1] == {'op': 'deadline', 'id': 'goal 0', 'deadline_s': START_S + 25.0}
    harness.advance(24.0)
    assert running.outcome is None
    harness.advance(1.0)
    assert end_of(running)[1] is FinishReason.DEADLINE and running.timing.time_budget_s == 25.0


@pytest.mark.parametrize(('instant', 'epoch'), [(lambda ros_s: None, 0), (lambda ros_s: math.inf, 1)])
def test_where_the_mapping_holds_or_is_of_another_epoch_deadlines_stay(harness, instant, epoch):
    job = harness.job(10.0)
    job.ros_deadline_s = 100.0
    harness.dispatcher.submit(job)
    harness.dispatcher.renew_deadlines(instant, epoch)
    harness.sync()
    assert job.request.deadline_s == START_S + 10.0 and harness.worker.sent[-1]['op'] == 'run'
