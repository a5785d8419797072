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

"""A dispatcher with a second tier whose process does what a test says, on the clock and the workers of fake_worker."""
from fake_worker import Harness

SETTINGS = {'offboard_url': 'http://server/v1', 'offboard_model': 'large', 'offboard_key_file': '', 'offboard_goals': 4,
            'offboard_quality': 2.0, 'miss_rate': 0.05}


class FakeCaller:
    """Keeps the messages that it is sent. It confirms goals and cancels unless it `hangs`; all else a test says."""

    pid = 4712

    def __init__(self, on_event, answer):
        self._on_event, self._answer = on_event, answer
        self.sent, self.alive, self.hangs = [], True, False

    def send(self, message):
        self.sent.append(message)
        if message['op'] == 'configure' and self._answer is not None:
            self.say(self._answer)
        elif message['op'] == 'ask' and not self.hangs:
            self.say({'event': 'taken', 'id': message['request']['request_id']})
        elif message['op'] == 'cancel' and not self.hangs:
            self.say({'event': 'ended', 'id': message['id']})

    def say(self, message):
        self._on_event(message)

    def die(self, reason='signal SIGKILL'):
        if self.alive:
            self.alive = False
            self.say({'event': 'lost', 'reason': reason})

    kill = die

    def close(self):
        self.alive = False

    def ids(self, op):
        """Return the request ids of the `op` messages that it was sent, in order."""
        return [m['id'] if 'id' in m else m['request']['request_id'] for m in self.sent if m['op'] == op]


class OffboardHarness(Harness):
    """`caller_answer`: what each new process says to `configure`, None for nothing."""

    def __init__(self, **settings):
        self.callers, self.caller_answer = [], {'event': 'ready'}
        super().__init__(**{**SETTINGS, **settings})

    def _start_caller(self, on_event):
        self.callers.append(FakeCaller(on_event, self.caller_answer))
        return self.callers[-1]

    @property
    def caller(self):
        return self.callers[-1]

    def ask(self, budget_s=10.0, **request):
        return self.submit(budget_s, **{'allow_offboard': True, **request})

    def server_says(self, job, delta, n, first_s=None):
        self.caller.say({'event': 'text', 'id': job.request.request_id, 'delta': delta, 'n': n,
                         'first_s': self.now if first_s is None else first_s, 'at_s': self.now})
        self.sync()

    def server_ends(self, job, delta='the better answer', n=3, finish='stop', first_s=None):
        self.caller.say({'event': 'done', 'id': job.request.request_id, 'delta': delta, 'n': n, 'finish': finish,
                         'first_s': self.now if first_s is None else first_s, 'finished_s': self.now})
        self.sync()

    def server_fails(self, job, message='ConnectError: gone', fault=True):
        self.caller.say({'event': 'error', 'id': job.request.request_id, 'message': message, 'fault': fault})
        self.sync()

    def on_board_ends(self, job, *arguments, **outcome):
        self.worker.done(job, *arguments, **outcome)
        self.sync()


