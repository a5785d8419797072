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

"""The cart in Isaac Sim, for Isaac Sim's own Python: `~/isaacsim/python.sh test/isaac_sim/cart_in_isaac.py`.

/clock comes from the ROS 2 bridge, at every frame that is played and never before `play`. The topics of the cart,
cart/position and cart/speed, are those of test/simulation/simulator.py; here rclpy as the bridge brings it serves them.
Neither this package nor the tests' libraries are needed in Isaac Sim's Python.

Commands come line by line: play, pause, reset, factor NUMBER (simulated seconds in a real one), quit. Each is answered
by a line "cart: COMMAND" once it is done; "cart: ready" comes first. The program ends when its input does.
"""
from __future__ import annotations

import argparse
import queue
import sys
import threading
import time
from pathlib import Path

from isaac_api import STEP_S, BridgeError, Isaac

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'simulation'))  # it imports nothing that Isaac Sim lacks
from cart_world import WALL_M  # noqa: E402

LONGEST_S = 0.2  # real time that is made up for at once; what stood still for longer is lost


def read_commands() -> queue.SimpleQueue:
    """Return the queue of commands; the end of the input is a quit."""
    commands: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            if words := line.split():
                commands.put(words)
        commands.put(['quit'])

    threading.Thread(target=read, daemon=True).start()
    return commands


def say(what: str) -> None:
    print(f'\ncart: {what}', flush=True)  # on a line of its own, among Kit's


class Topics:
    """cart/position and cart/speed of a namespace."""

    def __init__(self, namespace: str):
        import rclpy  # it is there once the bridge is
        from rclpy.signals import SignalHandlerOptions
        from std_msgs.msg import Float64
        self._rclpy, self._float = rclpy, Float64
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node('isaac_sim', namespace=namespace)
        self._position = self._node.create_publisher(Float64, 'cart/position', 10)
        self._node.create_subscription(Float64, 'cart/speed', self._on_speed, 10)
        self.speed_m_s = 0.0

    def _on_speed(self, message) -> None:
        self.speed_m_s = message.data

    def exchange(self, position_m: float) -> None:
        """Take the newest command and tell the position."""
        self._rclpy.spin_once(self._node, timeout_sec=0.0)
        self._position.publish(self._float(data=position_m))

    def close(self) -> None:
        self._node.destroy_node()
        self._rclpy.shutdown()


def run(isaac: Isaac, topics: Topics, commands: queue.SimpleQueue, factor: float) -> None:
    """Simulate at the pace `factor`, as far as Isaac Sim is quick enough, until a quit."""
    def reset() -> None:
        isaac.stop()
        topics.speed_m_s = 0.0
        isaac.play()

    operations = {'play': isaac.play, 'pause': isaac.pause, 'reset': reset}
    next_s = time.monotonic()
    while isaac.is_running():
        while not commands.empty():
            name, *values = words = commands.get()
            if name == 'quit':
                return
            if name == 'factor':
                factor = float(values[0])
            else:
                operations[name]()
            say(' '.join(words))
        if isaac.is_playing():
            isaac.drive(topics.speed_m_s)
            isaac.update()
            topics.exchange(isaac.position_m())
        else:
            isaac.update()
        next_s = max(next_s + STEP_S / factor, time.monotonic() - LONGEST_S)
        time.sleep(max(0.0, next_s - time.monotonic()))


def main() -> int:
    """Run until a quit; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--namespace', default='/', help='of the cart\'s topics')
    parser.add_argument('--factor', type=float, default=1.0, help='simulated seconds in a real one')
    arguments, _ = parser.parse_known_args()  # Kit has arguments of its own
    try:
        isaac = Isaac()
    except BridgeError as error:
        say(f'failed: {error}')
        return 1
    isaac.build(WALL_M)
    isaac.publish_clock()
    topics = Topics(arguments.namespace)
    isaac.update()
    say('ready')
    try:
        run(isaac, topics, read_commands(), arguments.factor)
    finally:
        topics.close()
        isaac.close()
    return 0


if __name__ == '__main__':
    sys.exit(main())
