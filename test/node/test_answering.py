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

"""Every service call is answered, and no service waits for a slow one of another kind."""
from __future__ import annotations

import threading

import pytest
import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from node_client import WAIT_S, wait_for, wait_until
from node_process import NodeProcess, worker_program
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from std_srvs.srv import Trigger
from test_executor import Logger

from timebill_ros.node import answering
from timebill_ros.node.executor import PoolExecutor


@pytest.fixture
def spun():
    """A lifecycle node whose services an executor answers, and a function that calls one of them."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node, asking = LifecycleNode('served', context=context), rclpy.create_node('asking', context=context)
    executors = [PoolExecutor(4, Logger(), context=context) for _ in range(2)]
    threads = []

    def start():
        for executor, its in zip(executors, (node, asking), strict=True):
            executor.add_node(its)
            threads.append(threading.Thread(target=executor.spin, daemon=True))
            threads[-1].start()

    def call(kind, name, **fields):
        client = asking.create_client(kind, f'served/{name}')
        assert client.wait_for_service(WAIT_S)
        return wait_for(client.call_async(kind.Request(**fields)), 20.0)

    yield node, start, call
    for executor in executors:
        executor.shutdown(2.0)
    for thread in threads:
        thread.join(5.0)
    for each in (node, asking):
        each.destroy_node()
    rclpy.shutdown(context=context)


def raises(request, response):
    response.success = True  # what was written before the exception must not reach the client
    raise ValueError('of the test')


@pytest.mark.parametrize('callback', [raises, lambda request, response: None, lambda request, response: 'yes'],
                         ids=['raises', 'returns nothing', 'returns something else'])
@pytest.mark.parametrize('kind, name', [(Trigger, 'stub'), (ChangeState, 'change_state')])
def test_a_service_whose_callback_fails_is_answered(spun, kind, name, callback):
    node, start, call = spun
    if kind is Trigger:
        node.create_service(Trigger, '~/stub', callback)
    else:  # as rclpy 7.1's own callback does for a transition that the state does not allow
        next(service for service in node.services if service.srv_name.endswith(name)).callback = callback
    answering.answer_always(node)
    start()
    assert call(kind, name).success is False


def test_a_failed_callback_is_logged_with_the_name_of_its_service():
    logger = Logger()
    answer = answering._answering(raises, '/served/stub', logger)
    assert answer(None, Trigger.Response()) == Trigger.Response()
    assert '/served/stub' in logger.errors[0] and 'ValueError: of the test' in logger.errors[0]


def test_every_service_of_a_lifecycle_node_is_guarded(spun):
    node, _, _ = spun
    answering.answer_always(node)
    services = list(node.services)
    assert {'change_state', 'get_state', 'set_parameters'} <= {each.srv_name.rpartition('/')[2] for each in services}
    for service in services:
        response = service.srv_type.Response()
        assert service.callback(None, response) == response  # the request None makes its own callback raise, or not


def test_other_services_answer_while_a_transition_takes_its_time(spun):
    node, start, call = spun
    entered, go_on = threading.Event(), threading.Event()

    def on_configure(state):
        entered.set()
        assert go_on.wait(60.0)
        return TransitionCallbackReturn.SUCCESS

    node._callbacks[State.TRANSITION_STATE_CONFIGURING] = on_configure
    answering.separate_groups(node)
    start()
    changed = threading.Thread(target=call, args=(ChangeState, 'change_state'),
                               kwargs={'transition': Transition(id=Transition.TRANSITION_CONFIGURE)})
    changed.start()
    try:
        assert entered.wait(WAIT_S)
        assert call(GetState, 'get_state').current_state.label == 'configuring'
        assert len(call(GetParameters, 'get_parameters', names=['use_sim_time']).values) == 1
    finally:
        go_on.set()
        changed.join(20.0)


def test_the_node_answers_while_it_configures(tmp_path):
    with NodeProcess(worker_python=worker_program('silent_worker.py', tmp_path)) as node:
        assert node.state() == 'unconfigured'
        asked = node._services[ChangeState].call_async(
            ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
        wait_until(node.worker_pid)
        assert node.state() == 'configuring'
        result = node.call(SetParameters, parameters=[]).results
        assert list(result) == [] and not asked.done()
        assert not node.set_parameter('feedback_rate', 0.0).successful
