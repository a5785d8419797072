"""Follows /clock where use_sim_time is on, and moves absolute deadlines with it."""
from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from timebill_ros.ros_time import RosTime

RENEW_S = 0.05  # deadlines move at most so often
BACKLOG = 10  # /clock messages


class ClockFollower:
    """Of one configured node. `renew(instant, epoch)`: see Dispatcher.renew_deadlines.

    Without use_sim_time, ROS time is the system's, which is read at release and never again: its steps move no
    deadline.
    """

    def __init__(self, node, settings: dict, renew: Callable, callback_group):
        self._node, self._renew = node, renew
        self.is_simulated = bool(node.get_parameter('use_sim_time').value)
        self.moves = self.is_simulated and settings['deadline_clock'] == 'ros'
        self.time = RosTime(settings['clock_timeout_s'])
        self._renewed_s = 0.0
        self._subscription = node.create_subscription(
            Clock, '/clock', self._on_clock, QoSProfile(depth=BACKLOG, reliability=ReliabilityPolicy.BEST_EFFORT),
            callback_group=callback_group) if self.is_simulated else None

    def _on_clock(self, message: Clock) -> None:
        self.time.observe(message.clock.sec + message.clock.nanosec * 1e-9)
        now = time.monotonic()
        if self.moves and now >= self._renewed_s + RENEW_S and (mapping := self.time.mapping()):
            self._renewed_s = now
            # As it is now: by the time that the dispatcher looks at it, ROS time may have jumped back.
            self._renew(mapping.instant, mapping.epoch)

    @property
    def warning(self) -> str:
        """What is wrong with ROS time; empty: nothing."""
        if not self.is_simulated:
            return ''
        return {'none': 'use_sim_time is on and no /clock message has come yet',
                'stopped': '/clock stands still; absolute deadlines go on at its last pace',
                'jumped': '/clock has jumped back; the goals held keep the deadlines that they had'}.get(
                    self.time.state, '')

    def left_s(self, ros_s: float) -> float | None:
        """Real seconds from now until ROS time is `ros_s`; None where there is no ROS time yet."""
        if not self.is_simulated:
            return ros_s - self._node.get_clock().now().nanoseconds * 1e-9
        return self.time.left_s(ros_s)

    def destroy(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
