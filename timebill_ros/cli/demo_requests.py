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

"""What the demonstration asks a model that reads English: requests as a robot's planner or a visitor may send them.

All text is made here. Requests are such that a model of 135 million parameters answers most of them right when it has
time; the demonstration shows what deadlines do to answers, not what a small model knows.
"""
from __future__ import annotations

import random
from dataclasses import dataclass

from timebill_ros.codes import Strategy

PLACES = ('hall', 'kitchen', 'workshop', 'storage room', 'office', 'laboratory', 'corridor', 'loading dock')
THINGS = ('a red toolbox', 'a green crate', 'two cardboard boxes', 'a yellow cart', 'a broken chair', 'a water bottle',
          'a stack of pallets', 'a black cable', 'an empty shelf', 'a fire extinguisher', 'a blue barrel', 'a plant')
LOG_LINES = 22  # about 480 tokens: in twice as long a log the model did not find the line that was asked for


@dataclass(frozen=True)
class DemoRequest:
    """One request. `answers`: texts of which one must occur in a right answer; without any, every answer is open.

    `is_long`: it has a long prompt, and is asked at every budget. `strategy`: what happens at its deadline.
    """

    label: str
    content: str
    answers: tuple[str, ...] = ()
    is_long: bool = False
    strategy: Strategy = Strategy.TRUNCATE

    @property
    def question(self) -> str:
        """Return the last line, which asks."""
        return self.content.rpartition('\n')[2]


def observation_log(seed: int, found: str) -> str:
    """Return the log of a robot's morning, in which one line, `found`, is about something else than the others."""
    draw, second, lines = random.Random(seed), 8 * 3600, []
    for i in range(LOG_LINES):
        second += draw.randrange(20, 90)
        stamp = f'{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}'
        if i == LOG_LINES * 3 // 5:
            lines.append(f'{stamp} {found}')
        lines.append(f'{stamp} In the {draw.choice(PLACES)} the robot saw {draw.choice(THINGS)}.')
    return '\n'.join(lines)


def requests() -> list[DemoRequest]:
    """Return the requests: two over a long log, then short ones."""
    end = 'Answer in one short sentence.'
    charger = observation_log(1, 'The secret code for the charging station is 4718.')
    door = observation_log(2, 'The secret code for the front door is 2056.')
    return [
        DemoRequest('log: charger', f'{charger}\n\nWhat is the secret code for the charging station? {end}', ('4718',),
                    True),
        DemoRequest('log: door', f'{door}\n\nWhat is the secret code for the front door? {end}', ('2056',), True,
                    Strategy.KILL),
        DemoRequest('fact', 'What is the capital of France?', ('Paris',)),
        DemoRequest('person', 'Report: At 14:30 the robot brought three bottles of water from the kitchen to Mrs. '
                    'Lopez in room 12.\n\nWho got the water?', ('Lopez',)),
        DemoRequest('steps', 'List five steps to clean a kitchen, as a numbered list.'),
        DemoRequest('chat', 'Why should a robot stop when a person stands in its way?'),
    ]


def score(request: DemoRequest, unhurried: str, text: str) -> float:
    """Return how good a text is, from 0 to 1: right or wrong where answers are known, else the share that was kept.

    The share is that of the words of the unhurried answer with which the text begins.
    """
    if request.answers:
        return float(any(answer.lower() in text.lower() for answer in request.answers))
    return kept(unhurried, text)


def kept(unhurried: str, text: str) -> float:
    """Return the share of the words of `unhurried` that `text` begins with; 0 where there are none."""
    whole = unhurried.split()
    same = 0
    for ours, theirs in zip(text.split(), whole, strict=False):
        if ours != theirs:
            break
        same += 1
    return same / len(whole) if whole else 0.0
