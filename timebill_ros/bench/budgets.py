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

import datetime
import gc
from collections import Counter
from pathlib import Path

from timebill_ros.bench.answered_model import AnsweredModel
from timebill_ros.bench.answers import that_fit
from timebill_ros.bench.budget_measurement import Measurement
from timebill_ros.bench.budget_results import families_of, how, results_of
from timebill_ros.bench.budget_rows import compare, on_the_same_tasks, rows_of, show
from timebill_ros.bench.finished_answers import COMPARED, Cases, FinishedAnswers
from timebill_ros.bench.live_answers import LiveMethods
from timebill_ros.bench.machine import describe, write
from timebill_ros.bench.measurement_progress import MeasurementProgress
from timebill_ros.resources import key_of, quality_table_path
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.tasks.task_source import TaskSource
from timebill_ros.training.journal import Journal, beside, check, read

# What live answers depend on besides the model; others cannot be mixed with them.
PLANNING = ('promise_quality', 'min_kept_tokens', 'miss_rate', 'pessimistic_length', 'pessimistic_factor',
            'replan_tokens', 'drop_infeasible', 'max_eviction_ratio', 'length_predictor')


def measure(values: dict, answers: Path, *, source: TaskSource, n_live: int, cases: Cases = COMPARED,
            finished_only: bool = False) -> dict:
    """Measure what is not measured yet, print, and return the rows and what belongs to them.

    `answers`: the journal of finished answers, which measurements of other cases on the same tasks may share. What the
    live methods have learned lies beside it. `finished_only`: measure nothing, load no weights, and leave the journal
    as it is.
    """
    if n_live < 0:
        raise ValueError(f'{n_live} tasks cannot be answered live')
    tasks = source.load()
    found, machine = (_finished if finished_only else _measured)(values, answers, tasks, n_live, cases)
    results = results_of(found)
    budgets = {quantile: found.budget_s(quantile) for quantile in cases.quantiles}
    variants = {'quality': values['variants'],
                **{name: name for name in found.model.variants if name != found.model.variant}}
    rows = rows_of(results, families_of(found), budgets, variants)
    finished, live_tasks = found.finished_tasks(), found.finished_live_tasks()
    comparison = compare(results, cases.plain) if live_tasks else {}
    if live_tasks:
        comparison['rows_of_live_tasks'] = rows_of(on_the_same_tasks(results), families_of(found), budgets, variants)
    show(rows, comparison)
    errors = Counter(answer.error for answer in found.answered.values() if answer.error)
    return {'machine': machine, 'tasks': source.name, 'n': len(finished), 'n_live': len(live_tasks),
            'of': len(found.tasks), 'of_live': len(found.live_tasks), 'how': how(found),
            'delivery_margin_s': found.margin_s, 'variants': values['variants'], 'errors': errors, 'rows': rows,
            **comparison}


def _measured(values: dict, answers: Path, tasks: list[ScoredTask], n_live: int, cases: Cases
              ) -> tuple[FinishedAnswers, dict]:
    """Answer what is missing -> (all answers, what they were measured on)."""
    answers.parent.mkdir(parents=True, exist_ok=True)
    live = LiveMethods(values, answers.parent, answers.name.removesuffix('.answers.jsonl'), cases.live)
    engine = live.loaded.engine
    print(live.loaded.description, flush=True)
    model, tasks = engine.model, that_fit(engine.model, tasks)
    options = {'chunk_tokens': engine.prefill_chunk_tokens, 'max_eviction_ratio': values['max_eviction_ratio']}
    machine = describe(model)
    facts = _facts(values, tasks, model=model.fingerprint, precision=model.variant, device=machine['device'],
                   chunk_tokens=options['chunk_tokens'])
    gc.collect()
    gc.freeze()  # as in the worker: later collections need not walk what stays
    with Journal(answers, facts) as journal, MeasurementProgress('answering') as progress:

        def between() -> None:
            progress.advance()
            gc.collect()  # as the worker does between requests

        measurement = Measurement(live, journal, tasks, n_live, values['delivery_margin_s'], options, between, cases)
        progress.begin(measurement.total, measurement.done)
        measurement.run()
    return measurement, machine


def _finished(values: dict, answers: Path, tasks: list[ScoredTask], n_live: int, cases: Cases
              ) -> tuple[FinishedAnswers, dict]:
    """Read what is finished -> (those answers, what they were measured on, as far as the journal tells).

    ValueError where there is no journal, or one of other tasks or settings. What the run that answers found out by
    itself is taken from there: the device, and the precision and chunks where the settings leave them open.
    """
    if not answers.exists():
        raise ValueError(f'there are no finished answers: {answers} does not exist. --answers names the file that the '
                         'run writes which answers; without it, that file lies beside --out')
    facts, pieces = read(answers)
    open_facts = {'precision': values['dtype'] if values['dtype'] != 'auto' else None, 'device': None,
                  'chunk_tokens': values['prefill_chunk_tokens'] or None}
    if missing := [name for name in ('model', 'tasks', 'variants', *open_facts) if name not in facts]:
        raise ValueError(f'{answers} tells nothing of its {", ".join(missing)}: it is of another bench')
    model = AnsweredModel(values, facts, pieces)
    tasks = model.answered_tasks(tasks, facts['tasks'])
    own = {name: facts[name] if value is None else value for name, value in open_facts.items()}
    check(answers, facts, _facts(values, tasks, model=model.fingerprint, **own),
          'give the same options as the run that answers')
    found = FinishedAnswers(model, pieces, tasks, n_live, values['delivery_margin_s'], cases)
    print(f'{answers}: {found.done} of {found.total} answers are finished; {len(found.finished_tasks())} of '
          f'{len(found.tasks)} tasks have all of theirs, and {len(found.finished_live_tasks())} of '
          f'{len(found.live_tasks)} live ones')
    written = datetime.datetime.fromtimestamp(answers.stat().st_mtime).astimezone()
    return found, {'device': facts['device'], 'date': written.isoformat(timespec='seconds'),
                   'model': Path(model.name).name, 'dtype': model.variant}


def _facts(values: dict, tasks: list[ScoredTask], *, model: str, precision: str, device: str, chunk_tokens: int
           ) -> dict:
    """Return what all answers of one journal depend on. `model`: its fingerprint."""
    table = Path(values['quality_table'] or quality_table_path()).read_text()
    return {'model': model, 'precision': precision, 'variants': values['variants'], 'device': device,
            'prompts': 'read once', 'tasks': key_of(task.key for task in tasks),
            'delivery_margin_s': values['delivery_margin_s'], 'quality_table': key_of([table]),
            **{name: values[name] for name in PLANNING}, 'chunk_tokens': chunk_tokens}


def run(values: dict, out: Path, *, source: TaskSource, n_live: int, answers: Path | None = None,
        finished_only: bool = False) -> int:
    """Measure the cases of this bench, and write the rows to `out`. `answers`: see `measure`; None: beside `out`."""
    write(out, measure(values, answers or beside(out), source=source, n_live=n_live, finished_only=finished_only))
    return 0
