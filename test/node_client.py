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

"""A client of a node under test: sends goals, calls services, and keeps what the node publishes."""
from __future__ import annotations

import contextlib
import queue
import threading
import time

import rclpy
from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy

from timebill_ros.action import Generate
from timebill_ros.client import duration
from timebill_ros.msg import RequestStatus, SamplingConfig
from timebill_ros.srv import EstimateTime, Prepare

WAIT_S = 60.0  # for what takes no time on a quiet machine

SUCCEEDED, CANCELED, ABORTED = (GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_CANCELED, GoalStatus.STATUS_ABORTED)
Result = Generate.Result


def make_goal(prompt: str = 'w1 w2', budget_s: float | None = WAIT_S, **fields) -> Generate.Goal:
    goal = Generate.Goal(prompt=prompt, **fields)
    if budget_s is not None:
        goal.time_budget = duration(budget_s)
    return goal


def hot(seed: int = 1, **fields) -> SamplingConfig:
    """Sampling that draws nearly at random from the vocabulary."""
    return SamplingConfig(temperature=20.0, seed=seed, **fields)


def wait_until(condition, timeout_s: float = WAIT_S, message: str = ''):
    """Return the first true value of `condition()`; fail after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end, message or f'not within {timeout_s} s'
        time.sleep(0.01)
    return value


def wait_for(future, timeout_s: float = WAIT_S):
    """Return the result of an rclpy future, which itself never times out."""
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    assert done.wait(timeout_s), f'no answer within {timeout_s} s'
    return future.result()


class Sent:
    """A goal that the node accepted."""

    def __init__(self, handle, feedback: list, sent_s: float):
        self.handle, self.feedback, self.sent_s = handle, feedback, sent_s
        self.id = bytes(handle.goal_id.uuid).hex()
        self.arrived_s: float | None = None  # when the result came, monotonic
        self._done = threading.Event()
        self._future = handle.get_result_async()
        self._future.add_done_callback(self._arrived)

    def _arrived(self, _) -> None:
        self.arrived_s = time.monotonic()
        self._done.set()

    def result(self, timeout_s: float = WAIT_S) -> tuple[int, Generate.Result]:
        """Return (terminal status, result)."""
        assert self._done.wait(timeout_s), f'no result within {timeout_s} s'
        response = self._future.result()
        return response.status, response.result

    def cancel(self):
        return self.handle.cancel_goal_async()

    @property
    def text(self) -> str:
        return ''.join(message.text_delta for message in self.feedback)


class Client:
    """A ROS node that talks to the node under test."""

    def __init__(self, namespace: str):
        self.statuses: list[RequestStatus] = []
        self.diagnostics: list[tuple[float, DiagnosticArray]] = []
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node('client', namespace=namespace, context=self._context)
        # Deep, because the default keeps only the last 10 messages that this client has not yet taken.
        deep = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
        self.actions = ActionClient(self._node, Generate, 'timebill/generate', goal_service_qos_profile=deep,
                                    result_service_qos_profile=deep, cancel_service_qos_profile=deep,
                                    feedback_sub_qos_profile=deep)
        self._node.create_subscription(RequestStatus, 'timebill/status', self.statuses.append, 50)
        self._node.create_subscription(DiagnosticArray, 'diagnostics', lambda message:
                                       self.diagnostics.append((time.monotonic(), message)), 10)
        self._services = {kind: self._node.create_client(kind, f'timebill/{service}') for kind, service in (
            (ChangeState, 'change_state'), (GetState, 'get_state'), (SetParameters, 'set_parameters'),
            (EstimateTime, 'estimate_time'), (Prepare, 'prepare'))}
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._is_known = False  # whether the node has answered this client once
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def __enter__(self) -> Client:
        assert self.actions.wait_for_server(WAIT_S)
        self._wait_until_known()
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(5.0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    # -- services --------------------------------------------------------------------------------------------------

    def call(self, kind, **fields):
        self._wait_until_known()
        return wait_for(self._ready(kind).call_async(kind.Request(**fields)))

    def _ready(self, kind):
        service = self._services[kind]
        assert service.wait_for_service(WAIT_S), f'no {service.srv_name}'
        return service

    def _wait_until_known(self) -> None:
        """Ask for the state until an answer comes.

        A client sees a service before the service sees the client. The RMW drops an answer to a client that it has not
        seen 0.1 s later, which on a loaded machine happens in one of a hundred cases.
        """
        if not self._is_known:
            answers = []

            def is_answered() -> bool:
                answers.append(self._ready(GetState).call_async(GetState.Request()))
                with contextlib.suppress(AssertionError):
                    wait_until(lambda: any(answer.done() for answer in answers), 2.0)
                return any(answer.done() for answer in answers)

            wait_until(is_answered)
            self._is_known = True

    def state(self) -> str:
        return self.call(GetState).current_state.label

    def set_parameter(self, name: str, value):
        parameter = Parameter(name, value=value).to_parameter_msg()
        return self.call(SetParameters, parameters=[parameter]).results[0]

    # -- goals -----------------------------------------------------------------------------------------------------

    def send(self, goal: Generate.Goal) -> Sent:
        sent = self.try_send(goal)
        assert sent is not None, 'the goal was rejected'
        return sent

    def try_send(self, goal: Generate.Goal) -> Sent | None:
        """Send a goal; None if the node rejects it."""
        feedback: list[Generate.Feedback] = []
        sent_s = time.monotonic()
        sent: queue.SimpleQueue = queue.SimpleQueue()
        # On the executor's thread: see timebill_ros/client.py.
        self._executor.create_task(lambda: self.actions.send_goal_async(
            goal, feedback_callback=lambda message: feedback.append(message.feedback)).add_done_callback(sent.put))
        handle = sent.get(timeout=WAIT_S).result()
        return Sent(handle, feedback, sent_s) if handle.accepted else None

    def ask(self, goal: Generate.Goal) -> tuple[int, Generate.Result]:
        return self.send(goal).result()

    def phases(self, sent: Sent) -> list[int]:
        return [message.phase for message in list(self.statuses) if message.request_id == sent.id]

    def wait_for_phase(self, sent: Sent, phase: int) -> None:
        wait_until(lambda: phase in self.phases(sent), message=f'phase {phase} not seen, only {self.phases(sent)}')
