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

"""`timebill bench miss-rate --text`: promises on real text, half of them beside a program that computes on every core.

Tasks run through the real engine one after the other, in random order, as the node runs goals by default. A budget is
the expected time of prefill, and for decoding a time that is drawn: from a tenth of the longest answer's to half as
much again as the longest answer's, evenly on a scale of factors. KILL, so that what is cut counts as lost.
"""
from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from rich.progress import Progress

from timebill_ros.bench.answers import prompt_ids, that_fit
from timebill_ros.bench.competing_load import CompetingLoad
from timebill_ros.bench.live_answers import LiveAnswer, LiveMethods, answer_live
from timebill_ros.bench.machine import describe, write
from timebill_ros.bench.miss_rate import interval, show
from timebill_ros.codes import Strategy
from timebill_ros.engine import Engine
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.tasks.task_source import TaskSource

SHARES = (0.1, 1.5)  # of the time of the longest answer: least and most time for decoding
ALONE, BESIDE = 'real text', 'real text, competing load'


def draw_budget(engine: Engine, task: ScoredTask, draw: random.Random) -> float:
    """Return the seconds of a task: prefill as expected now, and a drawn time for decoding on the unslowed device."""
    n_x = len(prompt_ids(engine.model, task))
    low, high = SHARES
    share = low * (high / low) ** draw.random()
    return (engine.times.prefill(n_x) * engine.tracker.prefill_factor
            + share * engine.times.steps.decode(n_x, task.max_new_tokens))


def row(condition: str, found: Sequence[tuple[ScoredTask, LiveAnswer]], epsilon: float) -> dict:
    """Return what became of the promises of one half; `late` counts results that were there after their deadlines."""
    promised = [answer for _, answer in found if answer.promised]
    missed = sum(not answer.natural for answer in promised)
    return {'condition': condition, 'method': 'adaptive', 'epsilon': epsilon, 'n': len(found),
            'n_promised': len(promised), 'share_promised': len(promised) / len(found),
            'miss_rate': missed / len(promised) if promised else None, 'interval': interval(missed, len(promised)),
            'mean_eviction_ratio': fmean(answer.eviction_ratio for _, answer in found),
            'mean_score': fmean(answer.score(task) for task, answer in found),
            'refused': fmean(answer.verdict == 'INFEASIBLE' for _, answer in found),
            'late': sum(answer.late_s > 0 for _, answer in found)}


def measure(engine: Engine, tasks: Sequence[ScoredTask], *, margin_s: float, epsilon: float, draw: random.Random,
            start_load: Callable[[], None], progress: Callable[[], None]) -> list[dict]:
    """Run the tasks, and return a row for the half before `start_load` was called and one for the half after."""
    found, middle = [], len(tasks) // 2
    for i, task in enumerate(tasks):
        if i == middle:
            start_load()
        budget_s = draw_budget(engine, task, draw)
        run = answer_live(engine, task, budget_s=budget_s, strategy=Strategy.KILL, margin_s=margin_s)
        found.append((task, run.answer))
        engine.lengths.learn()
        progress()
    return [row(ALONE, found[:middle], epsilon), row(BESIDE, found[middle:], epsilon)]


def run(values: dict, out: Path, *, source: TaskSource, n_requests: int) -> int:
    """Run, print and write; in `out`, what was measured on the site log stays."""
    if n_requests < 2:
        raise ValueError(f'nothing to measure: {n_requests} requests, and each half needs one')
    live = LiveMethods(values, out.parent, f'{out.stem}_text', ('quality',))
    engine, draw = live.engines['quality'], random.Random(11)
    tasks = that_fit(engine.model, source.load())
    if len(tasks) < n_requests:
        raise ValueError(f'{source.name} has {len(tasks)} tasks that fit the model, fewer than {n_requests} requests')
    tasks = draw.sample(tasks, n_requests)
    machine = describe(engine.model)
    with CompetingLoad() as other, Progress() as bar:
        shown = bar.add_task('live, real text', total=n_requests)
        rows = measure(engine, tasks, margin_s=values['delivery_margin_s'], epsilon=values['miss_rate'], draw=draw,
                       start_load=other.start, progress=lambda: bar.advance(shown))
    show(rows)
    write(out, {**_of_before(out), 'text': {'machine': machine, 'tasks': source.name, 'rows': rows}})
    return 0


def _of_before(out: Path) -> dict:
    try:
        found = json.loads(out.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
