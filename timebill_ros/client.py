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

"""A client of the node, for the command line, the demonstration, benchmarks and users: goals, estimates, lifecycle."""
from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import rclpy
from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from timebill_ros.action import Generate
from timebill_ros.msg import ChatMessage
from timebill_ros.srv import EstimateTime


class ServerUnavailable(RuntimeError):
    """The node is not there, not active, or did not answer in time."""


# What a user can do about a node in these states.
_WHAT_TO_DO = {
    State.PRIMARY_STATE_UNCONFIGURED: '{server} is unconfigured: configure and activate it ("ros2 lifecycle set '
                                      '{server} configure", then "activate"), or start it with -p autostart:=true',
    State.PRIMARY_STATE_INACTIVE: '{server} is inactive: activate it ("ros2 lifecycle set {server} activate")',
    State.PRIMARY_STATE_ACTIVE: '{server} is active, but its action server was not found',
    State.TRANSITION_STATE_CONFIGURING: '{server} is still configuring: its log says what it does',
}


ACCEPTANCE_S = 10.0  # how long the acceptance of a goal is waited for; a node gives it within milliseconds
AGAIN_S = 2.0  # after so long without an answer, what may be asked twice is asked again
_ENDED = (GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_CANCELED, GoalStatus.STATUS_ABORTED)


@dataclass
class Answer:
    """One goal's end as the client saw it. `accepted_s` and `received_s` are seconds since the goal was sent."""

    result: Generate.Result
    status: int  # action_msgs GoalStatus
    accepted_s: float
    received_s: float


def duration(seconds: float) -> Duration:
    """Return seconds as builtin_interfaces Duration; `sec` is floored, so that nanosec is never negative."""
    nanoseconds = round(seconds * 1e9)
    return Duration(sec=nanoseconds // 10 ** 9, nanosec=nanoseconds % 10 ** 9)


def chat(*messages: dict[str, str]) -> list[ChatMessage]:
    """Return dictionaries with a role and a content as the messages of a goal."""
    return [ChatMessage(role=message['role'], content=message['content']) for message in messages]


def check_text(goal: Generate.Goal) -> None:
    """Raise ValueError where a text of `goal` holds a NUL: the message layer would drop it and all that follows it."""
    texts = {'prompt': goal.prompt, 'closing_text': goal.closing_text}
    for index, message in enumerate(goal.messages):
        texts |= {f'messages[{index}].role': message.role, f'messages[{index}].content': message.content}
    texts |= {f'sampling.stop[{index}]': stop for index, stop in enumerate(goal.sampling.stop)}
    for name, text in texts.items():
        if '\0' in text:
            raise ValueError(f'{name} holds a NUL at character {text.index(chr(0))}; ROS messages end a text there')


class PendingGoal:
    """A goal that was sent. `answer` waits for its end."""

    def __init__(self, client: Client, goal: Generate.Goal, on_feedback: Callable | None):
        self._client = client
        self._sent_s = time.monotonic()
        self._accepted_s = self._received_s = 0.0
        self._handle = self._response = None
        self._given_up = False  # nobody waits for the acceptance any more
        self._accepted, self._ended = threading.Event(), threading.Event()
        # On the executor's thread: rclpy's send_goal_async registers the request only after sending it, and a response
        # that another thread takes before that is lost.
        client.on_executor(lambda: client.actions.send_goal_async(
            goal, feedback_callback=on_feedback).add_done_callback(self._on_accepted))

    def _on_accepted(self, future) -> None:
        self._accepted_s = time.monotonic() - self._sent_s
        self._handle = future.result()
        self._accepted.set()
        if self._handle.accepted:
            self._ask_result()
        if self._handle.accepted and self._given_up:
            self._handle.cancel_goal_async()

    def _ask_result(self) -> None:
        self._handle.get_result_async().add_done_callback(self._on_result)

    def _on_result(self, future) -> None:
        if not self._ended.is_set():  # the first of them, where it was asked for again
            self._received_s = time.monotonic() - self._sent_s
            self._response = future.result()
            self._ended.set()

    def answer(self, timeout_s: float) -> Answer:
        """Wait for the result. ServerUnavailable if the goal is rejected or no result comes in time.

        A result that is lost is asked for again. An acceptance that is lost is not: ROS cannot tell whether the goal
        runs, and it might run twice. If it comes after all, too late, the goal is canceled.
        """
        until = time.monotonic() + timeout_s
        self._wait_accepted(min(timeout_s, ACCEPTANCE_S))
        if not self._handle.accepted:
            raise ServerUnavailable(f'the goal was rejected: {self._client.server} is not active')
        while not self._ended.wait(max(0.0, min(until - time.monotonic(), AGAIN_S))):
            if time.monotonic() >= until:
                raise ServerUnavailable(f'{self._client.server} gave no result in {timeout_s:.1f} s')
            if self._handle.status in _ENDED:
                self._client.on_executor(self._ask_result)
        return Answer(self._response.result, self._response.status, self._accepted_s, self._received_s)

    def cancel(self) -> None:
        self._wait_accepted(5.0)
        self._client.on_executor(self._handle.cancel_goal_async)

    def _wait_accepted(self, timeout_s: float) -> None:
        if not self._accepted.wait(timeout_s):
            self._given_up = True
            if self._accepted.is_set() and self._handle.accepted:  # in this very moment
                self._client.on_executor(self._handle.cancel_goal_async)
            raise ServerUnavailable(f'{self._client.server} did not accept a goal in {timeout_s:.1f} s: it hangs, or '
                                    'its answer was lost')


class Client:
    """Talks to the node `server` from a node of its own, which spins on a thread.

    A context manager: leaving it joins the thread and destroys what making it made. In a program that has rclpy nodes,
    `node` is one of them or `context` is theirs: the client's node joins that context, beside `node` in its namespace,
    and both are left as they are. Without either, the client has a context of its own, and rclpy need not be
    initialised. As its thread takes the responses, callbacks of the program's nodes may wait for answers.
    """

    def __init__(self, server: str = '/timebill', name: str = 'timebill_client', *, node: Node | None = None,
                 context: Context | None = None):
        if node is not None and context not in (None, node.context):
            raise ValueError('the node is of another context than the one given')
        self._own_context = None
        shared = node.context if node is not None else context
        if shared is None:
            shared = self._own_context = Context()
            # Without rclpy's signal handlers, Ctrl-C is Python's KeyboardInterrupt: there is time to cancel a goal.
            rclpy.init(context=shared, signal_handler_options=SignalHandlerOptions.NO)
        elif not shared.ok():
            raise ValueError('the context is not initialised, or was shut down')
        try:
            self._connect(server, name, shared, node.get_namespace() if node is not None else None)
        except BaseException:
            self._free_context()
            raise
        self._closed = False
        self._thread = threading.Thread(target=self._spin, name='client', daemon=True)
        self._thread.start()

    def _connect(self, server: str, name: str, context: Context, namespace: str | None) -> None:
        self.server = server
        # The program's own remappings, such as -r __node:=NAME, are for its nodes and would rename this one too.
        self.node = Node(name, context=context, namespace=namespace, use_global_arguments=self._own_context is not None)
        self.actions = ActionClient(self.node, Generate, f'{server}/generate')
        self._estimates = self.node.create_client(EstimateTime, f'{server}/estimate_time')
        self._states = self.node.create_client(GetState, f'{server}/get_state')
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):  # the program has shut its context down
            while not self._closed:
                self._executor.spin_once(0.1)

    def _free_context(self) -> None:
        if self._own_context is not None:
            rclpy.shutdown(context=self._own_context)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc) -> None:
        self._closed = True
        self._thread.join()
        self._executor.shutdown()
        self.actions.destroy()
        self.node.destroy_node()
        self._free_context()

    def on_executor(self, work: Callable[[], object]) -> None:
        """Have the thread that takes responses do `work`."""
        self._executor.create_task(work)

    def call(self, service, request, timeout_s: float, again_s: float = AGAIN_S):
        """Return a service's response; ServerUnavailable after `timeout_s`, since rclpy's futures never time out.

        Every `again_s` without an answer the service is called again: the RMW drops an answer to a client that it has
        not discovered yet. So call only what may be called twice.
        """
        until = time.monotonic() + timeout_s
        answered: queue.SimpleQueue = queue.SimpleQueue()
        futures = []
        try:
            while True:
                futures.append(service.call_async(request))
                futures[-1].add_done_callback(answered.put)
                with contextlib.suppress(queue.Empty):
                    return answered.get(timeout=max(0.0, min(until - time.monotonic(), again_s))).result()
                if time.monotonic() >= until:
                    raise ServerUnavailable(f'{service.srv_name} did not answer in {timeout_s:.1f} s')
        finally:
            for future in futures:
                service.remove_pending_request(future)

    def wait_until_active(self, timeout_s: float, alive: Callable[[], bool] = lambda: True) -> None:
        """Wait until the node is active. ServerUnavailable after `timeout_s`, or as soon as it is not `alive()`.

        The sentence of the error says what was found: no node, or the state that it stays in and what to do.
        """
        until = time.monotonic() + timeout_s
        found = f'no node {self.server} was found: is it running, under this name and with the same ROS_DOMAIN_ID?'
        while alive():
            left_s = until - time.monotonic()
            if self._states.wait_for_service(min(max(left_s, 0.0), 0.2)):
                try:
                    state = self.call(self._states, GetState.Request(), min(max(left_s, 1.0), 5.0)).current_state
                    found = _WHAT_TO_DO.get(state.id, f'{{server}} is {state.label}').format(server=self.server)
                    if state.id == State.PRIMARY_STATE_ACTIVE and self.actions.wait_for_server(0.5):
                        return
                except ServerUnavailable:  # or the service was found just as the node started or ended
                    found = f'{self.server} does not tell its state: it is being configured, or its process hangs'
                time.sleep(min(0.1, max(left_s, 0.0)))
            if left_s <= 0:
                raise ServerUnavailable(f'{self.server} is not active after {timeout_s:.0f} s: {found}')
        raise ServerUnavailable(f'{self.server} has ended')

    def send(self, goal: Generate.Goal, on_feedback: Callable | None = None) -> PendingGoal:
        """Send `goal`. ValueError where a text of it would not arrive whole."""
        check_text(goal)
        return PendingGoal(self, goal, on_feedback)

    def estimate(self, goal: Generate.Goal, budget_s: float | None = None,
                 timeout_s: float = 10.0) -> EstimateTime.Response:
        """Return what the node would promise for `goal` now, within `budget_s` or, where that is None, its own budget.

        ValueError as `send` raises it.
        """
        check_text(goal)
        names = EstimateTime.Request.get_fields_and_field_types()
        request = EstimateTime.Request(**{name: getattr(goal, name) for name in names})
        if budget_s is not None:
            request.time_budget = duration(budget_s)
        return self.call(self._estimates, request, timeout_s, again_s=6.0)  # the node itself may take 5 s
