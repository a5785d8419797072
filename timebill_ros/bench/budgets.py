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

"""`timebill bench budgets`: what a client holds at its deadline, by method, for budgets from hopeless to generous.

The budgets are quantiles of the time that the unhurried answers take, the same for all tasks. The methods:

    vanilla           plain generation, cut at the deadline
    fixed_50, _95     so many percent of every prompt's cache are evicted
    int8, ...         other weights alone, one method for each of `variants`
    quality, paper    the node's engine with this planner, live

The first three do not depend on the budget: each answers a task once, with the time of every token, and every budget
cuts that. The last two run live, each goal on the machine's clock, on `live_limit` tasks. Since a machine's pace
changes, the others answer these tasks once more beside the live runs. A client has what came up to the delivery margin
before its deadline, whatever the method. Every finished answer is a line in a file beside the result, from which a run
that was stopped goes on.
"""
from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.progress import Progress

from timebill_ros.bench.answers import that_fit
from timebill_ros.bench.budget_rows import Held, Results, compare, rows_of, show
from timebill_ros.bench.live_answers import PLANNERS, LiveAnswer, LiveMethods, answer_live
from timebill_ros.bench.machine import describe, write
from timebill_ros.bench.timed_answers import TimedAnswer, methods_of, record, score_of_cut
from timebill_ros.codes import Strategy
from timebill_ros.inference.model import CausalLM
from timebill_ros.resources import key_of, quality_table_path
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.tasks.task_source import TaskSource
from timebill_ros.tasks.text_tasks import balanced
from timebill_ros.training.journal import Journal, beside

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
STRATEGIES = (Strategy.TRUNCATE, Strategy.KILL)
FIRST, BESIDE = 0, 1  # when an answer was recorded: for the budgets, or beside the live runs

# What live answers depend on besides the model; others cannot be mixed with them.
PLANNING = ('promise_quality', 'min_kept_tokens', 'miss_rate', 'pessimistic_length', 'pessimistic_factor',
            'replan_tokens', 'drop_infeasible', 'max_eviction_ratio', 'length_predictor')


class Measurement:
    """What is finished, what is missing, and the model that does it. `between` is called after every answer."""

    def __init__(self, live: LiveMethods, journal: Journal, tasks: list[ScoredTask], n_live: int, margin_s: float,
                 options: dict, between: Callable[[], None]):
        self.live, self.journal, self.tasks, self.margin_s, self.options = live, journal, tasks, margin_s, options
        self.model: CausalLM = live.loaded.engine.model
        self.methods = methods_of(self.model)
        self.live_tasks = balanced(tasks, n_live) if n_live else []
        self.between = between
        self.recorded: dict[tuple[str, str, int], TimedAnswer] = {}
        self.answered: dict[tuple[str, str, str, float], LiveAnswer] = {}
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

    def _add(self, kind: str, key: tuple, answer) -> None:
        self.journal.add({'kind': kind, 'key': list(key), 'answer': asdict(answer)})
        self._take(self.journal.entries[-1])

    @property
    def total(self) -> int:
        """How many answers the whole measurement takes."""
        return len(self.tasks) * len(self.methods) + len(self.live_tasks) * (
            1 + len(PLANNERS) * len(STRATEGIES) * len(QUANTILES))

    @property
    def done(self) -> int:
        return len(self.recorded) + len(self.answered)

    def run(self) -> None:
        """Do what is missing: the budgets first, then live tasks with all methods, then the other tasks."""
        for task in self.tasks:
            self._record(task, 'vanilla', FIRST)
        if not self.budgets_s:
            unhurried = [self.recorded[task.key, 'vanilla', FIRST].unhurried_s for task in self.tasks]
            # The margin is for delivery, which the unhurried time does not hold.
            budgets_s = [round(float(q) + self.margin_s, 4) for q in np.quantile(unhurried, QUANTILES)]
            self.journal.add({'kind': 'budgets', 'budgets_s': budgets_s})
            self._take(self.journal.entries[-1])
        for task in self.live_tasks:
            for method in self.methods:
                self._record(task, method, BESIDE)
            self._answer_live(task)
        live = {task.key for task in self.live_tasks}
        for task in self.tasks:
            for method in self.methods:
                if method != 'vanilla' and task.key not in live:
                    self._record(task, method, BESIDE)

    def _record(self, task: ScoredTask, method: str, when: int) -> None:
        key = (task.key, method, when)
        if key not in self.recorded:
            self._add('recorded', key, record(self.model, task, self.methods[method], **self.options))
            self.between()

    def _answer_live(self, task: ScoredTask) -> None:
        cases = [(strategy, i) for strategy in STRATEGIES for i in range(len(QUANTILES))]
        random.Random(task.key).shuffle(cases)  # no budget always comes first, and each planner meets the same order
        for strategy, i in cases:
            for planner in PLANNERS:
                key = (task.key, planner, strategy.name, QUANTILES[i])
                if key not in self.answered:
                    self._add('live', key, answer_live(self.live.engines[planner], task, budget_s=self.budgets_s[i],
                                                       strategy=strategy, margin_s=self.margin_s))
                    self.between()
        self.live.save()

    def results(self) -> Results:
        """Return what each method made of each task, by (method, strategy, quantile) and the task's key."""
        found: Results = {}
        for strategy in STRATEGIES:
            for quantile, budget_s in zip(QUANTILES, self.budgets_s, strict=True):
                for method in self.methods:
                    found[method, strategy.name, quantile] = {
                        task.key: self._held(task, method, budget_s - self.margin_s, strategy) for task in self.tasks}
                for planner in PLANNERS if self.live_tasks else ():
                    found[planner, strategy.name, quantile] = {
                        task.key: held_live(task, self.answered[task.key, planner, strategy.name, quantile])
                        for task in self.live_tasks}
        return found

    def _held(self, task: ScoredTask, method: str, seconds: float, strategy: Strategy) -> Held:
        answer = self.recorded.get((task.key, method, BESIDE)) or self.recorded[task.key, method, FIRST]
        return Held(score_of_cut(self.model, task, answer, seconds, strategy), answer.cut(seconds) == len(answer.ids))


def held_live(task: ScoredTask, answer: LiveAnswer) -> Held:
    """Return what a client holds of a live answer."""
    return Held(answer.score(task), answer.natural, late=answer.late_s > 0, promised=answer.promised,
                missed=answer.promised and not answer.natural)


def run(values: dict, out: Path, *, source: TaskSource, n_live: int) -> int:
    """Measure what is not measured yet, print, and write the rows to `out`."""
    if n_live < 0:
        raise ValueError(f'{n_live} tasks cannot be answered live')
    tasks = source.load()
    out.parent.mkdir(parents=True, exist_ok=True)
    live = LiveMethods(values, out.parent, out.stem)
    engine, margin_s = live.loaded.engine, values['delivery_margin_s']
    print(live.loaded.description)
    model, tasks = engine.model, that_fit(engine.model, tasks)
    options = {'chunk_tokens': engine.prefill_chunk_tokens, 'max_eviction_ratio': values['max_eviction_ratio']}
    machine, table = describe(model), Path(values['quality_table'] or quality_table_path()).read_text()
    facts = {'model': model.fingerprint, 'precision': model.variant, 'variants': values['variants'],
             'device': machine['device'], 'tasks': key_of(task.key for task in tasks), 'delivery_margin_s': margin_s,
             'quality_table': key_of([table]), **{name: values[name] for name in PLANNING}, **options}
    gc.collect()
    gc.freeze()  # as in the worker: later collections need not walk what stays
    with Journal(beside(out), facts) as journal, Progress() as bar:
        answering = bar.add_task('answering', total=None)

        def between() -> None:
            bar.advance(answering)
            gc.collect()  # as the worker does between requests

        measurement = Measurement(live, journal, tasks, n_live, margin_s, options, between)
        bar.update(answering, total=measurement.total, completed=measurement.done)
        measurement.run()
    results = measurement.results()
    budgets = dict(zip(QUANTILES, measurement.budgets_s, strict=True))
    variants = {'quality': values['variants'], **{name: name for name in model.variants if name != model.variant}}
    rows = rows_of(results, {task.key: task.family for task in tasks}, budgets, variants)
    comparison = compare(results) if measurement.live_tasks else {}
    show(rows, comparison)
    errors = Counter(answer.error for answer in measurement.answered.values() if answer.error)
    write(out, {'machine': machine, 'tasks': source.name, 'n': len(tasks), 'n_live': len(measurement.live_tasks),
                'delivery_margin_s': margin_s, 'variants': values['variants'], 'errors': errors, 'rows': rows,
                **comparison})
    return 0
