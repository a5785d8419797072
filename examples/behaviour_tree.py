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

"""A behaviour tree of py_trees that asks the node, and does something else where no answer comes in time.

    python3 behaviour_tree.py --ros-args -p budget_s:=2.0 -p server:=/timebill

py_trees has to be installed: ros-$ROS_DISTRO-py-trees, or the extra `behaviours` of this package.
"""
from __future__ import annotations

import time

import py_trees
import rclpy
from py_trees.common import Access, Status
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from timebill_ros.behaviours import Ask
from timebill_ros.client import TimebillClient

QUESTION = 'log : visit kitchen mug @shelf1 left kitchen task : bring mug'  # what the embedded model understands
TICK_S = 0.05


class Stop(py_trees.behaviour.Behaviour):
    """The default action: it stands for whatever the robot does without an answer."""

    def update(self) -> Status:
        return Status.SUCCESS


def make_tree(client: TimebillClient | None = None, server: str = 'timebill') -> py_trees.trees.BehaviourTree:
    """Return "ask, or else stop"."""
    root = py_trees.composites.Selector('act', memory=True)
    root.add_children([Ask('ask', client, server=server), Stop('stop')])
    return py_trees.trees.BehaviourTree(root)


def main() -> None:
    """Tick the tree until it has an answer or has stopped."""
    rclpy.init()
    node = Node('behaviour_tree')
    # dynamic_typing: so budget_s:=2 is taken too.
    budget_s = node.declare_parameter('budget_s', 2.0, ParameterDescriptor(dynamic_typing=True)).value
    server = node.declare_parameter('server', '/timebill').value
    board = py_trees.blackboard.Client(name='main')
    for key, access in (('messages', Access.WRITE), ('budget_s', Access.WRITE), ('answer', Access.READ)):
        board.register_key(key, access=access)
    board.messages, board.budget_s = QUESTION, budget_s
    with TimebillClient(node, server) as client:
        client.wait_until_active(timeout_s=30.0)
        tree = make_tree(client)
        tree.setup(node=node)
        while tree.root.status not in (Status.SUCCESS, Status.FAILURE):
            tree.tick()
            time.sleep(TICK_S)
        ask = tree.root.children[0]
        print(board.answer if ask.status == Status.SUCCESS else f'stop ({ask.feedback_message})')
        tree.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == '__main__':
    main()
