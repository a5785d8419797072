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

"""A planner that takes a typed plan: a dataclass becomes a schema, and the answer becomes the dataclass again.

    python3 typed_planner.py --ros-args -p budget_s:=2.0 -p server:=/timebill

Whenever the answer is cut, it is still a plan: a step that was not complete is dropped. So put what must be there
first, and give what may be missing a default. It needs a model whose tokenizer spells bytes (the embedded one does not;
`timebill get-model smollm2` does) and llguidance beside it.
"""
from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from dataclasses import dataclass
from typing import Literal

import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from timebill_ros.client import ServerUnavailable, TimebillClient

QUESTION = 'A mug stands on the shelf in the kitchen. Bring it to the desk in the office. Plan the steps of the robot.'
_KINDS = {str: 'string', int: 'integer', float: 'number', bool: 'boolean', type(None): 'null'}


@dataclass
class Step:
    """One step of a plan."""

    action: Literal['go', 'grasp', 'place', 'wait']
    target: str
    seconds: int | None = None


@dataclass
class Plan:
    """What the robot is to do. The steps come first: what was complete of them is there in any case."""

    steps: list[Step]
    why: str = ''


@dataclass
class Decision:
    """A plan, or why there is none. `is_whole`: the model has ended it by itself."""

    plan: Plan | None = None
    why_none: str = ''
    is_whole: bool = False


def schema_of(kind) -> dict:
    """Return the JSON Schema of a type: dataclass, list[...], Literal[...], a union, str, int, float, bool or None."""
    if dataclasses.is_dataclass(kind):
        hints, fields = typing.get_type_hints(kind), dataclasses.fields(kind)
        required = [f.name for f in fields
                    if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
        return {'type': 'object', 'properties': {f.name: schema_of(hints[f.name]) for f in fields},
                'required': required, 'additionalProperties': False}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return {'type': 'array', 'items': schema_of(arguments[0])}
    if origin is Literal:
        return {'enum': list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return {'anyOf': [schema_of(one) for one in arguments]}
    if kind in _KINDS:
        return {'type': _KINDS[kind]}
    raise TypeError(f'{kind!r} has no schema here: use dataclasses, list, Literal, unions, str, int, float, bool, None')


def value_of(kind, data):
    """Return what `data`, read from JSON that satisfies schema_of(kind), stands for."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: value_of(hints[name], value) for name, value in data.items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return [value_of(arguments[0], item) for item in data]
    if origin in (typing.Union, types.UnionType):
        inner = next((one for one in arguments if dataclasses.is_dataclass(one)), None)
        return value_of(inner, data) if inner is not None and isinstance(data, dict) else data
    return data


class TypedPlanner:
    """Asks for plans. `client`: a TimebillClient; the node is active already."""

    def __init__(self, client):
        self._client = client

    def decide(self, question: str, budget_s: float) -> Decision:
        """Return a plan, `budget_s` seconds from now at the latest."""
        try:
            goal = self._client.ask(question, budget_s, timeout_s=budget_s, response_schema=schema_of(Plan))
            answer = goal.answer()
        except ServerUnavailable as error:
            return Decision(why_none=str(error))
        if answer.result.error_code:
            return Decision(why_none=f'{answer.code}: {answer.result.error_msg}')
        is_whole = answer.result.generated_characters == len(answer.text)
        plan = value_of(Plan, json.loads(answer.text))
        if not plan.steps:
            return Decision(why_none='the model names no step' if is_whole else 'no step of it was complete in time')
        return Decision(plan, is_whole=is_whole)


def main() -> int:
    """Ask for one plan, and print it; return 1 where there is none."""
    rclpy.init()
    node = Node('typed_planner')
    # dynamic_typing: so budget_s:=2 is taken too.
    budget_s = node.declare_parameter('budget_s', 5.0, ParameterDescriptor(dynamic_typing=True)).value
    if not isinstance(budget_s, (int, float)):
        sys.exit(f'budget_s must be a number of seconds, got {budget_s!r}')
    server = node.declare_parameter('server', '/timebill').value
    with TimebillClient(node, server) as client:
        try:
            client.wait_until_active(timeout_s=5.0)
        except ServerUnavailable as error:
            node.get_logger().warning(str(error))
        decision = TypedPlanner(client).decide(QUESTION, budget_s)
    if decision.plan is None:
        print(f'no plan: {decision.why_none}')
    else:
        print('\n'.join(f'{i}. {step.action} {step.target}' for i, step in enumerate(decision.plan.steps, 1)))
        print('the whole plan' if decision.is_whole else 'as much of the plan as the time allowed')
    node.destroy_node()
    rclpy.try_shutdown()
    return 0 if decision.plan is not None else 1


if __name__ == '__main__':
    sys.exit(main())
