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

"""A simulator's /clock, published from a thread of the test process, with a pace, pauses and jumps."""
from __future__ import annotations

import threading
import time

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from timebill_ros.node import translation

RATE_HZ = 50.0
START_S = 1000.0


class SimClock:
    """Publishes while the context is open. Its methods may be called at any time."""

    def __init__(self, factor: float = 1.0):
        self._factor = factor
        self._ros_s, self._at_s = START_S, time.monotonic()
        self._paused = self._silent = False
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node('simulator', context=self._context)
        self._publisher = self._node.create_publisher(
            Clock, '/clock', QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> SimClock:
        with self._lock:
            self._advance()
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._closed.set()
        self._thread.join(5.0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _run(self) -> None:
        next_s = time.monotonic()
        while not self._closed.wait(max(0.0, next_s - time.monotonic())):
            next_s = max(next_s + 1 / RATE_HZ, time.monotonic())
            with self._lock:
                self._advance()
                if not self._silent:
                    self._publisher.publish(Clock(clock=translation.stamp(self._ros_s)))

    def _advance(self) -> None:
        now = time.monotonic()
        if not self._paused:
            self._ros_s += self._factor * (now - self._at_s)
        self._at_s = now

    def now_s(self) -> float:
        """Return the simulated time."""
        with self._lock:
            self._advance()
            return self._ros_s

    def set_factor(self, factor: float) -> None:
        """Let `factor` simulated seconds pass per real second from now on."""
        with self._lock:
            self._advance()
            self._factor = factor

    def pause(self, *, messages: bool) -> None:
        """Stop simulated time; `messages`: whether /clock goes on and says so."""
        with self._lock:
            self._advance()
            self._paused, self._silent = True, not messages

    def resume(self) -> None:
        with self._lock:
            self._advance()
            self._paused = self._silent = False

    def jump(self, to_s: float) -> None:
        with self._lock:
            self._advance()
            self._ros_s = to_s

    def wait_for_subscriber(self, timeout_s: float = 30.0) -> None:
        end = time.monotonic() + timeout_s
        while not self._publisher.get_subscription_count():
            assert time.monotonic() < end, 'nobody listens to /clock'
            time.sleep(0.01)
