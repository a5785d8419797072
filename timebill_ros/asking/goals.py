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
from collections.abc import Mapping
from numbers import Real

from builtin_interfaces.msg import Duration

from timebill_ros.action import Generate
from timebill_ros.asking.conversation import Messages, turns
from timebill_ros.asking.message_check import carried, check_fields

LONGEST_S = 2 ** 31 - 1  # the largest `sec` of a Duration


def duration(seconds: float) -> Duration:
    """Return seconds as builtin_interfaces Duration; `sec` is floored, so that nanosec is never negative."""
    nanoseconds = round(seconds * 1e9)
    return Duration(sec=nanoseconds // 10 ** 9, nanosec=nanoseconds % 10 ** 9)


def make_goal(messages: Messages, budget_s: float | None = None, **fields) -> Generate.Goal:
    """Return a goal for the model's chat template. `fields`: further fields of Generate.Goal by name.

    `budget_s` None leaves the budget to the node; `response_schema` may be a dictionary, and `tools` a list.
    ValueError, with the value, for what no goal can carry.
    """
    goal = Generate.Goal(messages=turns(messages))
    known = Generate.Goal.get_fields_and_field_types()
    for name, value in fields.items():
        if name not in known:
            raise ValueError(f'a goal has no field {name}; its fields are {", ".join(known)}')
        if name == 'response_schema' and isinstance(value, Mapping) or name == 'tools' and isinstance(value, list):
            value = json.dumps(value)
        setattr(goal, name, carried(known[name], value, name))
    if budget_s is not None:
        goal.time_budget = duration(check_budget(budget_s))
    return goal


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
