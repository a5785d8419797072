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

"""Starts and ends goals through rclpy's goal handles, and covers rclpy's races between a goal and its cancel."""
from __future__ import annotations

import time
from collections.abc import Callable

from action_msgs.msg import GoalStatus
from rclpy.action import ActionServer
from rclpy.action.server import RCLError

from timebill_ros.codes import ErrorCode
from timebill_ros.request import Outcome


def start_executing(server: ActionServer, handle, callback=None) -> None:
    """Have rclpy call the goal's execute callback, or `callback`, whatever handle.execute() meets on the way.

    It raises where a cancel comes between its check and its change of the goal's state. It also raises, with the state
    changed and nobody called, where DDS does not take the message that publishes the new state: on a busy machine, when
    a client that has just been killed no longer acknowledges.
    """
    try:
        handle.execute(callback)
    except RCLError:
        if handle.status not in (GoalStatus.STATUS_EXECUTING, GoalStatus.STATUS_CANCELING):
            raise
        server.notify_execute(handle, callback)


def conclude(server: ActionServer, handle, outcome: Outcome, *, by_client: bool = True) -> None:
    """Set the goal's terminal state. Its result goes out when the execute callback returns it.

    `by_client`: a goal with CANCELED was canceled by a client's request, and not by the node. ROS 2 knows no other way
    to the state CANCELED, so the node's own cancels end in ABORTED.
    """
    if outcome.error_code is ErrorCode.NONE:
        _set(server, handle, handle.succeed)
    elif outcome.error_code is ErrorCode.CANCELED and by_client:
        # The goal may get here before rclpy has moved it to CANCELING: rclpy does so after the cancel callback.
        until = time.monotonic() + 1.0
        while not handle.is_cancel_requested and time.monotonic() < until:
            time.sleep(0.001)
        _set(server, handle, handle.canceled if handle.is_cancel_requested else handle.abort)
    else:
        _set(server, handle, handle.abort)


def _set(server: ActionServer, handle, change: Callable[[], None]) -> None:
    """Change the goal's state to a terminal one, though the message that publishes it may not be taken."""
    try:
        change()
    except RCLError:
        if handle.is_active:
            raise
        server.notify_goal_done()  # what rclpy would have done next
