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

"""Goals as messages, made of what Python programs hold, and checked before they are sent."""
from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from numbers import Real

from builtin_interfaces.msg import Duration

from timebill_ros.action import Generate
from timebill_ros.asking.message_check import carried, check_fields
from timebill_ros.msg import ChatMessage

LONGEST_S = 2 ** 31 - 1  # the largest `sec` of a Duration

# A conversation: the text of the user, or turns with a role and a content, the oldest first.
Messages = str | Iterable[Mapping[str, str] | ChatMessage]


def duration(seconds: float) -> Duration:
    """Return seconds as builtin_interfaces Duration; `sec` is floored, so that nanosec is never negative."""
    nanoseconds = round(seconds * 1e9)
    return Duration(sec=nanoseconds // 10 ** 9, nanosec=nanoseconds % 10 ** 9)


def chat(*messages: Mapping[str, str]) -> list[ChatMessage]:
    """Return dictionaries with a role and a content as the messages of a goal."""
    return [ChatMessage(role=message['role'], content=message['content']) for message in messages]


def make_goal(messages: Messages, budget_s: float | None = None, **fields) -> Generate.Goal:
    """Return a goal for the model's chat template. `fields`: further fields of Generate.Goal by name.

    `budget_s` None leaves the budget to the node; `response_schema` may be a dictionary. ValueError, with the value,
    for what no goal can carry.
    """
    goal = Generate.Goal(messages=_turns(messages))
    known = Generate.Goal.get_fields_and_field_types()
    for name, value in fields.items():
        if name not in known:
            raise ValueError(f'a goal has no field {name}; its fields are {", ".join(known)}')
        if name == 'response_schema' and isinstance(value, Mapping):
            value = json.dumps(value)
        setattr(goal, name, carried(known[name], value, name))
    if budget_s is not None:
        goal.time_budget = duration(check_budget(budget_s))
    return goal


def _turns(messages: Messages) -> list[ChatMessage]:
    if isinstance(messages, str):
        messages = [{'role': 'user', 'content': messages}]
    if isinstance(messages, (bytes, Mapping)) or not isinstance(messages, Iterable):
        raise ValueError(f'{messages!r:.80} is no question: give text, or a list of dictionaries with "role" and '
                         '"content"')
    turns = []
    for index, message in enumerate(messages):
        try:
            role, content = (message.role, message.content) if isinstance(message, ChatMessage) else \
                (message['role'], message['content'])
        except (KeyError, TypeError):
            raise ValueError(f'messages[{index}] is no turn of a conversation: {message!r:.80}; give a dictionary with '
                             '"role" and "content"') from None
        turns.append(ChatMessage(role=carried('string', role, f'messages[{index}].role'),
                                 content=carried('string', content, f'messages[{index}].content')))
    return turns


def check_budget(budget_s: float) -> float:
    """Return `budget_s`, in seconds. ValueError where no goal can carry it."""
    # NaN compares false too.
    if not (isinstance(budget_s, Real) and budget_s <= LONGEST_S and round(float(max(budget_s, 0)) * 1e9) > 0):
        raise ValueError(f'budget_s {budget_s!r} is no time budget: give seconds above 0, at most {LONGEST_S}; a '
                         'nanosecond is the least that a message carries')
    return float(budget_s)


def check_goal(goal: Generate.Goal) -> None:
    """Raise ValueError, with the field and its value, unless `goal` can be sent and arrives as it is."""
    if not isinstance(goal, Generate.Goal):
        raise ValueError(f'{goal!r:.80} is no Generate.Goal: make one with make_goal')
    check_fields(goal)
