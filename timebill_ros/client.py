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

"""The clients: `TimebillClient` for programs that have a ROS node, `Client` for those that have none.

Both send goals, ask for estimates and wait for the node, always with a time-out. What they are made of is in asking/.
"""
from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.exceptions import InvalidTopicNameException
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.validate_full_topic_name import validate_full_topic_name

from timebill_ros.action import Generate
from timebill_ros.asking.connection import LOADING, Connection
from timebill_ros.asking.conversation import Messages, chat
from timebill_ros.asking.failures import ServerUnavailable, code_name
from timebill_ros.asking.goals import check_budget, check_goal, duration, make_goal
from timebill_ros.asking.outlook import bad_news
from timebill_ros.asking.pending_goal import Answer, PendingGoal
from timebill_ros.asking.silence import Silence
from timebill_ros.msg import DeadlineStats, RequestStatus
from timebill_ros.srv import EstimateTime, Prepare

__all__ = ['Answer', 'Client', 'PendingGoal', 'ServerUnavailable', 'TimebillClient', 'bad_news', 'chat', 'check_goal',
           'code_name', 'duration', 'make_goal']

# What a user can do about a node in these states.
_WHAT_TO_DO = {
    State.PRIMARY_STATE_UNCONFIGURED: '{server} is unconfigured: configure and activate it ("ros2 lifecycle set '
                                      '{server} configure", then "activate"), or start it with -p autostart:=true',
    State.PRIMARY_STATE_INACTIVE: '{server} is inactive: activate it ("ros2 lifecycle set {server} activate")',
    State.PRIMARY_STATE_ACTIVE: '{server} is active, but its action server was not found',
    State.TRANSITION_STATE_CONFIGURING: '{server} is still configuring: its log says what it does',
}
_NO_NODE = 'no node {server} was found: is it running, under this name and with the same ROS_DOMAIN_ID?'
PATIENCE_S = 5.0  # how long after its budget an answer is waited for: a node that hangs is told, a slow network borne
ESTIMATE_AGAIN_S = 6.0  # the node itself may take 5 s for an estimate
# As deep as the node. ROS's default keeps 10 messages and drops the oldest: a program that sends 60 goals before it
# takes a response would have 10 acceptances, and one that is slow to take feedback would lose parts of texts.
DEEP_QOS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)


def check_server(server: str) -> None:
    """Raise ValueError, in one sentence, where `server` is no name that a node can have."""
    try:
        validate_full_topic_name(f'/{server.removeprefix("~/").removeprefix("/")}')
    except (AttributeError, InvalidTopicNameException):
        raise ValueError(f'server {server!r} is no name of a node: give one of letters, digits, _ and single slashes, '
                         'such as /timebill') from None


class TimebillClient(Connection):
    """Asks the node `server` for a program that has a ROS node.

    `server` is relative to the namespace of `node`, or begins with a slash. `node` itself is left as it is: the client
    has a node of its own beside it, in the same context and namespace, which a thread spins. So callbacks of the
    program may wait for answers. rclpy is never initialised here, and may not be shut down before the client is closed.
    `name`: of the client's node; by default the program's node's with `_timebill_client` behind it.

    A context manager; `close` ends the thread and cancels the goals that are not over.
    """

    def __init__(self, node: Node, server: str = 'timebill', *, name: str | None = None):
        check_server(server)
        server = expand_topic_name(server, node.get_name(), node.get_namespace())
        super().__init__(name or f'{node.get_name()}_timebill_client', node.context, namespace=node.get_namespace())
        self._connect(server, watch_status=True)

    def _connect(self, server: str, *, watch_status: bool) -> None:
        self.server, self.watches_status, self.silence = server, watch_status, Silence()
        self._goals: weakref.WeakValueDictionary[str, PendingGoal] = weakref.WeakValueDictionary()
        try:
            with LOADING:
                self._create_interfaces(server)
        except BaseException:
            self.node.destroy_node()
            raise
        self.start()

    def _create_interfaces(self, server: str) -> None:
        self.actions = ActionClient(
            self.node, Generate, f'{server}/generate', goal_service_qos_profile=DEEP_QOS,
            result_service_qos_profile=DEEP_QOS, cancel_service_qos_profile=DEEP_QOS,
            feedback_sub_qos_profile=DEEP_QOS)
        self.destroyed_first.append(self.actions)
        self._estimates = self.node.create_client(EstimateTime, f'{server}/estimate_time')
        self._preparing = self.node.create_client(Prepare, f'{server}/prepare')
        self._states = self.node.create_client(GetState, f'{server}/get_state')
        # Best effort: fits whatever the node offers.
        self.node.create_subscription(DeadlineStats, f'{server}/stats', self.silence.on_stats,
                                      QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
        if self.watches_status:
            self.node.create_subscription(RequestStatus, f'{server}/status', self._on_status,
                                          QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE))

    def _on_status(self, message: RequestStatus) -> None:
        self.silence.end()
        goal = self._goals.get(message.request_id)
        if goal is not None:
            goal.on_status(message)

    def on_round(self) -> None:
        was_long = self.silence.is_long
        self.silence.pass_round()
        if self.silence.is_long and not was_long:
            for goal in list(self._goals.values()):
                goal.on_silence()

    def on_lost(self, reason: str) -> None:
        for goal in list(self._goals.values()):
            goal.on_lost(reason)

    def __enter__(self):
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def close(self) -> None:
        """Cancel the goals that are not over, end the thread and destroy the client's node."""
        for goal in list(self._goals.values()):
            if not goal.is_over:
                goal.cancel()
        super().close()

    def wait_until_active(self, timeout_s: float, alive: Callable[[], bool] = lambda: True) -> None:
        """Wait until the node is active. ServerUnavailable after `timeout_s`, or as soon as it is not `alive()`.

        The sentence of the error says what was found: no node, or the state that it stays in and what to do.
        """
        began = time.monotonic()
        until = began + timeout_s
        found = _NO_NODE.format(server=self.server)
        while alive():
            left_s = until - time.monotonic()
            if self._states.wait_for_service(min(max(left_s, 0.0), 0.2)):
                try:
                    state = self.call(self._states, GetState.Request(), min(max(left_s, 1.0), 5.0)).current_state
                    found = _WHAT_TO_DO.get(state.id, f'{{server}} is {state.label}').format(server=self.server)
                    if state.id == State.PRIMARY_STATE_ACTIVE and self.actions.wait_for_server(0.5):
                        self._find_status(0.5)
                        return
                except ServerUnavailable:  # or the service was found just as the node started or ended
                    found = f'{self.server} does not tell its state: it is being configured, or its process hangs'
                time.sleep(min(0.1, max(left_s, 0.0)))
            else:
                found = _NO_NODE.format(server=self.server)  # or no longer: what it said before holds no more
            if left_s <= 0:
                raise ServerUnavailable(f'{self.server} is not active after {time.monotonic() - began:.1f} s: {found}')
        raise ServerUnavailable(f'{self.server} has ended')

    def _find_status(self, timeout_s: float) -> None:
        """Wait until ROS has found the status topic; a program that may not hear it goes on without."""
        until = time.monotonic() + timeout_s
        while self.watches_status and time.monotonic() < until:
            if self.node.count_publishers(f'{self.server}/status'):
                return
            time.sleep(0.02)

    def ask(self, messages: Messages, budget_s: float, *, timeout_s: float | None = None,
            on_feedback: Callable | None = None, **fields) -> PendingGoal:
        """Send a question with a time budget, and return at once.

        `messages`: the user's text, or a conversation; `fields`: further fields of Generate.Goal by name. Where no
        answer has come after `timeout_s` (PATIENCE_S more than the budget, by default), the goal is canceled and
        whoever waits gets ServerUnavailable. ServerUnavailable at once where no node is found, ValueError for what no
        goal can carry. `wait_until_active` before the first question: until then the node may not be found yet.
        `on_feedback` gets each feedback message; it is called on the client's thread, so it must not wait for anything.
        Where it raises, that is logged, and it is not called again for this goal.
        """
        goal = make_goal(messages, budget_s, **fields)
        if not self.actions.server_is_ready():
            raise ServerUnavailable(_NO_NODE.format(server=self.server), Generate.Result.SEND_GOAL_FAILURE)
        return self.send(goal, on_feedback, timeout_s=budget_s + PATIENCE_S if timeout_s is None else timeout_s)

    def send(self, goal: Generate.Goal, on_feedback: Callable | None = None, *,
             timeout_s: float | None = None) -> PendingGoal:
        """Send `goal`; `timeout_s` as PendingGoal has it. ValueError for what no goal can carry."""
        check_goal(goal)
        pending = PendingGoal(self, goal, on_feedback, timeout_s=timeout_s)
        self._goals[pending.request_id] = pending  # before it is sent, so that its first status finds it
        self.on_executor(pending.send)
        if self.lost:
            pending.on_lost(self.lost)
        return pending

    def estimate(self, question: Generate.Goal | Messages, budget_s: float | None = None, timeout_s: float = 10.0,
                 **fields) -> EstimateTime.Response:
        """Return what the node would promise for a question now: a goal, or messages and further fields of one.

        `budget_s` None: the budget of the goal; without any, no verdict. ServerUnavailable after `timeout_s`,
        ValueError as `ask` raises it.
        """
        goal = question if isinstance(question, Generate.Goal) else make_goal(question, **fields)
        check_goal(goal)
        names = EstimateTime.Request.get_fields_and_field_types()
        request = EstimateTime.Request(**{name: getattr(goal, name) for name in names})
        if budget_s is not None:
            request.time_budget = duration(check_budget(budget_s))
        until = time.monotonic() + timeout_s
        if not self._estimates.wait_for_service(timeout_s):
            raise ServerUnavailable(_NO_NODE.format(server=self.server))
        return self.call(self._estimates, request, max(0.0, until - time.monotonic()), again_s=ESTIMATE_AGAIN_S)

    async def estimate_async(self, question: Generate.Goal | Messages, budget_s: float | None = None,
                             timeout_s: float = 10.0, **fields) -> EstimateTime.Response:
        """Do what `estimate` does, for asyncio."""
        return await asyncio.to_thread(self.estimate, question, budget_s, timeout_s, **fields)

    def prepare(self, question: Generate.Goal | Messages, timeout_s: float = 60.0, **fields) -> Prepare.Response:
        """Have the node read what goals will begin with, while it is idle: a goal's prompt, or messages and `tools`.

        ServerUnavailable after `timeout_s`, ValueError as `ask` raises it.
        """
        goal = question if isinstance(question, Generate.Goal) else make_goal(question, **fields)
        check_goal(goal)
        until = time.monotonic() + timeout_s
        if not self._preparing.wait_for_service(timeout_s):
            raise ServerUnavailable(_NO_NODE.format(server=self.server))
        request = Prepare.Request(prompt=goal.prompt, messages=goal.messages, tools=goal.tools)
        return self.call(self._preparing, request, max(0.0, until - time.monotonic()))


class Client(TimebillClient):
    """Asks the node `server` from a program without ROS: the command line, the demonstration, benchmarks.

    It has a context of its own, so rclpy need not be initialised, and closing it shuts that down. Given a `node` or a
    `context`, it is like TimebillClient. `watch_status`: whether it hears the status topic too.
    """

    def __init__(self, server: str = '/timebill', name: str = 'timebill_client', *, node: Node | None = None,
                 context: Context | None = None, watch_status: bool = False):
        check_server(server)
        if node is not None and context not in (None, node.context):
            raise ValueError('the node is of another context than the one given')
        self._own_context = None
        shared = node.context if node is not None else context
        if shared is None:
            shared = self._own_context = Context()
            # Without rclpy's signal handlers, Ctrl-C is Python's KeyboardInterrupt: there is time to cancel a goal.
            rclpy.init(context=shared, signal_handler_options=SignalHandlerOptions.NO)
        try:
            Connection.__init__(self, name, shared, namespace=node.get_namespace() if node is not None else None,
                                use_global_arguments=self._own_context is not None)
            self._connect(server, watch_status=watch_status)
        except BaseException:
            self._free_context()
            raise

    def _free_context(self) -> None:
        if self._own_context is not None:
            rclpy.shutdown(context=self._own_context)
            self._own_context = None

    def close(self) -> None:
        """Do as TimebillClient does, and shut down the context if it is the client's own."""
        super().close()
        self._free_context()
