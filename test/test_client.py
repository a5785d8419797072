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

"""The clients: what they do not send, how they live in a program with nodes of its own, and a question's whole way."""
import asyncio
import contextlib
import re
import signal
import threading
import time
from types import SimpleNamespace

import pytest
import rclpy
from answering_node import AnsweringNode
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from node_client import SUCCEEDED, WAIT_S, wait_until
from rclpy.action import ActionServer
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from timebill_ros.action import Generate
from timebill_ros.asking import pending_goal, silence
from timebill_ros.client import Client, ServerUnavailable, TimebillClient, bad_news, check_server
from timebill_ros.codes import Verdict
from timebill_ros.msg import DeadlineStats
from timebill_ros.node.stats import QOS


def goal(**fields):
    return Generate.Goal(**{'prompt': 'one', **fields})


@pytest.mark.parametrize('ask', ['send', 'estimate', 'ask'])
def test_a_text_that_would_not_arrive_whole_is_not_sent(ask):
    client = object.__new__(Client)  # no connection is needed: nothing is sent
    client.actions = SimpleNamespace(server_is_ready=lambda: True)
    with pytest.raises(ValueError, match='holds a NUL at character 3'):
        getattr(client, ask)(*{'send': [goal(prompt='one\0two')], 'estimate': [goal(prompt='one\0two'), 1.0],
                               'ask': ['one\0two', 1.0]}[ask])


# -- a node that is not active ---------------------------------------------------------------------------------------

@pytest.mark.parametrize(('state', 'told'), [
    (None, 'no node /arm/planner was found'),
    (State.PRIMARY_STATE_UNCONFIGURED, 'is unconfigured: configure and activate it ("ros2 lifecycle set /arm/planner '
                                       'configure", then "activate"), or start it with -p autostart:=true'),
    (State.PRIMARY_STATE_INACTIVE, 'is inactive: activate it ("ros2 lifecycle set /arm/planner activate")'),
    (State.TRANSITION_STATE_CONFIGURING, 'is still configuring'),
    (State.PRIMARY_STATE_FINALIZED, '/arm/planner is finalized'),
    ('silent', 'does not tell its state'),
])
def test_a_node_that_is_not_active_is_told_apart_from_none(state, told):
    client = object.__new__(Client)
    client.server = '/arm/planner'
    client._states = SimpleNamespace(wait_for_service=lambda timeout_s: state is not None)

    def call(service, request, timeout_s):
        if state == 'silent':
            raise ServerUnavailable('no answer')
        return GetState.Response(current_state=State(id=state, label='finalized'))

    client.call = call
    with pytest.raises(ServerUnavailable) as error:
        client.wait_until_active(0.1)
    # How long it took, and not how long it was to take: a call that hangs is waited for longer.
    waited_s = re.match(r'/arm/planner is not active after (\S+) s: ', str(error.value))[1]
    assert float(waited_s) >= 0.1 and told in str(error.value)


# -- in a program with nodes of its own ------------------------------------------------------------------------------

@pytest.fixture
def program():
    """A context with a node that spins; the node answers goals itself."""
    context = rclpy.Context()
    rclpy.init(context=context, args=['--ros-args', '-r', '__node:=planner'],
               signal_handler_options=SignalHandlerOptions.NO)
    node = Node('planner', namespace='/arm', context=context)

    def answer(handle):
        handle.succeed()
        return Generate.Result(text=f'to {handle.request.prompt}')

    server = ActionServer(node, Generate, '~/generate', answer)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)


    def spin():
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin)
    thread.start()
    yield node
    executor.shutdown()
    thread.join(WAIT_S)
    server.destroy()
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def ask(client):
    assert client.actions.wait_for_server(WAIT_S)
    answer = client.send(goal()).answer(WAIT_S)
    assert (answer.status, answer.result.text) == (SUCCEEDED, 'to one')


@pytest.mark.parametrize('given', ['node', 'context', 'both', 'neither'])
def test_a_client_in_a_program_leaves_its_nodes_as_they_were(given, program):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    shared = {'node': program, 'context': program.context}
    for _ in range(2):  # and again, since the first one has left nothing
        with Client('/arm/planner', **{name: shared[name] for name in shared if given in (name, 'both')}) as client:
            name = client.node.get_fully_qualified_name()
            assert name == ('/arm/timebill_client' if given in ('node', 'both') else '/timebill_client')
            assert (client.node.context is program.context) is (given != 'neither')
            ask(client)
    assert program.context.ok()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    with Client('/arm/planner', node=program) as client:
        ask(client)  # the program's node still serves


def test_a_callback_of_the_program_may_wait_for_an_answer(program):
    done = threading.Event()
    with Client('/elsewhere', node=program) as client:
        def callback():
            timer.cancel()
            with pytest.raises(ServerUnavailable, match='no node /elsewhere'):
                client.wait_until_active(0.3)
            done.set()

        timer = program.create_timer(0.01, callback)
        assert done.wait(WAIT_S)


@pytest.mark.parametrize('name', ['', 'no name', '/no name', '/a//b', '/timebill/', '~', '/1st', None])
@pytest.mark.parametrize('make', [lambda name: TimebillClient(None, name), Client], ids=['node', 'none'])
def test_a_name_that_no_node_can_have_is_a_sentence(make, name, recwarn):
    with pytest.raises(ValueError, match=f'server {re.escape(repr(name))} is no name of a node: give one of letters'):
        make(name)
    assert not recwarn, 'nothing was made of it'


@pytest.mark.parametrize('make', [lambda node: TimebillClient(node), lambda node: Client(
    name='planner_timebill_client', node=node)], ids=['TimebillClient', 'Client'])
def test_a_client_that_cannot_be_made_leaves_no_node(make, program, monkeypatch):
    def fail(*_):
        raise RuntimeError('of the test')

    monkeypatch.setattr(TimebillClient, '_create_interfaces', fail)
    with pytest.raises(RuntimeError, match='of the test'):
        make(program)
    wait_until(lambda: ('planner_timebill_client', '/arm') not in program.get_node_names_and_namespaces())


@pytest.mark.parametrize('name', ['timebill', '/timebill', '/arm/planner', 'arm/planner', '~/llm'])
def test_other_names_are_taken(name):
    check_server(name)


def test_a_client_outlives_the_programs_context(program):
    with Client('/arm/planner', node=program) as client:
        ask(client)
        rclpy.shutdown(context=program.context)
        client._thread.join(WAIT_S)
        assert not client._thread.is_alive()


def test_a_context_that_does_not_fit_is_refused(program):
    with pytest.raises(ValueError, match='not initialised'):
        Client(context=rclpy.Context())
    with pytest.raises(ValueError, match='another context'):
        Client(node=program, context=rclpy.Context())


def test_a_client_of_its_own_beside_an_initialised_rclpy():
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        with Client('/nowhere') as client:
            assert client.node.context.ok()
        assert rclpy.ok()
    finally:
        rclpy.shutdown()


# -- TimebillClient: a question's whole way --------------------------------------------------------------------------

@pytest.fixture(scope='module')
def answering():
    with AnsweringNode() as node:
        yield node


@pytest.fixture(scope='module')
def client(answering):
    """A client of a program whose node nobody spins."""
    with TimebillClient(answering.program) as client:
        client.wait_until_active(WAIT_S)
        yield client


def test_the_client_finds_the_node_of_its_namespace_and_initialises_nothing(answering, client):
    assert client.server == answering.server and not rclpy.ok()
    assert client.node.get_fully_qualified_name() == f'{answering.namespace}/planner_timebill_client'
    with TimebillClient(answering.program, '/elsewhere/llm') as other:
        assert other.server == '/elsewhere/llm'


def test_a_question_is_answered(client):
    pending = client.ask('say two three', WAIT_S)
    assert ''.join(pending) == 'two three end'
    answer = pending.answer()
    assert (answer.text, answer.code, answer.status) == ('two three end', 'NONE', SUCCEEDED)
    assert 0 < answer.accepted_s <= answer.received_s


def test_a_conversation_and_fields_of_the_goal_are_sent(client):
    turns = [{'role': 'system', 'content': 'hang'}, {'role': 'user', 'content': 'fail'}]
    answer = client.ask(turns, WAIT_S, max_new_tokens=3, priority=2).answer()
    assert (answer.code, answer.result.error_msg) == ('BUSY', '32 goals wait already')


@pytest.mark.parametrize('bad', [{'max_new_tokens': -1}, {'priority': 256}, {'closing_text': '\udc00'},
                                 {'sampling': 5}, {'messages': 'a\ud800'}, {'budget_s': '2'}])
def test_a_question_that_cannot_be_sent_leaves_the_others_as_they_are(client, bad):
    other = client.ask('say two', WAIT_S)
    with pytest.raises(ValueError, match=f'{next(iter(bad))}.* (must be|holds|is no)'):
        client.ask(**{'messages': 'say one', 'budget_s': WAIT_S, **bad})
    assert other.answer().text == 'two end' and client.ask('say three', WAIT_S).answer().text == 'three end'


def test_the_status_tells_early_and_a_cancel_ends_the_goal(client):
    pending = client.ask('hopeless', WAIT_S)
    told = next(news for status in pending.statuses() if (news := bad_news(status)))
    assert 'INFEASIBLE' in told
    pending.cancel()
    assert pending.answer().code == 'CANCELED'


def test_a_node_that_says_nothing_costs_no_more_than_the_limit(answering, client):
    answering.canceled.clear()
    pending = client.ask('hang', 0.2, timeout_s=0.5)
    with pytest.raises(ServerUnavailable, match='gave no result in 0.5 s'):
        pending.answer()
    assert answering.canceled.wait(WAIT_S)


def test_an_estimate_is_given_or_not_waited_for(client):
    assert client.estimate('say two', 5.0).verdict == Verdict.FITS
    assert client.estimate(goal(prompt='impossible'), 5.0).verdict == Verdict.INFEASIBLE
    with pytest.raises(ServerUnavailable, match='estimate_time did not answer in 0.[01] s'):
        client.estimate('mute', 5.0, timeout_s=0.1)
    with pytest.raises(ValueError, match='no time budget'):
        client.estimate('say two', -1.0)


def test_a_prompt_is_read_ahead(client):
    assert client.prepare('say two').ready_tokens == client.prepare(goal(prompt='say two')).prompt_tokens == 2
    assert client.prepare([{'role': 'system', 'content': 'a map of it'}]).ready_tokens == 4
    with pytest.raises(ValueError, match='no question'):
        client.prepare(7)


def test_coroutines_ask_at_the_same_time(client):
    async def ask_all():
        async def ask(n):
            return (await client.ask(f'say {n}', WAIT_S)).text

        texts, estimate = await asyncio.gather(
            asyncio.gather(*(ask(n) for n in range(5))), client.estimate_async('impossible', 1.0))
        return texts, estimate.verdict

    assert asyncio.run(ask_all()) == ([f'{n} end' for n in range(5)], Verdict.INFEASIBLE)


def test_a_node_that_is_not_there_is_told_at_once(answering):
    with TimebillClient(answering.program, '/nowhere') as client:
        began = time.monotonic()
        with pytest.raises(ServerUnavailable, match='no node /nowhere was found') as error:
            client.ask('say two', 3600.0)
        assert error.value.code == Generate.Result.SEND_GOAL_FAILURE and time.monotonic() - began < WAIT_S
        with pytest.raises(ServerUnavailable, match='no node /nowhere'):
            client.estimate('say two', 1.0, timeout_s=0.1)
        with pytest.raises(ServerUnavailable, match='no node /nowhere'):
            client.prepare('say two', timeout_s=0.1)


def test_a_client_that_is_closed_cancels_its_goals_and_sends_no_more(answering):
    answering.canceled.clear()
    with TimebillClient(answering.program, name='closing') as client:
        client.wait_until_active(WAIT_S)
        pending = client.ask('hang', WAIT_S)
        next(iter(pending.statuses()))  # it has begun
    assert answering.canceled.wait(WAIT_S)
    with pytest.raises(ServerUnavailable, match='received any more: the client was closed'):
        pending.answer()
    with pytest.raises(ServerUnavailable, match='received any more: the client was closed'):
        client.send(goal(), timeout_s=WAIT_S).answer()


def test_a_node_that_ends_without_a_word_is_told(monkeypatch):
    monkeypatch.setattr(pending_goal, 'GONE_S', 0.1)
    monkeypatch.setattr(pending_goal, 'AGAIN_S', 0.1)
    with AnsweringNode() as node, Client(node.server) as client:
        client.wait_until_active(WAIT_S)
        pending = client.ask('hang', 3600.0)
        assert wait_until(lambda: 'hang' in node.asked)
        node.stop()
        with pytest.raises(ServerUnavailable, match='is gone'):
            pending.answer()


def test_a_node_that_falls_silent_is_told(monkeypatch):
    monkeypatch.setattr(silence, 'SILENT_S', 1.0)
    with AnsweringNode() as node, Client(node.server) as client:
        stats = node.node.create_publisher(DeadlineStats, '~/stats', QOS)
        client.wait_until_active(WAIT_S)
        pending = client.ask('hang', 3600.0)
        assert wait_until(lambda: 'hang' in node.asked)
        assert wait_until(lambda: stats.publish(DeadlineStats()) or client.silence._is_expecting)
        with pytest.raises(ServerUnavailable, match='was killed or stands still'):
            pending.answer()
        stats.publish(DeadlineStats())
        assert wait_until(lambda: not client.silence.is_long) and pending.poll() is None, 'it is back'


def test_a_program_that_shuts_ros_down_is_told(program):
    with TimebillClient(program, 'planner') as client:
        pending = client.send(goal(prompt='slow'), timeout_s=WAIT_S)
        rclpy.shutdown(context=program.context)
        with pytest.raises(ServerUnavailable, match='context was shut down'):
            pending.answer()
