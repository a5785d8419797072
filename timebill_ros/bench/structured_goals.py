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

"""The goals of `timebill bench structured`: five kinds of schema, prompts for each, and budgets drawn at random."""
from __future__ import annotations

import json
import random
from dataclasses import dataclass

SHARES = (0.05, 1.5)  # budgets, as shares of the time that the prompt's answer takes without hurry
TEMPERATURE = 0.8  # of every second goal of a schema; the others are greedy
ROOMS = ['kitchen', 'hall', 'office', 'workshop', 'charging station']


def _object(required: list[str], **members: dict) -> dict:
    return {'type': 'object', 'properties': members, 'required': required, 'additionalProperties': False}


_TEXT, _NUMBER = {'type': 'string', 'maxLength': 60}, {'type': 'number'}
_LONG = {'type': 'string'}
_PART = _object(['label'], label={'type': 'string', 'maxLength': 40},
                parts={'type': 'array', 'items': {'$ref': '#/$defs/part'}})
SCHEMAS: dict[str, dict] = {
    'flat': _object(['name'], name=_TEXT, place=_TEXT, weight=_NUMBER,
                    count={'type': 'integer', 'minimum': 0, 'maximum': 999}, fragile={'type': 'boolean'}, note=_LONG),
    'nested': _object(['target'], target=_object(
        ['name', 'pose'], name=_TEXT, pose=_object(['x', 'y'], x=_NUMBER, y=_NUMBER, frame=_TEXT)),
        limits=_object(['speed'], speed=_NUMBER, seconds={'type': 'integer', 'minimum': 0, 'maximum': 3600}),
        comment={'type': ['string', 'null']}),
    'arrays': _object(['steps'], steps={'type': 'array', 'minItems': 1, 'items': _object(
        ['do'], do=_TEXT, at=_TEXT, seconds={'type': 'integer', 'minimum': 0, 'maximum': 3600})},
        tools={'type': 'array', 'items': _TEXT, 'maxItems': 8}),
    'enums': _object(['action', 'place'], action={'enum': ['drive', 'grasp', 'place', 'wait', 'ask']},
                     place={'enum': ROOMS}, mode={'const': 'careful'},
                     then={'type': 'array', 'maxItems': 6, 'items': _object(
                         ['action'], action={'enum': ['drive', 'grasp', 'place', 'wait', 'ask']},
                         place={'enum': [*ROOMS, None]})}),
    'recursive': {'$defs': {'part': _PART}, **_PART},
}
PROMPTS: dict[str, tuple[str, ...]] = {
    'flat': ('Describe the blue coffee cup that stands on the table in the kitchen.',
             'Describe a box of 24 screws that lies in the workshop, and say how to carry it.',
             'Describe the sleeping cat, "Müller", that a robot must not wake.',
             'Describe the fire extinguisher in the hall.'),
    'nested': ('Drive to the door of the office at 3.5 m, -1.2 m in the frame "map", slowly.',
               'Where is the charging station? It stands at the wall, at x = 0.25 and y = 7.75.',
               'Take the parcel to the desk of Ms. Sørensen, 12 meters ahead, within a minute.',
               'Follow me to the elevator, but no faster than I walk.'),
    'arrays': ('Plan how to bring a glass of water from the kitchen to the office.',
               'Plan how to clean the floor of the hall and empty the bin.',
               'Plan a tour of the building for three visitors.',
               'Plan how to find a lost key, and what is needed for it.'),
    'enums': ('Somebody asks for the red mug. Where does the robot go, what does it do, and what then?',
              'The battery is nearly empty. What does the robot do?',
              'A visitor has arrived in the hall and waits. What does the robot do next?',
              'Bring the drill from the workshop to the office, and come back.'),
    'recursive': ('Take a bicycle apart: name its parts, and the parts of these.',
                  'Divide the task "set the table for four" into smaller and smaller tasks.',
                  'Name the rooms of a house, and the things in each.',
                  'Name the parts of a mobile robot with an arm, and the parts of these.'),
}


@dataclass(frozen=True)
class Goal:
    """One goal. `prompt`: which of the schema's prompts; `share`: of the time without hurry, its time budget."""

    number: int
    schema: str
    prompt: int
    share: float
    temperature: float = 0.0

    @property
    def key(self) -> str:
        """The prompt's name, which all goals with the same prompt share."""
        return f'{self.schema} {self.prompt}'

    @property
    def schema_text(self) -> str:
        return json.dumps(SCHEMAS[self.schema])

    @property
    def messages(self) -> list[dict]:
        """The conversation; it shows the schema, as planners do."""
        asked = f'{PROMPTS[self.schema][self.prompt]}\nAnswer with JSON that satisfies this schema:\n{self.schema_text}'
        return [{'role': 'user', 'content': asked}]


def goal(number: int) -> Goal:
    """Return the goal of this number, the same in every run; the schemas take turns."""
    draw, schemas = random.Random(f'structured {number}'), list(SCHEMAS)
    name, turn = schemas[number % len(schemas)], number // len(schemas)
    return Goal(number, name, draw.randrange(len(PROMPTS[name])), draw.uniform(*SHARES), TEMPERATURE * (turn % 2))


def unhurried(goals: list[Goal]) -> list[Goal]:
    """Return a greedy goal for each prompt that `goals` have; its share means nothing."""
    found = {one.key: Goal(-1, one.schema, one.prompt, 0.0) for one in goals}
    return [found[key] for key in sorted(found)]
