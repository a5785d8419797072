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
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress, TimeElapsedColumn

from timebill_ros.bench import skip_next
from timebill_ros.bench.answers import that_fit
from timebill_ros.bench.budget_rows import Held, Results, compare, rows_of, show
from timebill_ros.bench.known_lengths import KnownLengths
from timebill_ros.bench.live_answers import PLANNERS, LiveAnswer, LiveMethods, answer_live
from timebill_ros.bench.machine import describe, write
from timebill_ros.bench.skip_next import SEEDS
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
        self.live, self.journal, self.tasks, self.margin_s, self.options = live, journal, tasks, margin_s, options
        self.cases = cases
        self.model: CausalLM = live.loaded.engine.model
        self.methods = methods_of(self.model, cases.ratios)
        self.few = {method for method, (_, ratio) in self.methods.items() if ratio in cases.few_ratios}
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
                if method != 'vanilla' and method not in self.few and task.key not in live:
                    self._record(task, method, BESIDE)

    def _record(self, task: ScoredTask, method: str, when: int) -> None:
        key = (task.key, method, when)
        if key not in self.recorded:
            self._add('recorded', key, record(self.model, task, self.methods[method], **self.options))
            self.between()

    def _answer_live(self, task: ScoredTask) -> None:
        cases = [(strategy, quantile) for strategy in self.cases.strategies for quantile in self.cases.quantiles]
        random.Random(task.key).shuffle(cases)  # no budget always comes first, and each planner meets the same order
        for strategy, quantile in cases:
            for method in self.cases.live:
                key = (task.key, method, strategy.name, quantile)
                if key not in self.answered:
                    engine = self.live.engines[method]
                    if isinstance(engine.lengths, KnownLengths):
                        engine.lengths.tokens = len(self.recorded[task.key, 'vanilla', FIRST].ids)
                    self._add('live', key, answer_live(engine, task, budget_s=self.budget_s(quantile),
                                                       strategy=strategy, margin_s=self.margin_s))
                    self.between()
        self.live.save()

    def budget_s(self, quantile: float) -> float:
        """Return the budget at a quantile of the unhurried time."""
        return self.budgets_s[QUANTILES.index(quantile)]

    def results(self) -> Results:
        """Return what each method made of each task, by (method, strategy, quantile) and the task's key.

        Under SKIP_NEXT jobs arrive in several orders, and the key is of a place in an order (`places`).
        """
        found: Results = {}
        for strategy in self.cases.strategies:
            for quantile in self.cases.quantiles:
                budget_s = self.budget_s(quantile)
                for method in self.methods:
                    tasks = self.live_tasks if method in self.few else self.tasks
                    if tasks:
                        found[method, strategy.name, quantile] = {
                            task.key: self._held(task, method, budget_s - self.margin_s, strategy) for task in tasks}
                for method in self.cases.live if self.live_tasks else ():
                    found[method, strategy.name, quantile] = {
                        task.key: held_live(task, self.answered[task.key, method, strategy.name, quantile], budget_s)
                        for task in self.live_tasks}
        for case, held in found.items():
            if case[1] == Strategy.SKIP_NEXT.name:
                found[case] = self._in_turns(held, self.budget_s(case[2]))
        return found

    def _in_turns(self, held: dict[str, Held], period_s: float) -> dict[str, Held]:
        """Return what becomes of jobs that arrive one after the other, under SKIP_NEXT."""
        found = {}
        for seed in SEEDS:
            arriving = skip_next.order([task.key for task in self.live_tasks or self.tasks], seed)
            served = skip_next.served(arriving, {key: each.seconds for key, each in held.items()}, period_s)
            for key, is_served in zip(arriving, served, strict=True):
                found[place(key, seed)] = held[key] if is_served else Held(0.0, False)
        return found

    def families(self) -> dict[str, str]:
        """Return the family of every key in `results`."""
        return {name: task.family for task in self.tasks
                for name in (task.key, *(place(task.key, seed) for seed in SEEDS))}

    def _held(self, task: ScoredTask, method: str, seconds: float, strategy: Strategy) -> Held:
        answer = self.recorded.get((task.key, method, BESIDE)) or self.recorded[task.key, method, FIRST]
        ratio, takes_s = self.methods[method][1], answer.unhurried_s + self.margin_s
        if strategy is Strategy.SKIP_NEXT:
            whole = score_of_cut(self.model, task, answer, answer.unhurried_s, strategy)
            return Held(whole, True, late=answer.unhurried_s > seconds, seconds=takes_s, eviction_ratio=ratio)
        return Held(score_of_cut(self.model, task, answer, seconds, strategy), answer.cut(seconds) == len(answer.ids),
                    seconds=min(takes_s, seconds + self.margin_s), eviction_ratio=ratio)


def place(key: str, seed: int) -> str:
    """Return the name of a task's place in one order of arrival."""
    return f'{key} in order {seed}'


def held_live(task: ScoredTask, answer: LiveAnswer, budget_s: float) -> Held:
    """Return what a client holds of a live answer."""
    facts = {'late': answer.late_s > 0, 'promised': answer.promised, 'missed': answer.promised and not answer.natural,
             'seconds': budget_s + answer.late_s, 'eviction_ratio': answer.eviction_ratio}
    if answer.ended and not answer.natural:  # SKIP_NEXT
        return Held(task.score(answer.text), True, **facts)
    return Held(answer.score(task), answer.natural, **facts)


def measure(values: dict, answers: Path, *, source: TaskSource, n_live: int, cases: Cases = Cases()) -> dict:
    """Measure what is not measured yet, print, and return the rows and what belongs to them.

    `answers`: the journal of finished answers, which measurements of other cases on the same tasks may share. What the
    live methods have learned lies beside it.
    """
    if n_live < 0:
        raise ValueError(f'{n_live} tasks cannot be answered live')
    tasks = source.load()
    answers.parent.mkdir(parents=True, exist_ok=True)
    live = LiveMethods(values, answers.parent, answers.name.removesuffix('.answers.jsonl'), cases.live)
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
    with Journal(answers, facts) as journal, Progress(*Progress.get_default_columns(), TimeElapsedColumn()) as bar:
        answering = bar.add_task('answering', total=None)

        def between() -> None:
            bar.advance(answering)
            gc.collect()  # as the worker does between requests

        measurement = Measurement(live, journal, tasks, n_live, margin_s, options, between, cases)
        bar.update(answering, total=measurement.total, completed=measurement.done)
        measurement.run()
    results = measurement.results()
    budgets = {quantile: measurement.budget_s(quantile) for quantile in cases.quantiles}
    variants = {'quality': values['variants'], **{name: name for name in model.variants if name != model.variant}}
    rows = rows_of(results, measurement.families(), budgets, variants)
    comparison = compare(results) if measurement.live_tasks else {}
    show(rows, comparison)
    errors = Counter(answer.error for answer in measurement.answered.values() if answer.error)
    return {'machine': machine, 'tasks': source.name, 'n': len(tasks), 'n_live': len(measurement.live_tasks),
            'delivery_margin_s': margin_s, 'variants': values['variants'], 'errors': errors, 'rows': rows,
            **comparison}


def run(values: dict, out: Path, *, source: TaskSource, n_live: int, answers: Path | None = None) -> int:
    """Measure the cases of this bench, and write the rows to `out`. `answers`: see `measure`; None: beside `out`."""
    write(out, measure(values, answers or beside(out), source=source, n_live=n_live))
    return 0
