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

"""The client: what it does not send, and how it lives in a program with nodes of its own."""
import contextlib
import signal
import threading

import pytest
import rclpy
from node_client import SUCCEEDED, WAIT_S
from rclpy.action import ActionServer
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from timebill_ros.action import Generate
from timebill_ros.client import Client, ServerUnavailable, chat, check_text
from timebill_ros.msg import SamplingConfig


def goal(**fields):
    return Generate.Goal(**{'prompt': 'one', **fields})


@pytest.mark.parametrize(('bad', 'named'), [
    (goal(prompt='one\0two'), 'prompt holds a NUL at character 3'),
    (goal(messages=chat(dict(role='user', content='fine'), dict(role='user', content='\0'))),
     r'messages\[1\]\.content'),
    (goal(messages=chat(dict(role='us\0er', content='fine'))), r'messages\[0\]\.role'),
    (goal(closing_text=']\0'), 'closing_text'),
    (goal(sampling=SamplingConfig(stop=['x', 'y\0z'])), r'sampling\.stop\[1\]'),
])
def test_a_text_with_a_nul_is_not_sent(bad, named):
    """ROS messages carry a text up to its first NUL, and the node would answer half a question."""
    client = object.__new__(Client)  # no connection is needed: nothing is sent
    with pytest.raises(ValueError, match=named):
        client.send(bad)
    with pytest.raises(ValueError, match=named):
        client.estimate(bad, 1.0)


def test_other_text_is_sent():
    check_text(goal(prompt='one\n\t\x01 \u597d', messages=chat(dict(role='user', content=''))))


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
