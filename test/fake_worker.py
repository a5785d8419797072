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

"""A dispatcher on a clock that stands still until a test moves it, and workers that do what the test says."""
import threading

from timebill_ros.codes import FinishReason, Phase, Strategy, Verdict
from timebill_ros.dispatch.dispatcher import Dispatcher
from timebill_ros.dispatch.job import Job
from timebill_ros.request import Outcome, Plan, Request, Timing, to_dict

SETTINGS = {'queue_size': 32, 'worker_python': '/no/python', 'scheduling': 'edf', 'drop_infeasible': 'kill',
            'preempt': 'never', 'worker_start_timeout_s': 300.0}
START_S = 1000.0
MARGIN_S = 0.1  # so the node ends a goal itself 0.05 s before its deadline


def planned(verdict, **times):
    """A plan of this verdict for a prompt of 9 tokens: 1 token predicted and 2 feared, of which as many fit."""
    n_keep = 4 if verdict is Verdict.FITS_WITH_EVICTION else 9
    fitting = {Verdict.AT_RISK: 1, Verdict.INFEASIBLE: 0}.get(verdict, 2)
    return Plan(verdict, 9, n_keep, 1 - n_keep / 9, 2, 1, 2, fitting, **times)


class FakeWorker:
    """Keeps the messages that it is sent. Answers `configure` as the harness says, all else when the test says so."""

    pid = 4711

    def __init__(self, on_event, answer):
        self._on_event, self._answer = on_event, answer
        self.sent, self.alive, self.closed = [], True, False
        self.hangs = False  # it gives no sign of life

    def send(self, message):
        if message['op'] == 'ping':
            if not self.hangs:
                self.say({'event': 'pong'})
            return self.alive
        self.sent.append(message)
        if message['op'] == 'configure' and self._answer is not None:
            self.say(self._answer)
        return self.alive

    def say(self, message):
        self._on_event(message)

    def die(self, reason='signal SIGKILL'):
        if self.alive:
            self.alive = False
            self.say({'event': 'lost', 'reason': reason})

    kill = die

    def close(self):
        self.alive, self.closed = False, True

    def ids(self, op):
        """Return the request ids of the `op` messages that it was sent, in order."""
        return [m['id'] if 'id' in m else m['request']['request_id'] for m in self.sent if m['op'] == op]

    # What a worker says about the request that it runs.

    def plan(self, job, verdict=Verdict.FITS, expected_s=1.0, wcet_s=2.0, planned_s=None):
        made = planned(verdict, decode_expected_s=expected_s, decode_wcet_s=wcet_s,
                       decode_planned_s=wcet_s if planned_s is None else planned_s)
        timing = Timing(time_budget_s=job.request.time_budget_s, prompt_tokens=9, queue_s=0.0, verdict=verdict)
        self.say({'event': 'plan', 'id': job.request.request_id, 'plan': to_dict(made), 'timing': to_dict(timing)})

    def phase(self, job, phase=Phase.DECODE):
        self.say({'event': 'phase', 'id': job.request.request_id, 'phase': int(phase)})

    def text(self, job, delta, n):
        self.say({'event': 'text', 'id': job.request.request_id, 'delta': delta, 'n': n})

    def done(self, job, text='the answer', reason=FinishReason.EOS, finished_s=START_S, verdict=Verdict.UNKNOWN,
             **outcome):
        record = Outcome(**{'text': text, 'finish_reason': reason, 'timing': Timing(verdict=verdict, queue_s=0.0),
                            'error_msg': 'why' if outcome.get('error_code') else '', **outcome})
        self.say({'event': 'done', 'id': job.request.request_id, 'outcome': to_dict(record),
                  'finished_s': finished_s})


READY = {'event': 'ready', 'description': 'a model on a device', 'longest_pause_s': 0.0, 'one_time_s': 0.0,
         'prefill': [[0, 0.0], [10, 2.0]],
         'costs': {'prefill': [[0, 0.0], [10, 2.0]], 'step': [[0, 0.1], [100, 0.1]], 'eviction': [[0, 0.0], [100, 0.0]],
                   'draws': {}, 'max_context': 100, 'window': 32, 'min_kept': 1, 'max_ratio': 1.0,
                   'template_tokens': 2, 'message_tokens': 1}}


class Harness:
    """A dispatcher, its workers, and a clock.

    `answer`: what each new worker says to `configure`, None for nothing. `refuse`: no worker can be started.
    """

    _start_caller = None  # what starts the process that calls a server; see fake_caller.py

    def __init__(self, **settings):
        self.now, self.answer, self.refuse = START_S, READY, False
        self.workers, self.changes, self.jobs = [], [], []
        self.spawned_s = []  # when a worker was asked for
        self.dispatcher = Dispatcher(self._start_worker, {**SETTINGS, **settings}, self._on_change,
                                     start_caller=self._start_caller, clock=lambda: self.now)

    def _start_worker(self, on_event):
        self.spawned_s.append(self.now)
        if self.refuse:
            raise OSError('no such file')
        self.workers.append(FakeWorker(on_event, self.answer))
        return self.workers[-1]

    def _on_change(self, job):
        self.changes.append((job.request.request_id, job.phase, job.outcome))

    @property
    def worker(self):
        return self.workers[-1]

    def sync(self):
        """Wait until the dispatcher has seen everything, and all that follows from it.

        A kill becomes a loss, a loss a new worker, and its readiness starts a goal.
        """
        for _ in range(6):
            seen = threading.Event()
            self.dispatcher._events.post(seen.set)
            assert seen.wait(10.0), 'the dispatcher hangs'

    def advance(self, seconds):
        """Move the clock in one leap, once everything said so far has been handled; handle what follows from it."""
        if self.workers and self.worker.alive and not self.worker.hangs:
            self.worker.say({'event': 'alive'})
        self.sync()
        self.now += seconds
        self.sync()

    def creep(self, seconds):
        """Move the clock in steps that are short enough for every timer to fire about on time."""
        for _ in range(round(seconds / 0.25)):
            self.advance(0.25)

    def configured(self):
        future = self.dispatcher.configure()
        self.sync()
        assert future.result(0) == READY['description']
        return self

    def job(self, budget_s=10.0, **request):
        name = f'goal {len(self.jobs)}'
        self.jobs.append(Job(Request(name, self.now, self.now + budget_s, delivery_margin_s=MARGIN_S,
                                     **{'strategy': Strategy.TRUNCATE, 'prompt': 'hi', **request})))
        return self.jobs[-1]

    def submit(self, budget_s=10.0, **request):
        job = self.job(budget_s, **request)
        self.dispatcher.submit(job)
        self.sync()
        return job

    def ends(self, job):
        """Return how often `job` was reported as ended."""
        return sum(outcome is not None for name, _, outcome in self.changes if name == job.request.request_id)


def end_of(job):
    """Return (code, reason, text) of a job that has ended."""
    assert job.ended.is_set()
    return job.outcome.error_code, job.outcome.finish_reason, job.outcome.text
