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

"""Conversations whose goals begin alike, as robots have them: for the bench of prompts that are reused.

Each of SCENARIOS is a generator of goals, which is sent the text that answered the latest one. Its arguments: how many
goals, a function that counts the tokens of messages, and the longest context.
"""
from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

Count = Callable[[list[dict[str, str]]], int]

COMMON, LOG, CHAT = 'A-B-A after a system prompt', 'a log that grows', 'a chat of ten turns'
ANSWER_TOKENS = 16
ROOMS = ('kitchen', 'office', 'corridor', 'workshop', 'store', 'hall')
THINGS = ('mug', 'ladder', 'toolbox', 'key', 'lamp', 'crate', 'trolley', 'cable')
PLACES = ('on the shelf', 'in the drawer', 'under the table', 'beside the door', 'on the hook', 'in the cabinet')
TOOLS = ('go_to(room)', 'pick_up(thing)', 'put_down(thing, place)', 'open(container)', 'say(text)', 'charge()')


@dataclass(frozen=True)
class Goal:
    """One goal of a conversation."""

    messages: list[dict[str, str]]
    max_new_tokens: int = ANSWER_TOKENS


def turn(role: str, content: str) -> dict[str, str]:
    """Return one message."""
    return {'role': role, 'content': content}


def line(i: int, draw: random.Random) -> str:
    """Return a line of a robot's log."""
    return (f'{8 + i // 60:02d}:{i % 60:02d} visited the {draw.choice(ROOMS)}, saw the {draw.choice(THINGS)} '
            f'{draw.choice(PLACES)} and the {draw.choice(THINGS)} {draw.choice(PLACES)}; battery {99 - i % 80} %.')


def system(tokens: int, count: Count, draw: random.Random) -> str:
    """Return a system prompt of about so many tokens: who the robot is, its tools and its map."""
    text = 'You are a service robot. Answer in one short sentence. Your tools: ' + ', '.join(TOOLS) + '.\nYour map:'
    while count([turn('system', text), turn('user', 'go')]) < tokens:
        text += f'\nThe {draw.choice(THINGS)} belongs {draw.choice(PLACES)} of the {draw.choice(ROOMS)}.'
    return text


def common_system(n_goals: int, count: Count, longest: int) -> Generator[Goal, str, None]:
    """Ask two questions in turn, A-B-A-B, after one system prompt of 1,000 tokens."""
    draw = random.Random(1)
    prompt = system(min(1000, longest // 2), count, draw)
    for i in range(n_goals):
        asked = f'Where does the {THINGS[i % 2]} belong?' if i % 4 < 2 else f'Bring the {THINGS[i % 2]} to the hall.'
        yield Goal([turn('system', prompt), turn('user', asked)])


def growing_log(n_goals: int, count: Count, longest: int) -> Generator[Goal, str, None]:
    """Ask for a summary of a log that grows from 1,000 tokens to 4,000, or to what the context holds."""
    draw = random.Random(2)
    log: list[str] = []

    def messages() -> list[dict[str, str]]:
        return [turn('system', 'You are a service robot. Answer in one short sentence.'),
                turn('user', 'Your log:\n' + '\n'.join(log) + '\nWhat did you see last?')]

    first, last = min(1000, longest // 4), min(4000, longest - 8 * ANSWER_TOKENS)
    while count(messages()) < first:
        log.append(line(len(log), draw))
    for i in range(n_goals):
        yield Goal(messages())
        wanted = first + (last - first) * (i + 1) / n_goals
        while True:  # one line, made of as many records as it takes
            log.append(line(len(log), draw))
            if count(messages()) >= wanted:
                break


def chat(n_goals: int, count: Count, longest: int) -> Generator[Goal, str, None]:
    """Talk for ten turns, after a system prompt of 500 tokens; the answers stay in the conversation."""
    draw = random.Random(3)
    messages = [turn('system', system(min(500, longest // 4), count, draw))]
    for i in range(min(n_goals, 10)):
        asked = f'Tell me about the {ROOMS[i % len(ROOMS)]} and the {draw.choice(THINGS)}.'
        messages = [*messages, turn('user', asked)]
        text = yield Goal(messages, 3 * ANSWER_TOKENS)
        messages = [*messages, turn('assistant', text)]


SCENARIOS: dict[str, Callable[[int, Count, int], Generator[Goal, str, None]]] = {
    COMMON: common_system, LOG: growing_log, CHAT: chat}


def mixed(n_goals: int, count: Count, *, n_robots: int = 3, tokens: int = 300, seed: int = 4) -> Iterator[Goal]:
    """Yield goals of several robots in random order, each with a system prompt and a log of its own.

    Some ask about the log, which grows; some ask without it; now and then a robot clears its log.
    """
    draw = random.Random(seed)
    prompts = [system(tokens, count, draw) for _ in range(n_robots)]
    logs: list[list[str]] = [[] for _ in prompts]
    for i in range(n_goals):
        robot = draw.randrange(n_robots)
        log, begun = logs[robot], turn('system', prompts[robot])
        asked = f'Where does the {draw.choice(THINGS)} belong, and what is in the {draw.choice(ROOMS)}?'
        if draw.random() < 0.7:
            log.append(line(i, draw))
            asked = 'Your log:\n' + '\n'.join(log) + '\n' + asked
        if len(log) > 8:
            log.clear()
        yield Goal([begun, turn('user', asked)], draw.choice((ANSWER_TOKENS // 2, ANSWER_TOKENS, 2 * ANSWER_TOKENS)))
