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

"""`timebill bench load --prefixes`: thousands of goals of mixed prefixes, one engine, and a store too small for them.

No node and no client: what is looked at is the memory of the process, the invariants of cache and store, and answers.
Logs grow, are cut, are gone on with in another way and begin anew, so that prompts share any beginning with any other.
Some goals are canceled while their prompts are read, some give way to the next one, and most have so little time that
they evict or are cut. In between, goals without haste are answered from nothing too, and the texts are compared.
"""
from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from timebill_ros.bench import machine
from timebill_ros.bench.load_analysis import slope
from timebill_ros.bench.prefix_ways import without_store
from timebill_ros.bench.process_state import resources
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.control import Control
from timebill_ros.request import Outcome, Request, Sampling
from timebill_ros.tasks import site_log
from timebill_ros.worker.loading import load_engine

STORE_MIB = 8  # about 2,000 tokens of the embedded model: two prompts
LONGEST_WORDS, N_LOGS = 1200, 6
ANSWER_TOKENS = 24
CANCELED, GIVING_WAY, SAMPLED = 0.08, 0.08, 0.2  # shares of the goals
BUDGETS_S = (0.01, 0.2)  # of goals with little time
UNHURRIED_S = 600.0
CHECK_EVERY, SAMPLES = 10, 400


def prompts(seed: int) -> Iterator[list[dict[str, str]]]:
    """Yield messages for ever: logs of the site-log tasks that grow, are cut and go on in another way."""
    draw = random.Random(seed)
    tasks = [site_log.generate(seed + i, split='test', n_tokens=draw.randint(200, 900), family='list', n_asked=6)
             for i in range(2 * N_LOGS)]
    texts = [task.messages[0]['content'].partition('\ntask') for task in tasks]
    written, asked = [text.split() for text, _, _ in texts], [f'\ntask{rest}' for _, _, rest in texts]
    logs = [list(log) for log in written[:N_LOGS]]
    while True:
        i, other = draw.randrange(N_LOGS), draw.choice(written)
        log, at, kind = logs[i], draw.randrange(len(other)), draw.random()
        if kind < 0.1 or len(log) > LONGEST_WORDS:
            log = list(draw.choice(written))
        elif kind < 0.3:
            log = log[:draw.randrange(1, len(log) + 1)]
        if kind < 0.8:  # otherwise another question is asked about the same
            log = log + other[at:at + draw.randrange(1, 120)]
        logs[i] = log[:LONGEST_WORDS]
        yield [{'role': 'user', 'content': ' '.join(logs[i]) + draw.choice(asked)}]


class Disturbed(Control):
    """A goal that is canceled or gives way when prefill looks for the n-th time."""

    def __init__(self, deadline: Deadline, *, cancel_at: int = 0, pause_at: int = 0):
        super().__init__(deadline)
        self._cancel_at, self._pause_at = cancel_at, pause_at

    def should_stop(self) -> bool:
        self.canceled |= self.looks + 1 == self._cancel_at
        self.pausing |= self.looks + 1 == self._pause_at
        return super().should_stop()


@dataclass
class Load:
    """The goals of one run, and what has become of them. `compared`: how many are to be."""

    engine: Engine
    n_goals: int
    compared: int
    seed: int = 0
    started: int = 0
    endings: Counter = field(default_factory=Counter)
    tokens: int = 0
    reused: int = 0
    preemptions: int = 0
    same: int = 0
    different: list[str] = field(default_factory=list)  # the prompts' ends

    def __post_init__(self):
        self._draw, self._prompts = random.Random(self.seed + 1), prompts(self.seed)
        self._due = set(self._draw.sample(range(self.n_goals), min(self.compared, self.n_goals)))

    def next_goal(self) -> None:
        """Run the next goal, and inside of it others where it gives way."""
        number, draw = self.started, self._draw
        self.started += 1
        sampling = Sampling(temperature=1.0, seed=1 + number) if draw.random() < SAMPLED else Sampling()
        request = Request(f'goal {number}', 0.0, UNHURRIED_S, messages=next(self._prompts),
                          max_new_tokens=draw.randint(1, ANSWER_TOKENS), sampling=sampling)
        if number in self._due:
            self._compare(request)
            return
        kind, at = draw.random(), draw.randrange(1, 20)
        budget_s = draw.uniform(*BUDGETS_S)
        if kind < CANCELED:
            self._note(self._run(request, UNHURRIED_S, cancel_at=at))
        elif kind < CANCELED + GIVING_WAY:
            self._note(self._run(request, UNHURRIED_S, pause_at=at))
        else:
            self._note(self._run(request, budget_s))

    def _run(self, request: Request, budget_s: float, **disturbed) -> Outcome:
        now = self.engine.clock()
        request = replace(request, release_s=now, deadline_s=now + budget_s)
        control = Disturbed(Deadline(request.deadline_s, self.engine.clock), **disturbed)
        control.on_pause = lambda: self.next_goal() if self.started < self.n_goals else None
        return self.engine.run(request, control)

    def _compare(self, request: Request) -> None:
        outcome = self._run(request, UNHURRIED_S)
        with without_store(self.engine.model, tiles=True):
            nothing = self._run(request, UNHURRIED_S)
        self._note(outcome)
        if (outcome.text, outcome.error_code) == (nothing.text, nothing.error_code):
            self.same += 1
        else:
            self.different.append(request.messages[0]['content'][-200:])

    def _note(self, outcome: Outcome) -> None:
        timing = outcome.timing
        self.endings[outcome.finish_reason.name if not outcome.error_code else outcome.error_code.name] += 1
        self.tokens += timing.prompt_tokens
        self.reused += timing.reused_tokens
        self.preemptions += timing.preemptions


def measure(engine: Engine, *, n_goals: int, compared: int, seed: int) -> dict:
    """Run the goals -> the result. ValueError from a check names the invariant that was broken."""
    load, model, rows, checks = Load(engine, n_goals, compared, seed), engine.model, [], 0
    started, pid = time.monotonic(), os.getpid()
    every = max(1, n_goals // SAMPLES)
    while load.started < n_goals:
        load.next_goal()
        if load.started // CHECK_EVERY > checks:
            model.check()
            checks = load.started // CHECK_EVERY
        if load.started // every > len(rows):
            rows.append((time.monotonic() - started, resources(pid)[0]))
        if load.started % max(1, n_goals // 10) == 0:
            print(f'{load.started} of {n_goals} goals, {load.same} of them as from nothing, {rows[-1][1]:.0f} MB',
                  flush=True)
    model.check()
    warm = rows[len(rows) // 4:]
    early, late = (np.median([mb for _, mb in part]) for part in (warm[:len(warm) // 3], warm[-len(warm) // 3:]))
    return {'goals': n_goals, 'endings': dict(sorted(load.endings.items())), 'same': load.same,
            'compared': load.same + len(load.different), 'different': load.different[:10], 'checks': checks + 1,
            'reused_share': load.reused / load.tokens, 'preemptions': load.preemptions,
            'store_tokens': model.prefixes.n_blocks * model.prefixes.unit, 'seconds': time.monotonic() - started,
            'memory_mb': slope(*zip(*warm, strict=True)), 'grown_mb': float(late - early)}


def run(values: dict, out: Path, *, n_goals: int, compared: int, seed: int) -> int:
    """Measure, print and write; 1 where an answer was not that of a prompt read from nothing. `values`: parameters."""
    engine = load_engine({**values, 'prefix_cache_mib': STORE_MIB, 'keep_state': False}).engine
    if engine.model.prefixes is None:
        print(f'{engine.model.name} reads every prompt from its beginning, of which its log says why')
        return 1
    found = measure(engine, n_goals=n_goals, compared=compared, seed=seed)
    print(f'{found["goals"]} goals, {found["reused_share"]:.0%} of whose tokens were reused from a store of '
          f'{found["store_tokens"]}: {found["same"]} of {found["compared"]} as from nothing, {found["checks"]} checks, '
          f'{found["preemptions"]} pauses, {found["grown_mb"]:+.1f} MB')
    machine.write(out, {**machine.describe(engine.model), **found})
    return 0 if found['same'] == found['compared'] else 1
