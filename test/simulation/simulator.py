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

"""Runs a CartWorld at a real-time factor, with the topics that a simulator's ROS bridge has.

/clock and cart/position come at RATE_HZ of real time; cart/speed is what the cart is told to do.
"""
from __future__ import annotations

import math
import threading
import time

import rclpy
from cart_world import TIMESTEP_S, WALL_M, CartWorld
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64

from timebill_ros.node import translation

RATE_HZ = 100.0
LONGEST_S = 0.2  # real time that is made up for at once; a machine that stood still for longer lost it


class Simulator:
    """A context manager; the simulation runs in a thread of its own.

    `closest_m`: the cart's least distance to the wall.
    """

    def __init__(self, world: CartWorld, factor: float, namespace: str):
        self._world, self._factor, self._paused = world, factor, False
        self._lock, self._closed = threading.Lock(), threading.Event()
        self.closest_m = math.inf
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node('simulator', namespace=namespace, context=self._context)
        self._clock = self._node.create_publisher(Clock, '/clock', QoSProfile(
            depth=10, reliability=ReliabilityPolicy.RELIABLE))
        self._position = self._node.create_publisher(Float64, 'cart/position', 10)
        self._node.create_subscription(Float64, 'cart/speed', self._on_speed, 10)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._threads = [threading.Thread(target=self._run, daemon=True),
                         threading.Thread(target=self._executor.spin, daemon=True)]

    def __enter__(self) -> Simulator:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._closed.set()
        self._executor.shutdown()
        for thread in self._threads:
            thread.join(5.0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _on_speed(self, message: Float64) -> None:
        with self._lock:
            self._world.drive(message.data)

    def _run(self) -> None:
        before, owed_s = time.monotonic(), 0.0
        while not self._closed.wait(1 / RATE_HZ):
            now = time.monotonic()
            with self._lock:
                if not self._paused:
                    owed_s += self._factor * min(now - before, LONGEST_S)
                    while owed_s >= TIMESTEP_S:
                        self._world.advance()
                        owed_s -= TIMESTEP_S
                    self.closest_m = min(self.closest_m, WALL_M - self._world.position_m)
                clock, position = self._world.time_s, self._world.position_m
            before = now
            self._clock.publish(Clock(clock=translation.stamp(clock)))
            self._position.publish(Float64(data=position))

    @property
    def time_s(self) -> float:
        with self._lock:
            return self._world.time_s

    def set_factor(self, factor: float) -> None:
        """Let `factor` simulated seconds pass in a real one from now on."""
        with self._lock:
            self._factor = factor

    def pause(self, paused: bool = True) -> None:
        """Stop simulated time, or let it go on. /clock is published all the same."""
        with self._lock:
            self._paused = paused

    def reset(self) -> None:
        """Begin again at time 0, with the cart at its start."""
        with self._lock:
            self._world.reset()
