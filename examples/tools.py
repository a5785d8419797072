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

"""A robot that the model drives with tools: it calls one, is told what that gave, and goes on until it answers.

    python3 tools.py --ros-args -p budget_s:=5.0 -p server:=/timebill

It needs a model whose chat template knows tools, such as Qwen 2.5 or 3, Llama 3, Hermes or Mistral. With llguidance
beside it, arguments satisfy the schemas below. A call that was not complete at the deadline is never among the calls.
"""
from __future__ import annotations

import json
import sys

import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from timebill_ros.client import ServerUnavailable, TimebillClient

QUESTION = 'Is the blue mug in the kitchen? Go there and look.'
PLACES = {'type': 'object', 'properties': {'place': {'enum': ['kitchen', 'office', 'hall']}}, 'required': ['place'],
          'additionalProperties': False}
TOOLS = [
    {'type': 'function', 'function': {'name': 'drive_to', 'description': 'Drive to a place.', 'parameters': PLACES}},
    {'type': 'function', 'function': {'name': 'look', 'description': 'Name the things that the robot sees here.'}}]
ROUNDS = 6  # answers of the model, at most


class NoAnswer(RuntimeError):
    """There is none; the sentence says why."""


class Robot:
    """Stands in for a real one. Its methods are the tools."""

    def __init__(self):
        self._place = 'hall'

    def drive_to(self, place: str) -> str:
        self._place = place
        return f'The robot is in the {place}.'

    def look(self) -> str:
        return 'A blue mug, a plate.' if self._place == 'kitchen' else 'Nothing.'


def conversation(client: TimebillClient, robot: Robot, question: str, budget_s: float) -> str:
    """Return the model's answer once it calls no tool any more; each of its turns has `budget_s` seconds.

    NoAnswer where a turn fails, or there are too many.
    """
    messages: list[dict] = [{'role': 'user', 'content': question}]
    for _ in range(ROUNDS):
        result = client.ask(messages, budget_s, tools=TOOLS).answer().result
        if result.error_code:
            raise NoAnswer(result.error_msg)
        if not result.tool_calls:
            return result.text
        messages.append({'role': 'assistant', 'content': result.text, 'tool_calls': result.tool_calls})
        for call in result.tool_calls:
            given = getattr(robot, call.name)(**json.loads(call.arguments))
            messages.append({'role': 'tool', 'content': given, 'tool_call_id': call.id})
    raise NoAnswer(f'the model still calls tools after {ROUNDS} rounds')


def main() -> int:
    """Ask once, and print the answer; return 1 where there is none."""
    rclpy.init()
    node = Node('tools')
    # dynamic_typing: so budget_s:=5 is taken too.
    budget_s = node.declare_parameter('budget_s', 5.0, ParameterDescriptor(dynamic_typing=True)).value
    server = node.declare_parameter('server', '/timebill').value
    try:
        if not isinstance(budget_s, (int, float)):
            raise NoAnswer(f'budget_s must be a number of seconds, got {budget_s!r}')
        with TimebillClient(node, server) as client:
            client.wait_until_active(timeout_s=5.0)
            print(conversation(client, Robot(), QUESTION, budget_s))
        return 0
    except (NoAnswer, ServerUnavailable, ValueError) as error:  # ValueError: a parameter that no goal can have
        print(f'no answer: {error}')
        return 1
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    sys.exit(main())
