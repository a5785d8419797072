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

"""The process that calls the server, over real sockets: every answer ends once, whatever the server does."""
import os
import queue
import re
import resource
import socket
import stat
import time

import pytest

pytest.importorskip('httpx')
from faulty_server import ANSWER, FaultyServer  # noqa: E402

from timebill_ros.dispatch.offboard.main import MEMORY_BYTES  # noqa: E402
from timebill_ros.dispatch.worker_process import WorkerProcess  # noqa: E402
from timebill_ros.request import Request, to_dict  # noqa: E402

WAIT_S = 60.0  # this machine may be busy


class Caller:
    """A process under test. `events` holds what it said."""

    def __init__(self, url, *, model='large', key_file='', goals=4):
        self.events = queue.Queue()
        self.process = WorkerProcess('', self.events.put, module='timebill_ros.dispatch.offboard.main',
                                     name='offboard')
        self.process.send({'op': 'configure', 'url': url, 'model': model, 'key_file': key_file, 'goals': goals})
        self.started = self.next()

    def next(self):
        return self.events.get(timeout=WAIT_S)

    def ask(self, name='goal', in_s=WAIT_S, **request):
        now = time.monotonic()
        made = Request(name, now, now + in_s, **{'prompt': 'Where are you?', 'allow_offboard': True, **request})
        self.process.send({'op': 'ask', 'request': to_dict(made), 'until_s': now + in_s})

    def end(self):
        """Return (text, last event) of a goal."""
        text = ''
        while (event := self.next())['event'] in ('taken', 'text'):
            text += event.get('delta', '')
        return text + event.get('delta', ''), event


@pytest.fixture(scope='module')
def shared_server():
    made = FaultyServer()
    yield made
    made.close()


@pytest.fixture
def server(shared_server):
    shared_server.fault, shared_server.after_s = 'none', 0.0
    shared_server.questions.clear()
    shared_server.headers.clear()
    return shared_server


@pytest.fixture(scope='module')
def caller(shared_server):
    made = Caller(shared_server.url)
    assert made.started == {'event': 'ready'}
    yield made
    made.process.close()


@pytest.fixture
def fresh(server):
    made = Caller(server.url)
    yield made
    made.process.close()


def test_an_answer_comes_whole_with_its_times_and_the_connection_is_kept(caller, server):
    connections = set()
    for name in ('one', 'two', 'three'):
        asked_s = time.monotonic()
        caller.ask(name)
        text, event = caller.end()
        assert text == ANSWER and [event[key] for key in ('event', 'finish', 'n', 'id')] == ['done', 'stop', 7, name]
        assert asked_s < event['first_s'] <= event['finished_s'] < time.monotonic()
        connections.add(server.n_connections)
    assert len(connections) == 1
    assert server.questions[0] == ('/v1/completions', {'model': 'large', 'stream': True, 'max_tokens': 256,
                                                       'temperature': 0.0, 'prompt': 'Where are you?'})
    assert 'Authorization' not in server.headers[0]


def test_a_conversation(caller, server):
    caller.ask(prompt='', messages=[{'role': 'user', 'content': 'Where are you?'}])
    assert caller.end()[0] == ANSWER and server.questions[0][0] == '/v1/chat/completions'


@pytest.mark.parametrize(('fault', 'why', 'is_its_fault'), [
    ('cuts', '', True), ('half a character', '', True), ('half in JSON', 'half a character', True),
    ('nonsense', 'no choices', True), ('a page', 'text/html', True), ('busy', 'HTTP 503: .*no capacity', True),
    ('refuses', 'HTTP 400: .*too long', False), ('endless', 'more text than', True), ('elsewhere', 'HTTP 307', True),
])
def test_every_fault_is_told_as_one(caller, server, fault, why, is_its_fault):
    server.fault = fault
    caller.ask(prompt='', messages=[{'role': 'user', 'content': 'hi'}], max_new_tokens=8)
    _, event = caller.end()
    assert (event['event'], event['fault']) == ('error', is_its_fault)
    assert re.search(why, event['message']), event
    server.fault = 'none'
    caller.ask('next')
    assert caller.end()[0] == ANSWER, 'and the next goal is answered'


def test_a_server_that_is_gone():
    with socket.socket() as nobody:
        nobody.bind(('127.0.0.1', 0))  # and never listens
        caller = Caller(f'http://127.0.0.1:{nobody.getsockname()[1]}/v1')
        caller.ask()
        _, event = caller.end()
        assert event['event'] == 'error' and event['fault'] and 'ConnectError' in event['message']
        caller.process.close()


@pytest.mark.parametrize('fault', ['stalls', 'silent'])
def test_a_goal_that_is_not_waited_for_is_dropped_with_its_connection(caller, server, fault):
    server.fault = fault
    caller.ask('canceled')
    taken = caller.next()
    if fault == 'stalls':
        assert caller.next()['delta'] == 'The ', 'its first piece comes at once'
    caller.process.send({'op': 'cancel', 'id': 'canceled'})
    assert (taken['event'], caller.next()) == ('taken', {'event': 'ended', 'id': 'canceled'})
    caller.ask('out of time', in_s=0.3)
    assert caller.end()[1] == {'event': 'ended', 'id': 'out of time'}
    caller.process.send({'op': 'cancel', 'id': 'unknown'})
    assert caller.next() == {'event': 'ended', 'id': 'unknown'}


def test_a_cancel_that_comes_with_the_goal(caller):
    for number in range(20):
        caller.ask(f'goal {number}')
        caller.process.send({'op': 'cancel', 'id': f'goal {number}'})
        events = []
        while not events or events[-1]['event'] not in ('ended', 'done', 'error'):
            events.append(caller.next())
        if events[-1]['event'] != 'ended':  # the cancel came behind the end
            assert caller.next() == {'event': 'ended', 'id': f'goal {number}'}


def test_several_goals_at_once(caller, server):
    server.after_s = 0.2
    for number in range(4):
        caller.ask(f'goal {number}')
    ends = {}
    while len(ends) < 4:
        event = caller.next()
        if event['event'] == 'done':
            ends[event['id']] = event['n']
    assert ends == {f'goal {number}': 7 for number in range(4)}


def test_no_socket_is_opened_before_there_is_a_goal(fresh, server):
    before = server.n_connections
    assert open_sockets(fresh.process.pid) == 0
    time.sleep(0.3)
    assert server.n_connections == before
    fresh.ask()
    fresh.end()
    assert server.n_connections == before + 1 and open_sockets(fresh.process.pid) == 1


def open_sockets(pid):
    """Return how many TCP or UDP sockets a process has."""
    inodes = {os.stat(f'/proc/{pid}/fd/{fd}').st_ino for fd in os.listdir(f'/proc/{pid}/fd')
              if stat.S_ISSOCK(os.stat(f'/proc/{pid}/fd/{fd}').st_mode)}
    lines = [line.split() for kind in ('tcp', 'tcp6', 'udp', 'udp6') if os.path.exists(f'/proc/{pid}/net/{kind}')
             for line in open(f'/proc/{pid}/net/{kind}').readlines()[1:]]
    return sum(int(fields[9]) in inodes for fields in lines)


def test_the_kernel_bounds_its_memory(caller):
    assert resource.prlimit(caller.process.pid, resource.RLIMIT_DATA) == (MEMORY_BYTES, MEMORY_BYTES)


def test_the_key_is_sent_and_only_a_file_of_ones_own_is_read(server, tmp_path):
    key = tmp_path / 'key'
    key.write_text('sk-secret\n')
    key.chmod(0o644)
    caller = Caller(server.url, key_file=str(key))
    assert caller.started['event'] == 'failed' and f'chmod 600 {key}' in caller.started['message']
    caller.process.close()
    key.chmod(0o600)
    caller = Caller(server.url, key_file=str(key))
    caller.ask()
    assert caller.end()[0] == ANSWER and server.headers[0]['authorization'] == 'Bearer sk-secret'
    caller.process.close()


@pytest.mark.parametrize(('url', 'model', 'key', 'why'), [
    ('192.168.1.20:8000', 'large', '', 'offboard_url'), ('ftp://host/v1', 'large', '', "offboard_url 'ftp://host/v1'"),
    ('http://', 'large', '', 'offboard_url'), ('http://me:secret@host/v1', 'large', '', 'no user and no password'),
    ('http://host/v1', '', '', 'offboard_model'),
    ('http://host/v1', 'large', '/nowhere/key', 'offboard_key_file /nowhere/key cannot be read'),
])
def test_what_cannot_work_is_told_at_the_start(url, model, key, why):
    caller = Caller(url, model=model, key_file=key)
    assert caller.started['event'] == 'failed' and why in caller.started['message']
    caller.process.close()


def test_it_ends_with_the_node(fresh):
    pid = fresh.process.pid
    fresh.process._channel.close()  # as where the node is killed
    until = time.monotonic() + WAIT_S
    while os.path.exists(f'/proc/{pid}') and time.monotonic() < until:
        time.sleep(0.05)
    assert not os.path.exists(f'/proc/{pid}')
