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

"""The goals that the clients of a load bench send: which prompts, when, and with which budgets.

A *kind* is a prompt with its `vanilla_s`, the seconds that the node takes for it when there is no hurry. Kinds and
goals are plain dictionaries, because clients get them as JSON; load_client.make_goal turns one into a message.
"""
from __future__ import annotations

import math
import random

from timebill_ros.bench.node_under_load import Node
from timebill_ros.client import duration
from timebill_ros.codes import ErrorCode, Strategy

CANCELED_SHARE, MALFORMED_SHARE, ABSOLUTE_SHARE = 0.10, 0.02, 0.05
STRATEGIES = [Strategy.TRUNCATE] * 11 + [Strategy.KILL] * 8 + [Strategy.SKIP_NEXT]
SHORTEST, LONGEST = 0.2, 3.0  # budgets, in vanilla times
# What a malformed goal replaces, and the code that it must end with.
MALFORMED = [
    ({'time_budget': 0.0}, ErrorCode.INVALID_GOAL), ({'time_budget': -1.0}, ErrorCode.INVALID_GOAL),
    ({'prompt': '', 'messages': []}, ErrorCode.INVALID_GOAL), ({'overrun_strategy': 9}, ErrorCode.INVALID_GOAL),
    ({'max_eviction_ratio': 'nan'}, ErrorCode.INVALID_GOAL), ({'max_eviction_ratio': 1.5}, ErrorCode.INVALID_GOAL),
    ({'sampling': {'temperature': 'nan'}}, ErrorCode.INVALID_GOAL), ({'sampling': {'top_p': 2.0}},
                                                                      ErrorCode.INVALID_GOAL),
    ({'sampling': {'stop': ['']}}, ErrorCode.INVALID_GOAL), ({'closing_text': 'x' * 2000}, ErrorCode.INVALID_GOAL),
    ({'messages': [{'role': 'wizard', 'content': 'x'}]}, ErrorCode.INVALID_GOAL),
    ({'messages': [], 'prompt': 1_000_001}, ErrorCode.PROMPT_TOO_LONG),
]


def site_log_kinds(n: int, seed: int, shortest: int = 600, longest: int = 1600) -> list[dict]:
    """Return `n` kinds: site-log tasks of `shortest` to `longest` prompt tokens for the embedded model."""
    from timebill_ros.tasks import site_log
    rng = random.Random(seed)
    tasks = [site_log.generate(rng.randrange(10 ** 6), split='test', n_tokens=rng.randint(shortest, longest),
                               family=rng.choice(['list', 'bring', 'route', 'report']),
                               n_asked=rng.randint(10, 24)) for _ in range(n)]
    return [{'messages': list(task.messages), 'max_new_tokens': 256, 'task': task} for task in tasks]


def without_tasks(kinds: list[dict]) -> list[dict]:
    """Return what clients are sent of the kinds: a task holds its reference answer, and is no JSON."""
    return [{key: kind[key] for key in kind if key != 'task'} for kind in kinds]


def measure_vanilla(node: Node, kinds: list[dict], repeats: int = 3) -> None:
    """Add 'vanilla_s' to each kind: seconds of the fastest unhurried response, as the client sees it."""
    from timebill_ros.bench.load_client import make_goal
    for number, kind in enumerate(kinds):
        goal = make_goal({'kind': number, 'strategy': int(Strategy.TRUNCATE), 'budget_s': 60.0}, kinds)
        goal.time_budget = duration(60.0)
        kind['vanilla_s'] = min(node.client.send(goal).answer(70.0).received_s for _ in range(repeats))


def schedule(kinds: list[dict], n: int, seconds: float, rng: random.Random) -> list[dict]:
    """Return `n` goals at random times over `seconds`, in their order.

    Budgets are log-uniform from SHORTEST to LONGEST vanilla times. Some goals are canceled, some are malformed.
    """
    goals = []
    for at_s in sorted(rng.uniform(0.0, seconds) for _ in range(n)):
        kind = rng.randrange(len(kinds))
        budget_s = kinds[kind]['vanilla_s'] * math.exp(rng.uniform(math.log(SHORTEST), math.log(LONGEST)))
        spec = {'at_s': at_s, 'kind': kind, 'budget_s': budget_s, 'strategy': int(rng.choice(STRATEGIES)),
                'priority': rng.choice([0, 0, 0, 1, 5]), 'absolute': rng.random() < ABSOLUTE_SHARE}
        if rng.random() < MALFORMED_SHARE:
            fields, code = rng.choice(MALFORMED)
            spec.update(fields=fields, expected=int(code), absolute=False)
        elif rng.random() < CANCELED_SHARE:
            spec['cancel_after_s'] = rng.uniform(0.0, 1.5) * min(budget_s, kinds[kind]['vanilla_s'])
        goals.append(spec)
    return goals
