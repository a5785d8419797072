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

"""`timebill bench deadlines`: the paper's evaluation, on real text or on the site log.

Methods: plain generation (`vanilla`), fixed evictions of 25, 50, 75 and 95 %, other weights alone, the paper's own rule
(`paper`: k = 5, at most 95 % evicted, nothing but eviction), what the node does by default (`quality`), and an `oracle`
that plans as the default does and knows how long the unhurried answer was. Strategies: KILL, TRUNCATE, and SKIP_NEXT by
the paper's accounting (skip_next.py). Budgets: quantiles of the time that unhurried answers take. How each kind of
method is measured: budgets.py, whose journal this bench shares.

One file holds both test beds: a run takes the place of the rows of its own test bed, and leaves the others.
"""
from __future__ import annotations

import json
from pathlib import Path

from timebill_ros.bench.budgets import measure
from timebill_ros.bench.finished_answers import Cases
from timebill_ros.bench.live_answers import ORACLE, PLANNERS
from timebill_ros.bench.machine import write
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.codes import Strategy
from timebill_ros.tasks.task_source import TaskSource
from timebill_ros.training.journal import beside

CASES = Cases(ratios=(0.25, 0.5, 0.75, 0.95), few_ratios=(0.25, 0.75), live=(*PLANNERS, ORACLE),
              strategies=(Strategy.TRUNCATE, Strategy.KILL, Strategy.SKIP_NEXT))


def run(values: dict, out: Path, *, source: TaskSource, n_live: int, answers: Path | None = None,
        cases: Cases = CASES, finished_only: bool = False) -> int:
    """Measure what is not measured yet, print, write the rows to `out` and draw them.

    `answers`: the journal, see budgets.py; None: beside `out`, one for each source of tasks. `finished_only`: measure
    nothing.
    """
    before = load(out)
    name = f'{out.stem}_{slug(source.name)}'
    found = measure(values, answers or beside(out.with_name(f'{name}.json')), source=source, n_live=n_live, cases=cases,
                    finished_only=finished_only)
    bed = f'{found["machine"]["model"]}, {found["tasks"]}'
    rows = [{'test_bed': bed, **row} for row in found.pop('rows')]
    beds = {**before['test_beds'], bed: found}
    write(out, {'test_beds': beds, 'rows': [row for row in before['rows'] if row['test_bed'] != bed] + rows})
    if plots := plots_if_installed('evaluation_plots'):
        same = [{'test_bed': bed, **row} for row in found.get('rows_of_live_tasks', ())]
        plots.deadlines(same or rows, found['machine'], out.with_name(f'{name}.png'))
    return 0


def load(out: Path) -> dict:
    """Return what `out` holds of other test beds. ValueError where it is no such file."""
    if not out.exists():
        return {'test_beds': {}, 'rows': []}
    try:
        found = json.loads(out.read_text(encoding='utf-8'))
        return {'test_beds': dict(found['test_beds']), 'rows': list(found['rows'])}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f'{out} holds no rows of this bench ({error!r}); name another --out') from error


def slug(name: str) -> str:
    """Return the name of a source of tasks for a file: 'tasks_test.jsonl.gz' -> 'tasks_test'."""
    return '_'.join(''.join(c if c.isalnum() else ' ' for c in name.lower().split('.')[0]).split())
