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

"""The bond by which Nav2's lifecycle manager sees that this process lives, with bondpy where that is installed.

Manager and node send each other heartbeats on one topic while the node is active. Where the node's stop, the manager
takes the node for lost and brings its other nodes down. A bond says that the process runs, no more: the inference
process is watched by the node itself.
"""
from __future__ import annotations

import importlib

from rclpy.duration import Duration
from rclpy.exceptions import NameValidationException
from rclpy.expand_topic_name import expand_topic_name
from rclpy.validate_full_topic_name import validate_full_topic_name

HEARTBEAT_S = 0.25  # as Nav2's own servers of Lyrical; managers wait for seconds
# A manager that falls silent is no reason for the node to end its side, as it is none for Nav2's own servers.
NEVER_S = 1e6
LAST_WORDS_S = 0.2  # how long the manager is told of the end, unless it answers before: a few messages
THREAD_ENDS_S = 2.0


class Bond:
    """One bond after the other: `start` at activate, `stop` at deactivate. An empty `topic`: none.

    The identity in the bond is the name of `node`, as managers expect it. A missing bondpy is told once, as a warning;
    then there is no bond. ValueError for a topic that ROS cannot have.
    """

    def __init__(self, node, topic: str):
        self._node, self._topic = node, topic
        self._bond = None
        if topic:
            try:
                validate_full_topic_name(expand_topic_name(topic, node.get_name(), node.get_namespace()))
            except (ValueError, NameValidationException) as error:
                raise ValueError(f'parameter bond_topic must be the name of a topic, got {topic!r}: {error}') from error
        self._make = self._find() if topic else None

    def _find(self):
        """Return bondpy's class, or None and a sentence in the log."""
        try:
            return importlib.import_module('bondpy.bondpy').Bond
        except Exception as error:  # missing, or another package of that name
            self._node.get_logger().warning(
                f'bond_topic is {self._topic!r}, but no bond can be made: {type(error).__name__}: {error}. Install the '
                'ROS 2 package bondpy for the Python of the node, or leave bond_topic empty and set bond_timeout of '
                'the lifecycle manager to 0.0')
            return None

    def start(self) -> None:
        """Send heartbeats from now on."""
        if self._make is None or self._bond is not None:
            return
        is_formed = False

        def formed() -> None:
            nonlocal is_formed
            is_formed = True
            self._node.get_logger().info(f'a lifecycle manager has formed the bond on {self._topic!r}')

        def broken() -> None:
            if self._bond is not bond:
                return  # by this node
            self._node.get_logger().warning(
                f'the lifecycle manager has ended the bond on {self._topic!r}' if is_formed else
                f'no lifecycle manager has formed a bond on {self._topic!r}: is its bond_timeout above 0, and does it '
                f'use this topic for a node called {self._node.get_name()!r}?')

        bond = self._make(self._node, self._topic, self._node.get_name(), on_broken=broken, on_formed=formed)
        bond.heartbeat_period, bond.heartbeat_timeout = HEARTBEAT_S, NEVER_S
        self._bond = bond
        bond.start()

    def stop(self) -> None:
        """End the bond, if there is one, and tell the manager so. No thread of it uses ROS any more after this."""
        bond, self._bond = self._bond, None
        if bond is None:
            return
        bond.break_bond()
        bond.wait_until_broken(Duration(seconds=LAST_WORDS_S))  # shutdown alone loses what was published just before
        # bondpy destroys subscription and publisher, but leaves them in the lists of the node: an executor that finds
        # them there fails at every round.
        self._node.destroy_subscription(bond.sub)
        bond.shutdown()
        self._node.destroy_publisher(bond.pub)
        bond.thread.join(THREAD_ENDS_S)
        bond.disconnect_timer.cancel()  # nobody waits for the manager's answer any more
