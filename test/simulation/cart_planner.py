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

"""A planner that drives the cart as long as the model says so in time, and stops it otherwise.

It knows simulated time only. Every `every_s` it asks whether the way is free, with an absolute deadline `within_s`
later. An answer that it has by then decides; without one the cart stops.
"""
from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from std_msgs.msg import Float64

from timebill_ros.action import Generate
from timebill_ros.client import ServerUnavailable, TimebillClient
from timebill_ros.node import translation

SPEED_M_S = 1.0
STOP_M = 3.0  # from the wall: here it stops whatever anybody says
WALL_M = 30.0


@dataclass
class Decision:
    """What was decided. Instants are in simulated time; `why`: empty where the model decided."""

    asked_s: float
    due_s: float
    acted_s: float
    drives: bool
    why: str


class CartPlanner:
    """A context manager; decides in a thread of its own. `decisions`: those made so far."""

    def __init__(self, namespace: str, *, every_s: float, within_s: float):
        self._every_s, self._within_s = every_s, within_s
        self.decisions: list[Decision] = []
        self._position_m = 0.0
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node('planner', namespace=namespace, context=self._context, parameter_overrides=[
            Parameter('use_sim_time', value=True)])
        self._speed = self._node.create_publisher(Float64, 'cart/speed', 10)
        self._node.create_subscription(Float64, 'cart/position', self._on_position, 10)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._client = TimebillClient(self._node, f'{namespace}/timebill')
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._executor.spin, daemon=True),
                         threading.Thread(target=self._run, daemon=True)]

    def __enter__(self) -> CartPlanner:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._closed.set()
        self._threads[1].join(30.0)
        self._client.close()
        self._executor.shutdown()
        self._threads[0].join(5.0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _on_position(self, message: Float64) -> None:
        self._position_m = message.data

    def _now_s(self) -> float:
        return self._node.get_clock().now().nanoseconds * 1e-9

    def _wait_until(self, at_s: float, since_s: float) -> bool:
        """Wait for simulated time; False where it jumped back or the planner is closed."""
        while not self._closed.is_set() and since_s <= (now := self._now_s()) < at_s:
            time.sleep(0.005)
        return not self._closed.is_set() and now >= at_s

    def _run(self) -> None:
        while not self._closed.is_set() and not self._now_s():
            time.sleep(0.01)  # no /clock yet
        while not self._closed.is_set():
            asked_s = self._now_s()
            self._decide(asked_s)
            self._wait_until(asked_s + self._every_s, asked_s)

    def _decide(self, asked_s: float) -> None:
        due_s = asked_s + self._within_s
        drives, why = self._ask(asked_s, due_s)
        acted_s = self._now_s()
        if drives and not asked_s <= acted_s <= due_s:  # nothing that was decided for another instant
            drives, why = False, 'the answer is late'
        if drives and WALL_M - self._position_m < STOP_M:
            drives = False
        self._speed.publish(Float64(data=SPEED_M_S if drives else 0.0))
        self.decisions.append(Decision(asked_s, due_s, acted_s, drives, why))

    def _ask(self, asked_s: float, due_s: float) -> tuple[bool, str]:
        goal = Generate.Goal(prompt='may the cart drive on?', deadline=translation.stamp(due_s),
                             overrun_strategy=Generate.Goal.STRATEGY_KILL)
        with contextlib.suppress(ServerUnavailable):
            sent = self._client.send(goal)
            while (answer := sent.poll()) is None:
                if self._closed.is_set() or not asked_s <= self._now_s() < due_s:
                    return False, 'no answer in time'  # the node ends it by the same deadline: the next one needs it
                time.sleep(0.002)
            return answer.result.text == 'drive on', answer.result.error_msg
        return False, 'no server'
