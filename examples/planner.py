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

"""A planner that must act in time: with the model's answer if it comes, otherwise with a default action.

    python3 planner.py --ros-args -p budget_s:=2.0 -p server:=/timebill

It asks first what the node would promise, sends the question, and watches its status. As soon as it is told that the
answer will not come by the deadline, it falls back and does not wait any longer.
"""
from __future__ import annotations

import contextlib
import sys
import time
from typing import NamedTuple

import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from timebill_ros.action import Generate
from timebill_ros.client import ServerUnavailable, TimebillClient, bad_news
from timebill_ros.msg import Timing

DEFAULT_ACTION = 'stop'
RESERVE_S = 0.05  # of the budget, for falling back
QUESTION = 'log : visit kitchen mug @shelf1 left kitchen task : bring mug'  # what the embedded model understands


class Decision(NamedTuple):
    """What to do; why it is the default action, empty where the model chose it; seconds that it took."""

    action: str
    why_default: str
    taken_s: float


class Planner:
    """Decides by a deadline. `client`: a TimebillClient; the node is active already."""

    def __init__(self, client: TimebillClient):
        self._client = client

    def decide(self, question: str, budget_s: float) -> Decision:
        """Return what to do, `budget_s` seconds from now at the latest."""
        began_s = time.monotonic()
        action, why = '', f'{budget_s} s are too short to ask'
        if budget_s > 2 * RESERVE_S:
            action, why = self._ask(question, began_s + budget_s - RESERVE_S)
        return Decision(action or DEFAULT_ACTION, '' if action else why, time.monotonic() - began_s)

    def _ask(self, question: str, deadline_s: float) -> tuple[str, str]:
        """Return the model's answer, or an empty text and why there is none in time."""
        left_s = deadline_s - time.monotonic()
        with contextlib.suppress(ServerUnavailable):  # no estimate in a quarter of the time: it is asked anyway
            estimate = self._client.estimate(question, left_s, timeout_s=left_s / 4)
            if estimate.error_code or estimate.verdict == Timing.VERDICT_INFEASIBLE:
                return '', f'the node said beforehand that it cannot: {estimate.error_msg or "INFEASIBLE"}'
        try:
            left_s = deadline_s - time.monotonic()
            # KILL: half a plan is no plan. timeout_s: the deadline holds also where the node hangs.
            goal = self._client.ask(question, left_s, timeout_s=left_s, overrun_strategy=Generate.Goal.STRATEGY_KILL)
            for status in goal.statuses():  # ends with the answer
                news = bad_news(status)
                if news:
                    goal.cancel()
                    return '', news
            answer = goal.answer()
        except ServerUnavailable as error:
            return '', str(error)
        if answer.result.error_code:
            return answer.text, f'{answer.code}: {answer.result.error_msg}'
        return answer.text, 'the model said nothing'


def main() -> None:
    """Decide once, and print what and why."""
    rclpy.init()
    node = Node('planner')
    # dynamic_typing: so budget_s:=2 is taken too.
    budget_s = node.declare_parameter('budget_s', 2.0, ParameterDescriptor(dynamic_typing=True)).value
    if not isinstance(budget_s, (int, float)):
        sys.exit(f'budget_s must be a number of seconds, got {budget_s!r}')
    server = node.declare_parameter('server', '/timebill').value
    with TimebillClient(node, server) as client:
        try:
            client.wait_until_active(timeout_s=5.0)  # before the robot moves: from here on nothing waits so long
        except ServerUnavailable as error:
            node.get_logger().warning(str(error))
        decision = Planner(client).decide(QUESTION, budget_s)
    print(f'{decision.action} (after {decision.taken_s:.2f} of {budget_s} s)')
    if decision.why_default:
        print(f'the default action, because {decision.why_default}')
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == '__main__':
    main()
