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
from types import SimpleNamespace

import pytest
import rclpy
from action_msgs.msg import GoalStatus
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from node_client import SUCCEEDED, WAIT_S
from rclpy.action import ActionServer
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from timebill_ros import client as client_module
from timebill_ros.action import Generate
from timebill_ros.client import Client, PendingGoal, ServerUnavailable, chat, check_text
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


# -- answers that are lost -------------------------------------------------------------------------------------------

class Future:
    """An answer that comes at once, or never where `result` is None."""

    def __init__(self, result=None):
        self.result = lambda: result
        self._is_lost = result is None

    def add_done_callback(self, callback):
        if not self._is_lost:
            callback(self)


class Server:
    """What a PendingGoal needs of a client and of rclpy's goal handle; each answer is the next of `answers`."""

    server, accepted, status = '/timebill', True, GoalStatus.STATUS_SUCCEEDED

    def __init__(self, *answers):
        self.answers, self.canceled, self.actions, self.late = list(answers), False, self, []

    def on_executor(self, work):
        work()

    def send_goal_async(self, goal, feedback_callback):
        future = Future(self.answers.pop(0))
        self.late.append(future)
        return future

    def get_result_async(self):
        return Future(self.answers.pop(0))

    def cancel_goal_async(self):
        self.canceled = True


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(client_module, 'ACCEPTANCE_S', 0.1)
    monkeypatch.setattr(client_module, 'AGAIN_S', 0.05)


def test_an_acceptance_that_is_lost_is_told_soon_and_a_late_one_cancels_the_goal(hurried):
    node = Server(None, None)
    pending = PendingGoal(node, goal(), None)
    with pytest.raises(ServerUnavailable, match='did not accept a goal in 0.1 s: it hangs, or its answer was lost'):
        pending.answer(3600.0)
    assert not node.canceled
    pending._on_accepted(Future(node))
    assert node.canceled


def test_a_result_that_is_lost_is_asked_for_again(hurried):
    node = Server()
    node.answers = [node, None, None, SimpleNamespace(result='the result', status=4)]
    assert PendingGoal(node, goal(), None).answer(60.0).result == 'the result'


def test_a_result_that_does_not_come_is_told_in_time(hurried):
    node = Server()
    node.answers, node.status = [node, None], GoalStatus.STATUS_EXECUTING
    with pytest.raises(ServerUnavailable, match='no result in 0.2 s'):
        PendingGoal(node, goal(), None).answer(0.2)


@pytest.mark.parametrize('n_lost', [0, 1, 3, 1000])
def test_a_service_whose_answer_is_lost_is_asked_again(n_lost):
    asked, removed = [], []

    def call_async(request):
        asked.append(Future(None if len(asked) < n_lost else 'the answer'))
        return asked[-1]

    service = SimpleNamespace(call_async=call_async, remove_pending_request=removed.append, srv_name='/ask')
    client = object.__new__(Client)
    if n_lost < 1000:
        assert client.call(service, 'request', 60.0, again_s=0.02) == 'the answer'
        assert len(asked) == n_lost + 1
    else:
        with pytest.raises(ServerUnavailable, match='/ask did not answer in 0.1 s'):
            client.call(service, 'request', 0.1, again_s=0.02)
    assert removed == asked, 'rclpy keeps none of them'


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
    assert str(error.value).startswith('/arm/planner is not active after 0 s: ') and told in str(error.value)


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
