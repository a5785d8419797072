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

from collections.abc import Iterable, Mapping

from builtin_interfaces.msg import Duration

from timebill_ros.action import Generate
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

    `budget_s` None leaves the budget to the node. ValueError, with the value, for what no goal can carry.
    """
    if isinstance(messages, str):
        messages = [{'role': 'user', 'content': messages}]
    turns = []
    for index, message in enumerate(messages):
        try:
            turns += [message] if isinstance(message, ChatMessage) else chat(message)
        except (KeyError, TypeError):
            raise ValueError(f'messages[{index}] is no turn of a conversation: {message!r:.80}; give a dictionary with '
                             '"role" and "content"') from None
    known = Generate.Goal.get_fields_and_field_types()
    for name in fields:
        if name not in known:
            raise ValueError(f'a goal has no field {name}; its fields are {", ".join(known)}')
    goal = Generate.Goal(messages=turns, **fields)
    if budget_s is not None:
        goal.time_budget = duration(check_budget(budget_s))
    return goal


def check_budget(budget_s: float) -> float:
    """Return `budget_s`, in seconds. ValueError where no goal can carry it."""
    if not 0 < budget_s <= LONGEST_S:  # NaN compares false too
        raise ValueError(f'budget_s {budget_s} is no time budget: give seconds above 0, at most {LONGEST_S}')
    return budget_s


def check_text(goal: Generate.Goal) -> None:
    """Raise ValueError where a text of `goal` holds a NUL: the message layer would drop it and all that follows it."""
    texts = {'prompt': goal.prompt, 'closing_text': goal.closing_text}
    for index, message in enumerate(goal.messages):
        texts |= {f'messages[{index}].role': message.role, f'messages[{index}].content': message.content}
    texts |= {f'sampling.stop[{index}]': stop for index, stop in enumerate(goal.sampling.stop)}
    for name, text in texts.items():
        if '\0' in text:
            raise ValueError(f'{name} holds a NUL at character {text.index(chr(0))}; ROS messages end a text there')
