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

"""The node as a program: signals, an autostart, and the end; the node itself is in server_node.py."""
from __future__ import annotations

import os
import signal
import sys
import threading
import time

import rclpy
from rclpy._rclpy_pybind11 import UnknownROSArgsError  # no public name
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from timebill_ros.node import command_line
from timebill_ros.node.executor import PoolExecutor
from timebill_ros.node.server_node import TimebillNode

# Callbacks that run at once, each in a thread that is made when it is needed. A goal that has begun has one until its
# end, which publishes its text: the running one, up to eight that have given way, and any that a server still answers.
# Others take requests meanwhile; without one that is free the node would hear nothing.
CALLBACKS = 48
CALLBACKS_END_S = 2.0  # how long the end of the program waits for callbacks, and for each of its threads
FAILED = 0  # beside the numbers of signals: the program ends because its autostart failed


def run(args: list[str] | None) -> int:
    """Run the node until SIGINT, SIGTERM or an autostart that fails; return the exit code.

    The signal handlers are ours: rclpy's would invalidate the context at once, and no open goal would get its result.
    `args` are for rclpy; None: those of this process.
    """
    signals: list[int] = []  # not an Event: setting one in a handler can deadlock with the wait that it interrupts
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: signals.append(number))
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except UnknownROSArgsError as error:
        print(f'timebill_node: ROS 2 does not know {error} among the arguments after --ros-args; see --help',
              file=sys.stderr)
        return 2
    except RuntimeError as error:  # from rcl, for arguments or files that it cannot read
        print(f'timebill: {error}', file=sys.stderr)
        return 1
    try:
        node = TimebillNode()
    except (InvalidParameterTypeException, InvalidParameterValueException, RuntimeError) as error:
        # RuntimeError: from rcl, where the node may not be made, for instance because a security policy lacks it.
        print(f'timebill: {error}', file=sys.stderr)
        rclpy.shutdown()
        return 1
    executor = PoolExecutor(CALLBACKS, node.get_logger())
    executor.add_node(node)
    threads = [threading.Thread(target=executor.spin_to_the_end, name='executor', daemon=True)]
    if node.get_parameter('autostart').value:
        threads.append(threading.Thread(target=_autostart, args=(node, signals), name='autostart', daemon=True))
    else:
        node.get_logger().info(command_line.waits_for(node.get_fully_qualified_name()))
    for thread in threads:
        thread.start()
    while not signals:
        time.sleep(0.1)  # short, because the kernel may deliver the signal to a thread that does not wake this one
    code = 1 if signals[0] == FAILED else 0
    node.get_logger().info('stopping')
    node.stop()
    is_idle = executor.shutdown(timeout_sec=CALLBACKS_END_S)
    for thread in threads:
        thread.join(CALLBACKS_END_S)
    if not is_idle or any(thread.is_alive() for thread in threads):
        # A thread that is in rclpy while the interpreter ends would abort the process. Every goal has its result.
        print('timebill: a callback does not end; leaving without it', file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    node.destroy_node()
    rclpy.shutdown()
    return code


def _autostart(node: TimebillNode, signals: list[int]) -> None:
    """Configure and activate. Where that fails, say so and end the program, unless a signal is ending it already."""
    try:
        if node.trigger_configure() == TransitionCallbackReturn.SUCCESS and \
                node.trigger_activate() == TransitionCallbackReturn.SUCCESS:
            node.get_logger().info(command_line.serves(node.get_fully_qualified_name()))
            return
    except Exception as error:  # for instance from rcl, where somebody else changes the state meanwhile
        if not signals:
            node.get_logger().error(f'autostart: {error}')
    if not signals:
        node.get_logger().error(command_line.autostart_failed(node.get_fully_qualified_name()))
    signals.append(FAILED)
