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
cuts that. They go on from one reading of the prompt (timed_answers.py). The last two run live, each goal on the
machine's clock, on `live_limit` tasks. A live answer stands for another budget or strategy too where every decision
would have been the same (LiveRun.under); rows say how many such answers they hold (`shared`).

The live tasks come first, in turns of the families: plain answers, of which the budgets are made, then every task with
all methods, the recorded ones beside the live ones, since a machine's pace changes. So a journal that is not finished
holds whole tasks, of which results can be made (`finished_only`). A client has what came up to the delivery margin
before its deadline, whatever the method. Every finished answer is a line in a file beside the result, from which a run
that was stopped goes on.
"""
from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path

from rich.progress import Progress, TimeElapsedColumn

from timebill_ros.bench.answers import that_fit
from timebill_ros.bench.budget_measurement import Cases, Measurement
from timebill_ros.bench.budget_results import families_of, how, results_of
from timebill_ros.bench.budget_rows import compare, rows_of, show
from timebill_ros.bench.live_answers import LiveMethods
from timebill_ros.bench.machine import describe, write
from timebill_ros.resources import key_of, quality_table_path
from timebill_ros.tasks.task_source import TaskSource
from timebill_ros.training.journal import Journal, beside

# What live answers depend on besides the model; others cannot be mixed with them.
PLANNING = ('promise_quality', 'min_kept_tokens', 'miss_rate', 'pessimistic_length', 'pessimistic_factor',
            'replan_tokens', 'drop_infeasible', 'max_eviction_ratio', 'length_predictor')
COMPARED = Cases()


def measure(values: dict, answers: Path, *, source: TaskSource, n_live: int, cases: Cases = COMPARED,
            finished_only: bool = False) -> dict:
    """Measure what is not measured yet, print, and return the rows and what belongs to them.

    `answers`: the journal of finished answers, which measurements of other cases on the same tasks may share. What the
    live methods have learned lies beside it. `finished_only`: measure nothing, and leave the journal as it is.
    """
    if n_live < 0:
        raise ValueError(f'{n_live} tasks cannot be answered live')
    tasks = source.load()
    if not finished_only:
        answers.parent.mkdir(parents=True, exist_ok=True)
    live = LiveMethods(values, answers.parent, answers.name.removesuffix('.answers.jsonl'), cases.live)
    engine, margin_s = live.loaded.engine, values['delivery_margin_s']
    print(live.loaded.description)
    model, tasks = engine.model, that_fit(engine.model, tasks)
    options = {'chunk_tokens': engine.prefill_chunk_tokens, 'max_eviction_ratio': values['max_eviction_ratio']}
    machine, table = describe(model), Path(values['quality_table'] or quality_table_path()).read_text()
    facts = {'model': model.fingerprint, 'precision': model.variant, 'variants': values['variants'],
             'device': machine['device'], 'prompts': 'read once', 'tasks': key_of(task.key for task in tasks),
             'delivery_margin_s': margin_s, 'quality_table': key_of([table]),
             **{name: values[name] for name in PLANNING}, **options}
    gc.collect()
    gc.freeze()  # as in the worker: later collections need not walk what stays
    with Journal(answers, facts, writes=not finished_only) as journal, Progress(
            *Progress.get_default_columns(), TimeElapsedColumn()) as bar:
        answering = bar.add_task('answering', total=None)

        def between() -> None:
            bar.advance(answering)
            gc.collect()  # as the worker does between requests

        measurement = Measurement(live, journal, tasks, n_live, margin_s, options, between, cases)
        bar.update(answering, total=measurement.total, completed=measurement.done)
        if not finished_only:
            measurement.run()
    results = results_of(measurement)
    budgets = {quantile: measurement.budget_s(quantile) for quantile in cases.quantiles}
    variants = {'quality': values['variants'], **{name: name for name in model.variants if name != model.variant}}
    rows = rows_of(results, families_of(measurement), budgets, variants)
    finished, live_tasks = measurement.finished_tasks(), measurement.finished_live_tasks()
    comparison = compare(results) if live_tasks else {}
    show(rows, comparison)
    errors = Counter(answer.error for answer in measurement.answered.values() if answer.error)
    return {'machine': machine, 'tasks': source.name, 'n': len(finished), 'n_live': len(live_tasks),
            'of': len(tasks), 'of_live': len(measurement.live_tasks), 'how': how(measurement),
            'delivery_margin_s': margin_s, 'variants': values['variants'], 'errors': errors, 'rows': rows,
            **comparison}


def run(values: dict, out: Path, *, source: TaskSource, n_live: int, answers: Path | None = None,
        finished_only: bool = False) -> int:
    """Measure the cases of this bench, and write the rows to `out`. `answers`: see `measure`; None: beside `out`."""
    write(out, measure(values, answers or beside(out), source=source, n_live=n_live, finished_only=finished_only))
    return 0
