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

"""What a comparison of budgets lacks, and the model that answers it. See budgets.py."""
from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from timebill_ros.bench.finished_answers import BESIDE, COMPARED, FIRST, QUANTILES, Cases, FinishedAnswers
from timebill_ros.bench.known_lengths import KnownLengths
from timebill_ros.bench.live_answers import LiveMethods, LiveRun, answer_live
from timebill_ros.bench.timed_answers import record
from timebill_ros.codes import Strategy
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.training.journal import Journal


class Measurement(FinishedAnswers):
    """What is finished, what is missing, and the model that does it. `between` is called after every answer."""

    def __init__(self, live: LiveMethods, journal: Journal, tasks: list[ScoredTask], n_live: int, margin_s: float,
                 options: dict, between: Callable[[], None], cases: Cases = COMPARED):
        super().__init__(live.loaded.engine.model, journal.entries, tasks, n_live, margin_s, cases)
        self.live, self.journal, self.options, self.between = live, journal, options, between

    def _add(self, kind: str, key: tuple, answer, **facts) -> None:
        self.journal.add({'kind': kind, 'key': list(key), 'answer': asdict(answer), **facts})
        self.take(self.journal.entries[-1])

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
            self.take(self.journal.entries[-1])
        for task in self.live_tasks:
            self._record(task, list(self.methods), BESIDE)
            self._answer_live(task)
        live = {task.key for task in self.live_tasks}
        for task in self.tasks:
            if task.key not in live:
                self._record(task, [method for method in every if not self.recorded_answer(task, method)], BESIDE)

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
