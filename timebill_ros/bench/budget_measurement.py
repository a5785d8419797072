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

"""The answers that a comparison of budgets takes: what is finished, and what is missing. See budgets.py."""
from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from timebill_ros.bench.known_lengths import KnownLengths
from timebill_ros.bench.live_answers import PLANNERS, LiveAnswer, LiveMethods, LiveRun, answer_live
from timebill_ros.bench.timed_answers import TimedAnswer, methods_of, record
from timebill_ros.codes import Strategy
from timebill_ros.inference.model import CausalLM
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.tasks.text_tasks import balanced, in_turns
from timebill_ros.training.journal import Journal

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
STRATEGIES = (Strategy.TRUNCATE, Strategy.KILL)
FIRST, BESIDE = 0, 1  # when an answer was recorded: for the budgets, or beside the live runs


@dataclass(frozen=True)
class Cases:
    """What is measured: `live` methods are names of live_answers.METHODS.

    ratios:       fixed evictions, one method for each; those that are in `few_ratios` too answer the live tasks alone
    """

    ratios: tuple[float, ...] = (0.5, 0.95)
    few_ratios: tuple[float, ...] = ()
    live: tuple[str, ...] = PLANNERS
    strategies: tuple[Strategy, ...] = STRATEGIES
    quantiles: tuple[float, ...] = QUANTILES


class Measurement:
    """What is finished, what is missing, and the model that does it. `between` is called after every answer."""

    def __init__(self, live: LiveMethods, journal: Journal, tasks: list[ScoredTask], n_live: int, margin_s: float,
                 options: dict, between: Callable[[], None], cases: Cases = Cases()):
        self.live, self.journal, self.margin_s, self.options, self.cases = live, journal, margin_s, options, cases
        self.tasks = in_turns(tasks)
        self.model: CausalLM = live.loaded.engine.model
        self.methods = methods_of(self.model, cases.ratios)
        self.few = {method for method, (_, ratio) in self.methods.items() if ratio in cases.few_ratios}
        self.live_tasks = in_turns(balanced(tasks, n_live)) if n_live else []
        self.between = between
        self.recorded: dict[tuple[str, str, int], TimedAnswer] = {}
        self.answered: dict[tuple[str, str, str, float], LiveAnswer] = {}
        self.shared: set[tuple[str, str, str, float]] = set()  # of `answered`, those that were given in another case
        self.budgets_s: list[float] = []
        for entry in journal.entries:
            self._take(entry)

    def _take(self, entry: dict) -> None:
        kind, key = entry['kind'], entry.get('key')
        if kind == 'budgets':
            self.budgets_s = entry['budgets_s']
        elif kind == 'recorded':
            self.recorded[tuple(key)] = TimedAnswer(**entry['answer'])
        else:
            self.answered[tuple(key)] = LiveAnswer(**entry['answer'])
            if 'of' in entry:
                self.shared.add(tuple(key))

    def _add(self, kind: str, key: tuple, answer, **facts) -> None:
        self.journal.add({'kind': kind, 'key': list(key), 'answer': asdict(answer), **facts})
        self._take(self.journal.entries[-1])

    @property
    def total(self) -> int:
        """How many answers the whole measurement takes."""
        return len(self.tasks) * (len(self.methods) - len(self.few)) + len(self.live_tasks) * (
            1 + len(self.few) + len(self.cases.live) * len(self.cases.strategies) * len(self.cases.quantiles))

    @property
    def done(self) -> int:
        """How many of them are there; the journal may hold others too."""
        wanted = {*self.cases.live}
        strategies = {strategy.name for strategy in self.cases.strategies}
        return sum(method in self.methods for _, method, _ in self.recorded) + sum(
            method in wanted and strategy in strategies and quantile in self.cases.quantiles
            for _, method, strategy, quantile in self.answered)

    def run(self) -> None:
        """Do what is missing: what the budgets are made of, then live tasks with all methods, then the other tasks."""
        every = [method for method in self.methods if method not in self.few]
        for task in self.live_tasks or self.tasks:
            self._record(task, ['vanilla'] if self.live_tasks else every, FIRST)
        if not self.budgets_s:
            unhurried = [self.recorded[task.key, 'vanilla', FIRST].unhurried_s
                         for task in self.live_tasks or self.tasks]
            # The margin is for delivery, which the unhurried time does not hold.
            budgets_s = [round(float(q) + self.margin_s, 4) for q in np.quantile(unhurried, QUANTILES)]
            self.journal.add({'kind': 'budgets', 'budgets_s': budgets_s})
            self._take(self.journal.entries[-1])
        for task in self.live_tasks:
            self._record(task, list(self.methods), BESIDE)
            self._answer_live(task)
        live = {task.key for task in self.live_tasks}
        for task in self.tasks:
            if task.key not in live:
                self._record(task, [method for method in every if not self.recorded_answer(task, method)], BESIDE)

    def recorded_answer(self, task: ScoredTask, method: str) -> TimedAnswer | None:
        """Return a task's answer by a method that does not depend on the budget; None: there is none yet."""
        return self.recorded.get((task.key, method, BESIDE)) or self.recorded.get((task.key, method, FIRST))

    def _record(self, task: ScoredTask, methods: Sequence[str], when: int) -> None:
        missing = {method: self.methods[method] for method in methods if (task.key, method, when) not in self.recorded}
        if missing:
            for method, answer in record(self.model, task, missing, **self.options).items():
                self._add('recorded', (task.key, method, when), answer)
                self.between()

    def _answer_live(self, task: ScoredTask) -> None:
        quantiles = list(self.cases.quantiles)
        random.Random(task.key).shuffle(quantiles)  # no budget always comes first; each planner meets the same order
        runs: dict[str, list[tuple[float, LiveRun]]] = defaultdict(list)
        for quantile in quantiles:
            for strategy in self.cases.strategies:
                for method in self.cases.live:
                    key = (task.key, method, strategy.name, quantile)
                    if key not in self.answered:
                        self._add_live(task, key, strategy, runs[method])
                        self.between()
        self.live.save()

    def _add_live(self, task: ScoredTask, key: tuple[str, str, str, float], strategy: Strategy,
                  runs: list[tuple[float, LiveRun]]) -> None:
        """Add the answer of one case: that of one of `runs` where it must be the same, or else a new one."""
        _, method, _, quantile = key
        budget_s = self.budget_s(quantile)
        for of, run in runs:
            if (answer := run.under(strategy, budget_s)) is not None:
                self._add('live', key, answer, of=[run.request.strategy.name, of])
                return
        engine = self.live.engines[method]
        if isinstance(engine.lengths, KnownLengths):
            engine.lengths.tokens = len(self.recorded[task.key, 'vanilla', FIRST].ids)
        run = answer_live(engine, task, budget_s=budget_s, strategy=strategy, margin_s=self.margin_s)
        runs.append((quantile, run))
        self._add('live', key, run.answer)

    @property
    def live_cases(self) -> list[tuple[str, str, float]]:
        """What every live task is answered in: (method, strategy, quantile)."""
        return [(method, strategy.name, quantile) for method in self.cases.live for strategy in self.cases.strategies
                for quantile in self.cases.quantiles]

    def finished_tasks(self) -> list[ScoredTask]:
        """Return the tasks that every method has answered which answers all of them."""
        return [task for task in self.tasks if all(self.recorded_answer(task, method) for method in self.methods
                                                   if method not in self.few)]

    def finished_live_tasks(self) -> list[ScoredTask]:
        """Return the live tasks that every method has answered, in every case."""
        cases = self.live_cases
        return [task for task in self.live_tasks if all(self.recorded_answer(task, method) for method in self.methods)
                and all((task.key, *case) in self.answered for case in cases)]

    def budget_s(self, quantile: float) -> float:
        """Return the budget at a quantile of the unhurried time."""
        return self.budgets_s[QUANTILES.index(quantile)]
