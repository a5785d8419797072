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

"""`timebill bench wcet`: what whole requests take, against their estimated times and worst cases (PAPER: figure 6).

Requests run without haste, one after the other, through the engine that the node has. Before each is decoded, the
engine has said how long it expects it to take, and how long at the most. A violation is a request that took longer than
its estimated WCET: with a promised miss rate of epsilon, a share of about that is expected.
"""
from __future__ import annotations

import math
from pathlib import Path
from statistics import median

from rich.progress import track

from timebill_ros.bench.answers import that_fit
from timebill_ros.bench.live_answers import LiveMethods
from timebill_ros.bench.machine import describe, write
from timebill_ros.bench.miss_rate import interval
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.codes import ErrorCode, Strategy
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.control import Control
from timebill_ros.request import Plan, Request
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.tasks.task_source import TaskSource

UNHURRIED_S = 3600.0  # the budget of every request


def measured(engine: Engine, task: ScoredTask) -> dict | None:
    """Run one task and return its row; None where it failed."""
    plans: list[Plan] = []
    released = engine.clock()
    request = Request(task.key, released, released + UNHURRIED_S, messages=task.messages,
                      max_new_tokens=task.max_new_tokens, strategy=Strategy.TRUNCATE)
    control = Control(Deadline(request.deadline_s, engine.clock))
    control.on_plan = lambda plan, timing: plans.append(plan)
    prefill_factor = engine.tracker.prefill_factor
    outcome = engine.run(request, control)
    engine.tracker.settle()
    timing = outcome.timing
    if outcome.error_code is not ErrorCode.NONE or not plans:
        return None
    prefill_s = engine.times.prefill(timing.prompt_tokens) * prefill_factor
    plan = plans[0]
    return {'family': task.family, 'n_x': timing.prompt_tokens, 'n': timing.generated_tokens,
            'predicted': plan.predicted_tokens, 'pessimistic': plan.pessimistic_tokens,
            'took_s': timing.prefill_s + timing.eviction_s + timing.decode_s,
            'estimated_s': prefill_s + plan.decode_expected_s, 'wcet_s': timing.wcet_s,
            'prefill_s': timing.prefill_s, 'prefill_estimated_s': prefill_s,
            'step_s': timing.decode_s / max(1, timing.generated_tokens - 1),
            'step_estimated_s': engine.times.steps.decode(plan.n_keep, timing.generated_tokens) * plan.timing_factor /
            max(1, timing.generated_tokens - 1)}


def summary(rows: list[dict], epsilon: float) -> dict:
    """Return the share of violations with its 95 % interval, and the errors of the estimates."""
    violations = sum(row['took_s'] > row['wcet_s'] for row in rows)
    # A prompt whose answer is one token has no step.
    decoded = [row for row in rows if row['n'] > 1]
    return {'n': len(rows), 'epsilon': epsilon, 'violations': violations, 'violation_rate': violations / len(rows),
            'interval': interval(violations, len(rows)),
            'prefill_error': median(abs(row['prefill_estimated_s'] / row['prefill_s'] - 1) for row in rows),
            'step_error': median(abs(row['step_estimated_s'] / row['step_s'] - 1) for row in decoded) if decoded
            else math.nan,
            'wcet_over_took': median(row['wcet_s'] / row['took_s'] for row in rows)}


def run(values: dict, out: Path, *, source: TaskSource, n_requests: int) -> int:
    """Run the requests, print, write and draw."""
    live = LiveMethods(values, out.parent, out.stem, ('quality',))
    engine = live.engines['quality']
    tasks = that_fit(engine.model, source.load())[:n_requests]
    machine = describe(engine.model)
    rows = [row for task in track(tasks, 'requests') if (row := measured(engine, task)) is not None]
    if not rows:
        raise ValueError(f'none of {len(tasks)} requests was answered')
    found = summary(rows, values['miss_rate'])
    table = Table('requests', 'beyond their WCET', '95 % interval', 'prefill error', 'step error', 'WCET / measured')
    low, high = found['interval']
    table.add_row(str(found['n']), f'{found["violation_rate"]:.1%}', f'{low:.1%} to {high:.1%}',
                  f'{found["prefill_error"]:.1%}', f'{found["step_error"]:.1%}', f'{found["wcet_over_took"]:.2f}')
    print_table(table)
    write(out, {'machine': machine, 'tasks': source.name, **found, 'rows': rows})
    if plots := plots_if_installed('evaluation_plots'):
        plots.wcet(rows, machine, out.with_suffix('.png'))
    return 0
