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

"""Random schedules of goals, cancels, hangs, crashes and estimates, under every way of scheduling.

Every goal ends exactly once: by its deadline, or under SKIP_NEXT by the end of its overrun.
"""
import random

import pytest
from fake_worker import READY, Harness

from timebill_ros.codes import ErrorCode, FinishReason, Phase, Strategy, Verdict
from timebill_ros.dispatch.supervisor import HANG_GRACE_S

STEP_S = 0.02  # the clock moves in steps shorter than half a delivery margin, so no deadline is leapt over
ANSWERS = [READY] * 6 + [None, {'event': 'failed', 'message': 'no'}, {'event': 'lost', 'reason': 'exit code 1'}]


class Schedule:
    """A harness, and random events for it."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.scheduling, self.preempt = self.rng.choice(['edf', 'fcfs']), self.rng.choice(['never'] * 2 + [
            'priority', 'deadline'])
        self.harness = Harness(queue_size=self.rng.choice([0, 2, 8]), scheduling=self.scheduling, preempt=self.preempt,
                               drop_infeasible=self.rng.choice(['never', 'kill', 'all'])).configured()
        self.estimates = []

    def running(self, worker):
        """Return the goal that `worker` works on, if any: the last that it was sent, unless it has said done."""
        sent = worker.ids('run')
        said = getattr(worker, 'said_done', set())
        return next((job for job in self.harness.jobs if sent and job.request.request_id == sent[-1]
                     and sent[-1] not in said), None)

    def submit(self):
        strategy = self.rng.choice([Strategy.KILL, Strategy.TRUNCATE, Strategy.SKIP_NEXT])
        self.harness.dispatcher.submit(self.harness.job(
            self.rng.choice([0.01, 0.5, 2.0, 10.0]), strategy=strategy, stop_at_line_end=self.rng.random() < 0.3,
            max_overrun_s=self.rng.choice([0.0, 0.5, 2.0]) if strategy is Strategy.SKIP_NEXT else 0.0,
            priority=self.rng.choice([0, 0, 1, 7])))

    def cancel(self):
        if self.harness.jobs:
            self.harness.dispatcher.cancel(self.rng.choice(self.harness.jobs[-6:]))

    def tell(self):
        """Let the newest worker, or a dead one, say something about the goal that it was last sent."""
        worker = self.rng.choice([self.harness.worker] * 5 + self.harness.workers)
        job = self.running(worker)
        if job is not None:
            say = self.rng.choice([worker.plan, lambda job: worker.plan(job, Verdict.AT_RISK), worker.phase,
                                   lambda job: worker.text(job, 'word\n', job.n_tokens + 1)])
            say(job)

    def finish(self):
        worker = self.harness.worker
        job = self.running(worker)
        if job is not None:
            worker.said_done = getattr(worker, 'said_done', set()) | {job.request.request_id}
            reason = self.rng.choice([FinishReason.EOS, FinishReason.CAPPED, FinishReason.DEADLINE])
            code = ErrorCode.NONE
            if job.request.request_id in worker.ids('cancel') and self.rng.random() < 0.8:
                reason, code = FinishReason.CANCELED, ErrorCode.CANCELED
            worker.done(job, reason=reason, finished_s=self.harness.now, error_code=code,
                        error_msg='canceled' if code else '')

    def crash(self):
        self.harness.answer, self.harness.refuse = self.rng.choice(ANSWERS), self.rng.random() < 0.1
        self.harness.worker.die()

    def load(self):
        """Let a worker that was still loading become ready."""
        if self.harness.worker.alive and not self.harness.dispatcher.is_ready:
            self.harness.worker.say(READY)

    def hang(self):
        self.wait(self.rng.choice([0.1, 1.0, HANG_GRACE_S + 0.1]))

    def estimate(self):
        self.estimates.append(self.harness.dispatcher.estimate(self.harness.job().request))
        self.harness.jobs.pop()

    def end_all(self):
        self.harness.dispatcher.end_all(ErrorCode.INACTIVE, 'deactivated')

    def wait(self, seconds):
        for _ in range(round(seconds / STEP_S)):
            self.harness.advance(STEP_S)

    def run(self, n_events):
        events = [self.submit] * 8 + [self.tell] * 8 + [self.finish] * 4 + [self.cancel] * 2 + [self.load] * 2 + [
            self.hang, self.crash, self.estimate]
        for i in range(n_events):
            self.rng.choice(events)()
            if i % 100 == 99:
                self.end_all()
            if self.rng.random() < 0.7:  # otherwise several events are in the queue at once
                self.harness.advance(self.rng.choice([0.0, STEP_S]))
                self.check_deadlines()

    def check_deadlines(self):
        harness = self.harness
        for job in harness.jobs:
            if job.outcome is None:
                assert harness.now < job.request.deadline_s + job.request.max_overrun_s
            else:
                assert job.timing.tardiness_s <= job.request.max_overrun_s
        assert all(future.done() or harness.worker.alive for future in self.estimates)


@pytest.mark.parametrize('seed', range(24))
def test_every_goal_ends_exactly_once(seed):
    schedule = Schedule(seed)
    harness = schedule.harness
    schedule.run(150)
    harness.creep(13.0)  # longer than any budget and overrun
    jobs = harness.jobs
    assert len(jobs) > 20
    assert [harness.ends(job) for job in jobs] == [1] * len(jobs)
    assert all(job.ended.is_set() and job.phase in (Phase.DONE, Phase.SKIPPED) for job in jobs)
    codes = [job.outcome.error_code for job in jobs]
    assert harness.dispatcher.counts['skipped'] == codes.count(ErrorCode.SKIPPED)
    assert harness.dispatcher.counts['preempted'] == codes.count(ErrorCode.PREEMPTED)
    assert schedule.preempt != 'never' or ErrorCode.PREEMPTED not in codes
    assert harness.dispatcher.counts['accepted'] == len(jobs)
    assert not harness.dispatcher.held()
    assert all(future.done() for future in schedule.estimates)
    for job in jobs:
        outcome = job.outcome
        assert outcome.finish_reason is not FinishReason.UNKNOWN
        assert bool(outcome.error_msg) == (outcome.error_code is not ErrorCode.NONE) and \
            bool(outcome.text) >= (outcome.error_code is ErrorCode.NONE)  # success has a text, failure a sentence
    # No worker was ever given a goal before it was done with the one before.
    for worker in harness.workers:
        given = worker.ids('run')
        assert set(given[:-1]) <= getattr(worker, 'said_done', set())
        if schedule.scheduling == 'fcfs':
            assert given == sorted(given, key=lambda name: int(name.split()[1]))

    harness.answer, harness.refuse = READY, False
    harness.creep(31.0)  # the longest back-off
    schedule.load()
    last = harness.submit()
    assert harness.worker.ids('run')[-1:] == [last.request.request_id]
    harness.dispatcher.close()
    assert harness.ends(last) == 1
