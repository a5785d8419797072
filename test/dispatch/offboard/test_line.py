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

"""The process that calls the server is started, watched and replaced; on a clock that the tests move."""
import math
from concurrent.futures import Future

import pytest
from fake_caller import SETTINGS, FakeCaller

from timebill_ros.dispatch.offboard.line import BACKOFF_S, HANG_S, START_S, Line
from timebill_ros.dispatch.supervisor import ShuttingDownError

READY = {'event': 'ready'}


class Bench:
    """A line whose events are handled when a test says so, as by the dispatcher's thread."""

    def __init__(self, answer=READY):
        self.now, self.answer, self.refuse = 100.0, answer, False
        self.processes, self.events, self.posted, self.ready = [], [], [], []
        self.failed = Future()
        self.line = Line(self._start, {**SETTINGS, 'worker_python': '/a/python'},
                         lambda step, *arguments: self.posted.append((step, arguments)), self.events.append,
                         lambda: self.now)

    def _start(self, on_event):
        if self.refuse:
            raise OSError('no such file')
        self.processes.append(FakeCaller(on_event, self.answer))
        return self.processes[-1]

    @property
    def process(self):
        return self.processes[-1]

    def settle(self):
        while self.posted:
            step, arguments = self.posted.pop(0)
            step(*arguments)

    def configured(self):
        self.line.configure(lambda: self.ready.append(True), self.failed)
        self.settle()
        return self

    def at(self, seconds):
        self.now += seconds
        self.settle()
        self.line.check_timers()
        self.settle()

    def ask(self, name='goal'):
        self.line.ask({'op': 'ask', 'request': {'request_id': name}})
        self.settle()


def test_a_start_tells_the_process_what_to_ask():
    bench = Bench().configured()
    assert bench.ready == [True] and bench.line.is_up and bench.line.next_timer_s() == math.inf
    assert bench.process.sent == [{'op': 'configure', 'url': 'http://server/v1', 'model': 'large', 'key_file': '',
                                   'goals': 4}]


@pytest.mark.parametrize('how', ['failed', 'lost', 'refused', 'late'])
def test_a_first_start_that_fails_says_why(how):
    bench = Bench({'failed': {'event': 'failed', 'message': 'no key'}}.get(how))
    bench.refuse = how == 'refused'
    bench.configured()
    if how == 'lost':
        bench.process.die('exit code 1')
    bench.at(START_S if how == 'late' else 0.0)
    with pytest.raises(RuntimeError, match={'failed': 'no key', 'lost': 'exit code 1', 'refused': "'/a/python'",
                                            'late': 'not ready after 30 s'}[how]):
        bench.failed.result(0)
    assert bench.ready == [] and not bench.line.is_up and bench.line.next_timer_s() == math.inf


@pytest.mark.parametrize('op', ['ask', 'cancel'])
def test_what_is_not_confirmed_soon_is_taken_for_a_hang(op, caplog):
    bench = Bench().configured()
    bench.process.hangs = op == 'ask'
    bench.ask()
    bench.process.hangs = True
    bench.line.cancel('goal')
    bench.at(HANG_S - 0.1)
    assert bench.line.is_up
    bench.at(0.1)
    assert not bench.processes[0].alive and bench.events[-1]['event'] == 'lost' and 'it hung' in caplog.text
    bench.at(0.0)
    assert bench.line.is_up and len(bench.processes) == 2 and bench.line.restarts == 1


def test_a_cancel_that_crosses_the_end_is_no_hang():
    bench = Bench().configured()
    bench.ask()
    bench.process.hangs = True
    bench.line.cancel('goal')
    bench.process.say({'event': 'done', 'id': 'goal'})
    bench.at(HANG_S + 1.0)
    assert bench.line.is_up and bench.events[-1] == {'event': 'done', 'id': 'goal'}


def test_restarts_wait_longer_and_longer_until_one_is_ready():
    bench = Bench().configured()
    bench.answer = None
    for number, wait_s in enumerate((*BACKOFF_S, BACKOFF_S[-1]), start=1):
        bench.process.die()
        bench.at(0.0)
        if wait_s:
            bench.at(wait_s - 0.1)
            assert len(bench.processes) == number
            bench.at(0.1)
        assert len(bench.processes) == number + 1
    bench.process.say(READY)
    bench.at(0.0)
    assert bench.line.is_up
    bench.process.die()
    bench.at(0.0)
    assert len(bench.processes) == number + 2, 'at once again'


def test_a_dead_process_is_not_heard():
    bench = Bench().configured()
    first = bench.process
    bench.line.restart()
    bench.at(0.0)
    events = list(bench.events)
    first.say({'event': 'text', 'id': 'goal'})
    bench.at(0.0)
    assert bench.line.is_up and bench.process is not first and bench.events == events


def test_nothing_is_sent_while_it_is_down():
    bench = Bench().configured()
    bench.answer = None
    bench.process.die()
    bench.at(0.0)
    bench.line.cancel('goal')
    bench.line.restart()
    assert [message['op'] for message in bench.process.sent] == ['configure'] and len(bench.processes) == 2


def test_it_stops_for_good():
    bench = Bench(None).configured()
    bench.line.stop()
    with pytest.raises(ShuttingDownError):
        bench.failed.result(0)
    assert not bench.process.alive and bench.line.next_timer_s() == math.inf
    bench.process.say(READY)
    bench.at(100.0)
    assert not bench.line.is_up and bench.ready == [] and len(bench.processes) == 1
