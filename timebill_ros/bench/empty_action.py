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

"""An action server that does nothing, on the node's executor: it shows what ROS 2 itself takes under the same load."""
from __future__ import annotations

import signal
import sys
import threading
import time

import rclpy
from rclpy.action import ActionServer
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from timebill_ros.action import Generate
from timebill_ros.node import real_time
from timebill_ros.node.executor import PoolExecutor

NAME = '/empty/generate'


def _execute(handle) -> Generate.Result:
    handle.succeed()
    return Generate.Result()


def main() -> int:
    """Serve until SIGINT, SIGTERM or the end of standard input; the command line may name a real-time priority."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: ended.append(number))
    # When the bench ends, in whatever way, its end of this pipe closes.
    threading.Thread(target=lambda: ended.append(len(sys.stdin.read())), daemon=True).start()
    if refused := real_time.run_at(int(sys.argv[1]) if len(sys.argv) > 1 else 0):  # as the node beside it has
        print(refused, file=sys.stderr)
    node = Node('empty')
    deep = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
    ActionServer(node, Generate, NAME, execute_callback=_execute, callback_group=ReentrantCallbackGroup(),
                 goal_service_qos_profile=deep, result_service_qos_profile=deep, result_timeout=30)
    executor = PoolExecutor(4, node.get_logger())
    executor.add_node(node)
    while not ended:
        executor.spin_once(timeout_sec=0.2)
    executor.shutdown(timeout_sec=1.0)
    time.sleep(0.05)
    return 0


if __name__ == '__main__':
    sys.exit(main())
