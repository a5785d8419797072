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

"""Whether a goal that two more urgent ones interrupt, and these, are on time with the texts of undisturbed runs.

The engine runs in this process, and another thread asks the running goal to give way, as the worker's reader does. The
short goals run inside of the pause. Where the machine is too slow for short goals of SHORT_S, all budgets are longer.
"""
from __future__ import annotations

import threading
from dataclasses import dataclass, field
from statistics import median

from timebill_ros.bench.prefix_goals import Goal, turn
from timebill_ros.bench.prefix_ways import repeats
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.control import Control
from timebill_ros.request import Outcome, Plan, Request

SHORT_S = 0.3
LONG = 10  # the long goal's budget, in budgets of short ones
AT = (0.2, 0.45)  # when short goals come, in budgets of the long one
USED = 0.55  # share of its budget that each goal takes alone, about
SHORT_TOKENS, TRIED_TOKENS, TRIES, UNHURRIED_S = 4, 24, 2, 600.0  # of the runs that say how long goals may be
STORY = [turn('user', 'Tell me a very long story about a robot that looks after a large old house.')]
QUESTION = [turn('user', 'Is it safe to go on? Answer yes or no.')]


@dataclass
class Run:
    """One goal that ran. `took_s`: from its release to its end."""

    outcome: Outcome
    budget_s: float
    took_s: float
    promised: bool

    @property
    def on_time(self) -> bool:
        """Whether it came to its natural end by its deadline."""
        return not self.outcome.error_code and self.outcome.finish_reason.is_natural and self.took_s <= self.budget_s


@dataclass
class Urgent:
    """Short goals that come while a long one runs, and are answered in its pauses."""

    engine: Engine
    goal: Goal
    budget_s: float
    runs: list[Run] = field(default_factory=list)
    ran_s: float = 0.0  # seconds that answering them took
    _released: list[float] = field(default_factory=list)

    def come(self, control: Control) -> None:
        """Release one now and have the running goal give way; for another thread."""
        self._released.append(self.engine.clock())
        control.pausing = True

    def answer(self) -> None:
        """Answer all that have come."""
        started = self.engine.clock()
        while len(self.runs) < len(self._released):
            self.runs.append(run(self.engine, self.goal, self.budget_s, released_s=self._released[len(self.runs)]))
        self.ran_s += self.engine.clock() - started


def run(engine: Engine, goal: Goal, budget_s: float, *, urgent: Urgent | None = None, at_s: tuple[float, ...] = (),
        released_s: float | None = None) -> Run:
    """Run a goal by its deadline; `urgent` ones come `at_s` seconds after its release and are answered in between."""
    released_s = engine.clock() if released_s is None else released_s
    request = Request('bench', released_s, released_s + budget_s, messages=goal.messages,
                      max_new_tokens=goal.max_new_tokens)
    control, plans = Control(Deadline(request.deadline_s, engine.clock)), []
    control.on_plan = lambda plan, timing: plans.append(plan)
    timers = [threading.Timer(seconds, urgent.come, [control]) for seconds in at_s]
    if urgent is not None:
        control.on_pause = urgent.answer
    for timer in timers:
        timer.start()
    outcome = engine.run(request, control)
    took_s = engine.clock() - released_s
    for timer in timers:
        timer.cancel()
        timer.join()
    return Run(outcome, budget_s, took_s, _promised(plans))


def _promised(plans: list[Plan]) -> bool:
    return bool(plans) and plans[0].verdict.is_promise


def goals_of(engine: Engine) -> tuple[Goal, float, Goal, float]:
    """Return (long goal, its budget, short goal, its budget), so that each takes about USED of its budget alone."""
    short, begun = Goal(QUESTION, SHORT_TOKENS), Goal(STORY, TRIED_TOKENS)
    short_s = max(SHORT_S, min(run(engine, short, UNHURRIED_S).took_s for _ in range(TRIES)) / USED)
    tried = min((run(engine, begun, UNHURRIED_S) for _ in range(TRIES)), key=lambda found: found.took_s)
    timing = tried.outcome.timing
    step_s = timing.decode_s / max(1, timing.generated_tokens - 1)
    tokens = tokens_within(USED * LONG * short_s - timing.prefill_s, step_s)
    room = engine.model.max_context - timing.prompt_tokens
    return Goal(STORY, min(tokens, room)), LONG * short_s, short, short_s


def tokens_within(seconds: float, step_s: float) -> int:
    """Return how many tokens come within so many seconds, at `step_s` each but for the first; 2 at least."""
    return max(2, 1 + int(seconds / step_s))


def measure(engine: Engine, *, rounds: int, seconds: float) -> dict:
    """Run the long goal alone and interrupted, up to `rounds` times in about so many seconds -> the row."""
    long, long_s, short, short_s = goals_of(engine)
    print(f'a goal of {long_s:.1f} s gives way to two of {short_s:.2f} s', flush=True)
    plain, broken, inside, overheads, same = [], [], [], [], 0
    for i in repeats(rounds + 1, seconds):
        engine.model.prefixes.clear()
        alone = [run(engine, goal, budget_s) for goal, budget_s in ((long, long_s), (short, short_s))]
        engine.model.prefixes.clear()
        urgent = Urgent(engine, short, short_s)
        found = run(engine, long, long_s, urgent=urgent, at_s=tuple(share * long_s for share in AT))
        if not i:
            continue  # the first round warms up
        plain.append(alone[0])
        broken.append(found)
        inside += urgent.runs
        overheads.append(found.outcome.timing.paused_s - urgent.ran_s)
        same += found.outcome.text == alone[0].outcome.text and all(
            each.outcome.text == alone[1].outcome.text for each in urgent.runs)
    model = engine.model
    model.prefixes.clear()
    n_kv = median(each.outcome.timing.prompt_tokens + each.outcome.timing.generated_tokens for each in broken)
    return {'rounds': len(broken), 'long_budget_s': long_s, 'short_budget_s': short_s,
            'long_tokens': long.max_new_tokens, 'short_tokens': short.max_new_tokens,
            'preemptions': sum(each.outcome.timing.preemptions for each in broken), 'wanted': len(AT) * len(broken),
            'long_on_time': sum(each.on_time for each in broken), 'short_on_time': sum(each.on_time for each in inside),
            'short_goals': len(inside), 'same_texts': same, 'promised': sum(each.promised for each in broken),
            'alone_s': median(each.took_s for each in plain), 'interrupted_s': median(each.took_s for each in broken),
            'paused_s': median(each.outcome.timing.paused_s for each in broken),
            'short_s': median(each.took_s for each in inside) if inside else None,
            'pause_estimated_s': engine.times.pause(int(n_kv)), 'overhead_s': median(overheads)}
