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

"""Random goals that give way to others and go on, on a worker that keeps to the order in which it was given them.

Every goal ends exactly once and in time, and the worker is never asked for what it cannot do.
"""
import random

import pytest
from fake_worker import READY, Harness

from timebill_ros.codes import ErrorCode, FinishReason, Strategy, Verdict

STEP_S = 0.02  # shorter than half a delivery margin, so no deadline is leapt over


class NestedWorker:
    """Does what the messages to a harness's one worker say: goals that give way lie below those that came after."""

    def __init__(self, harness, rng):
        self.harness, self.rng, self.worker = harness, rng, harness.worker
        self.n_read, self.begun = 0, []  # messages; goals, the one that runs last
        self.paused, self.pausing, self.canceled = set(), set(), set()

    def read(self):
        messages, self.n_read = self.worker.sent[self.n_read:], len(self.worker.sent)
        for message in messages:
            name = message['id'] if 'id' in message else message.get('request', {}).get('request_id')
            if message['op'] == 'run':
                assert self.paused.issuperset(self.begun), 'a goal comes while another runs'
                self.begun.append(name)
            elif message['op'] == 'resume' and name in self.begun:
                assert name == self.begun[-1] or self.canceled & {name, self.begun[-1]}, 'another goes on first'
                self.paused.discard(name)
            elif message['op'] == 'pause':
                self.pausing.add(name)
            elif message['op'] == 'cancel':
                self.canceled.add(name)

    def work(self):
        """Do one thing with the goal that runs, as a worker may."""
        self.read()
        name = self.begun[-1] if self.begun else None
        if name is None or name in self.paused and name not in self.canceled:
            return
        job = next(job for job in self.harness.jobs if job.request.request_id == name)
        luck = self.rng.random()
        if name in self.canceled:
            self.end(job, error_code=ErrorCode.CANCELED, reason=FinishReason.CANCELED)
        elif name in self.pausing:
            self.pausing.discard(name)
            if luck < 0.8:
                self.paused.add(name)
                self.worker.say({'event': 'paused', 'id': name})
            else:
                self.worker.say({'event': 'refused', 'id': name, 'why': 'no room'})
                self.end(job, error_code=ErrorCode.CANCELED, reason=FinishReason.CANCELED)
        elif luck < 0.3:
            self.worker.plan(job, self.rng.choice([Verdict.FITS, Verdict.AT_RISK]), expected_s=luck, wcet_s=1 + luck)
        elif luck < 0.8:
            self.worker.text(job, 'word\n', job.n_tokens + 1)
        else:
            self.end(job)

    def end(self, job, **outcome):
        self.begun.pop()
        self.paused.discard(job.request.request_id)
        self.worker.done(job, finished_s=self.harness.now, **outcome)


def submit(harness, rng):
    strategy = rng.choice([Strategy.KILL, Strategy.TRUNCATE, Strategy.SKIP_NEXT])
    harness.dispatcher.submit(harness.job(
        rng.choice([0.5, 2.0, 10.0]), strategy=strategy, priority=rng.choice([0, 1, 2, 5]),
        max_overrun_s=rng.choice([0.0, 2.0]) if strategy is Strategy.SKIP_NEXT else 0.0))


@pytest.mark.parametrize('seed', range(12))
def test_every_goal_ends_once_and_the_worker_is_never_asked_for_what_it_cannot_do(seed):
    rng = random.Random(seed)
    harness = Harness(preempt=rng.choice(['priority', 'deadline']), scheduling=rng.choice(['edf', 'edf', 'fcfs']),
                      queue_size=rng.choice([1, 4]), drop_infeasible=rng.choice(['never', 'kill', 'all']))
    harness.answer = {**READY, 'prefill': [[0, 0.0], [10, 0.01]], 'pauses': [[0, 0.02], [100, 0.05]]}
    worker = NestedWorker(harness.configured(), rng)
    for _ in range(150):
        luck = rng.random()
        if luck < 0.3:
            submit(harness, rng)
        elif luck < 0.38 and harness.jobs:
            harness.dispatcher.cancel(rng.choice(harness.jobs[-5:]))
        else:
            worker.work()
        if rng.random() < 0.7:  # otherwise messages cross
            harness.advance(rng.choice([0.0, STEP_S]))
            assert all(job.outcome is not None or harness.now < job.request.deadline_s + job.request.max_overrun_s
                       for job in harness.jobs)
    for _ in range(60):
        worker.work()
        worker.work()
        harness.advance(0.2)
    assert [harness.ends(job) for job in harness.jobs] == [1] * len(harness.jobs)
    assert not harness.dispatcher.held() and len(harness.workers) == 1 and harness.worker.ids('pause')
    assert all(0.0 <= job.timing.paused_s <= job.timing.response_time_s for job in harness.jobs)
    harness.dispatcher.close()
