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

"""Follows /clock where use_sim_time is on, and moves absolute deadlines with it."""
from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from timebill_ros.node import qos_overrides
from timebill_ros.node.ros_time import RosTime

RENEW_S = 0.05  # the shortest time between two moves of the deadlines
BACKLOG = 10  # /clock messages


class ClockFollower:
    """Follows ROS time for one configured node. `renew(instant, epoch)`: see Dispatcher.renew_deadlines.

    Without use_sim_time, ROS time is the system clock. It is read once, at a goal's release, so that a step of the
    system clock moves no deadline.
    """

    def __init__(self, node, settings: dict, renew: Callable):
        self._node, self._renew = node, renew
        self.is_simulated = bool(node.get_parameter('use_sim_time').value)
        self.moves = self.is_simulated and settings['deadline_clock'] == 'ros'
        self.time = RosTime(settings['clock_timeout_s'])
        self._renewed_s = 0.0
        self._closed = threading.Event()
        self._listener = self._thread = None
        if self.is_simulated:
            self._listen()

    def _listen(self) -> None:
        """Subscribe to /clock on a node and a thread of its own.

        Simulators publish /clock at up to 1 kHz. Handing each message to the pool of threads would take the node's
        time, and a message that waits for a thread would shift the deadlines.
        """
        node = self._node
        self._listener = Node(
            f'{node.get_name()}_clock', namespace=node.get_namespace(), context=node.context, enable_rosout=False,
            use_global_arguments=False, start_parameter_services=False,
            parameter_overrides=[Parameter('start_type_description_service', value=False),
                                 *qos_overrides.of_topic(node, '/clock')])
        self._listener.create_subscription(
            Clock, node.resolve_topic_name('/clock'), self._on_clock,
            QoSProfile(depth=BACKLOG, reliability=ReliabilityPolicy.BEST_EFFORT),
            qos_overriding_options=qos_overrides.OPTIONS)
        self._thread = threading.Thread(target=self._spin, name='clock', daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        executor = SingleThreadedExecutor(context=self._node.context)
        executor.add_node(self._listener)
        while not self._closed.is_set():
            try:
                executor.spin_once(timeout_sec=0.2)
            except ExternalShutdownException:
                break
        executor.shutdown()

    def _on_clock(self, message: Clock) -> None:
        self.time.observe(message.clock.sec + message.clock.nanosec * 1e-9)
        now = time.monotonic()
        if self.moves and now >= self._renewed_s + RENEW_S and (mapping := self.time.mapping()):
            self._renewed_s = now
            # The mapping of now: ROS time may have jumped back by the time that the dispatcher uses it.
            self._renew(mapping.instant, mapping.epoch)

    @property
    def warning(self) -> str:
        """A sentence about what is wrong with ROS time; empty: nothing."""
        if not self.is_simulated:
            return ''
        return {'none': 'use_sim_time is on and no /clock message has come yet',
                'stopped': '/clock stands still; absolute deadlines go on at its last pace',
                'jumped': '/clock has jumped back; the goals held keep the deadlines that they had'}.get(
                    self.time.state, '')

    def left_s(self, ros_s: float) -> float | None:
        """Return the real seconds from now until ROS time is `ros_s`; None where there is no ROS time yet."""
        if not self.is_simulated:
            return ros_s - self._node.get_clock().now().nanoseconds * 1e-9
        return self.time.left_s(ros_s)

    def destroy(self) -> None:
        self._closed.set()
        if self._listener is not None:
            self._thread.join(2.0)
            self._listener.destroy_node()
            self._listener = None
