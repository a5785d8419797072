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

"""Isaac Sim, or its stand-in, in a process of its own: started, told what to do, and watched on its topics."""
from __future__ import annotations

import importlib.util
import math
import os
import pwd
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import rclpy
from cart_world import WALL_M
from node_client import wait_until
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64

HERE = Path(__file__).resolve().parent
START_S = 900.0  # Isaac Sim compiles its shaders at the first start
QUIET_S = 0.3  # on /clock: what was on its way has come


def isaac_python() -> str:
    """Return Isaac Sim's Python: what TIMEBILL_ISAAC_PYTHON names, or this one if it has isaacsim; empty: neither."""
    return os.environ.get('TIMEBILL_ISAAC_PYTHON', '') or \
        (sys.executable if importlib.util.find_spec('isaacsim') else '')


def isaac_environment() -> dict[str, str]:
    """Return the variables of the real one: the user's home with its caches, and nothing of ROS 2 as wheels.

    conftest.py sets the home of a test run to an empty folder. ROS 2 that is sourced is passed on.
    """
    env = {**os.environ, 'HOME': pwd.getpwuid(os.getuid()).pw_dir}
    env.pop('XDG_CACHE_HOME', None)
    if env.pop('_ROS_WHEELS_BOOTSTRAP_COMPLETE', None) is not None and 'TIMEBILL_ISAAC_PYTHON' in env:
        env.pop('LD_LIBRARY_PATH', None)
    return env


def fake_environment(**changed: str) -> dict[str, str]:
    """Return the variables with which this Python takes the stand-in for Isaac Sim."""
    return {**os.environ, 'PYTHONPATH': str(HERE / 'fake'), **changed}


class IsaacProcess:
    """A context manager; inside, the program is ready and plays nothing yet. See scenario.CartSimulator for the rest.

    `clock`: the seconds that came on /clock, in their order. `positions`: those of the cart, in metres.
    """

    def __init__(self, python: str, environment: dict[str, str], namespace: str, factor: float = 1.0):
        self.clock: list[float] = []
        self.positions: list[float] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._output: list[str] = []
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node('watcher', namespace=namespace, context=self._context)
        self._node.create_subscription(Clock, '/clock', lambda message: self.clock.append(
            message.clock.sec + message.clock.nanosec * 1e-9), QoSProfile(
                depth=1000, reliability=ReliabilityPolicy.RELIABLE))
        self._node.create_subscription(
            Float64, 'cart/position', lambda message: self.positions.append(message.data), 1000)
        self._speed = self._node.create_publisher(Float64, 'cart/speed', 10)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._spinner = threading.Thread(target=self._executor.spin, daemon=True)
        self._process = subprocess.Popen(
            [python, str(HERE / 'cart_in_isaac.py'), '--namespace', namespace, '--factor', str(factor)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace',
            env=environment, start_new_session=True)
        self._reader = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        for line in self._process.stdout:
            self._output.append(line)
            if line.startswith('cart: '):
                self._lines.put(line.removeprefix('cart: ').strip())
        self._lines.put('ended')

    @property
    def log(self) -> str:
        return ''.join(self._output)

    def __enter__(self) -> IsaacProcess:
        self._spinner.start()
        self._reader.start()
        try:
            self._expect('ready', START_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()  # the end of its commands is the end of the program
        try:
            self._process.wait(60.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5.0)
        self._process.stdout.close()
        self._executor.shutdown()
        self._spinner.join(5.0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _expect(self, line: str, timeout_s: float = 60.0) -> None:
        try:
            found = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            found = f'nothing for {timeout_s} s'
        assert found == line, f'{found} instead of {line}:\n{self.log}'

    def tell(self, *words: str) -> None:
        """Give a command and wait until it is done."""
        command = ' '.join(words)
        self._process.stdin.write(f'{command}\n')
        self._process.stdin.flush()
        self._expect(command)

    def drive(self, speed_m_s: float) -> None:
        """Tell the cart its speed, as a planner does."""
        wait_until(self._speed.get_subscription_count)
        self._speed.publish(Float64(data=speed_m_s))

    def play(self) -> None:
        self.tell('play')
        wait_until(lambda: self.clock, message='nothing on /clock')

    # -- as scenario.CartSimulator says ----------------------------------------------------------------------------

    @property
    def closest_m(self) -> float:
        return WALL_M - max(self.positions, default=-math.inf)

    @property
    def time_s(self) -> float:
        return self.clock[-1]

    def set_factor(self, factor: float) -> None:
        self.tell('factor', str(factor))

    def pause(self, paused: bool = True) -> None:
        self.tell('pause' if paused else 'play')
        while paused:
            n = len(self.clock)
            time.sleep(QUIET_S)
            if len(self.clock) == n:
                return

    def reset(self) -> None:
        self.tell('reset')
