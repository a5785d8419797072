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

"""`timebill bench k-sweep`: the paper's pessimistic factor, N_W = k * N_hat, from 1 to 8 at tight budgets under KILL.

The paper finds that score and completion rise up to k = 5, and that the score falls from 6 on: a bound too small lets
answers be killed, one too large evicts what they need. Beside the factors runs what the node does by default.
"""
from __future__ import annotations

from pathlib import Path

from timebill_ros.bench.budgets import measure
from timebill_ros.bench.finished_answers import Cases
from timebill_ros.bench.live_answers import METHODS
from timebill_ros.bench.machine import write
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.codes import Strategy
from timebill_ros.tasks.task_source import TaskSource
from timebill_ros.training.journal import beside

FACTORS = tuple(method for method in METHODS if method.startswith('paper_k'))
CASES = Cases(ratios=(), live=(*FACTORS, 'quality'), strategies=(Strategy.KILL,), quantiles=(0.1, 0.3))


def run(values: dict, out: Path, *, source: TaskSource, n_live: int, answers: Path | None = None,
        finished_only: bool = False) -> int:
    """Measure what is not measured yet, print, write the rows to `out` and draw them. `answers`: see budgets.py."""
    found = measure(values, answers or beside(out), source=source, n_live=n_live, cases=CASES,
                    finished_only=finished_only)
    rows = [{'k': int(row['method'][-1]) if row['method'] in FACTORS else None, **row} for row in found.pop('rows')]
    write(out, {**found, 'rows': rows})
    if found['n_live'] and (plots := plots_if_installed('evaluation_plots')):
        plots.k_sweep(rows, found['machine'], out.with_suffix('.png'))
    return 0
