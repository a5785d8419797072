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

"""`timebill bench execution-time`: how well a profile foretells times, in another process and at other lengths.

The profile comes from a file, or from another process that measures it first. This process measures lengths between
those of the profile: prefill with the length predictor beside it, decode steps over the whole cache and over an evicted
one. Then whole requests run, with budgets from tight to wide, and each is compared with its estimated WCET. With
`--competing-load` all of this is repeated while another program computes on every core.
"""
from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from rich.progress import Progress

from timebill_ros.bench import recordings
from timebill_ros.bench.competing_load import CompetingLoad
from timebill_ros.bench.machine import describe, write
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.bench.token_times import between
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.control import Control
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.planning.tracker import Tracker
from timebill_ros.request import Request, Sampling
from timebill_ros.tasks import site_log
from timebill_ros.timing import fitting, profiling
from timebill_ros.timing.fitting import Points
from timebill_ros.timing.profile import Profile
from timebill_ros.worker.loading import load_model

KINDS = ('prefill', 'step')


def held_out(model, predictor, profile: Profile, *, chunk_tokens: int, repeats: int, condition: str,
             progress: Callable[[float], None]) -> list[dict]:
    """Return a row per kind: the error on the medians by length, and quantiles of all measured over estimated times."""
    points: Points = {}
    draw = random.Random(1)
    lengths = between([n for n, _ in profile.points['prefill']])
    visits = [n for n in lengths for _ in range(repeats)]
    draw.shuffle(visits)
    for done, n in enumerate(visits):
        profiling.add(points, profiling.visit(model, predictor, n, chunk_tokens, draw))
        progress((done + 1) / len(visits))
    rows, errors = [], fitting.errors(profile.times, points)
    for kind in KINDS:
        ratios = sorted((n, seconds / profile.times.estimate(kind, n)) for n, seconds in points[kind])
        values = sorted(ratio for _, ratio in ratios)
        rows.append({'condition': condition, 'kind': kind, 'n': len(values), 'mape': errors[kind],
                     'lengths': len({n for n, _ in ratios}),
                     'residual_p50': median(values), 'residual_p99': values[math.ceil(0.99 * len(values)) - 1],
                     'ratios': [[n, round(ratio, 4)] for n, ratio in ratios]})
    return rows


def requests(engine: Engine, n: int, *, condition: str, max_new_tokens: int, progress: Callable[[float], None]) -> dict:
    """Run `n` requests and count how many of those promised took longer than their estimated WCET."""
    rng, exceeded, ratios = random.Random(2), 0, []
    for i in range(n):
        task = site_log.generate(i, split='validation')
        n_x = task.n_tokens + 10
        budget_s = engine.times.prefill(n_x) + 2 * recordings.draw_budget(rng, engine.times)
        now = time.monotonic()
        request = Request(str(i), now, now + budget_s, messages=task.messages, max_new_tokens=max_new_tokens,
                          delivery_margin_s=0.0, sampling=Sampling(temperature=1.0, seed=i))
        timing = engine.run(request, Control(Deadline(request.deadline_s))).timing
        engine.tracker.settle()
        if timing.verdict.is_promise:
            took_s = timing.prefill_s + timing.eviction_s + timing.decode_s
            ratios.append(took_s / timing.wcet_s)
            exceeded += took_s > timing.wcet_s
        progress((i + 1) / n)
    return {'condition': condition, 'n_promised': len(ratios), 'exceeded': exceeded,
            'share_exceeded': exceeded / len(ratios) if ratios else None,
            'median_of_wcet': median(ratios) if ratios else None}


def run(values: dict, out: Path, *, profile_path: Path | None, make_profile: Callable[[Path], None], repeats: int,
        n_requests: int, max_new_tokens: int, competing_load: bool) -> int:
    """Measure, print and write. Exit status 1 never means a bad fit: the numbers say what it is.

    Without a `profile_path`, `make_profile` writes a profile to a path beside `out`, from another process.
    """
    if profile_path is None:
        profile_path = out.with_name('profile_for_' + out.stem + '.yaml')
        make_profile(profile_path)
    profile = Profile.load(profile_path)
    model, predictor, choices = load_model(values)
    if not model.supports_eviction:
        raise ModelError(f'the held-out lengths include evicted caches: {model.eviction_refusal}')
    profile.check(profiling.identity(model, predictor), str(profile_path))
    machine, rows, wcet = describe(model), [], []
    with CompetingLoad() as other:
        for condition in ('as the machine is', 'competing load')[:1 + competing_load]:
            if condition == 'competing load':
                other.start()
            scores = predictor.scores if predictor else []
            engine = Engine(model, predictor, profile.times, Tracker.of(profile, scores=scores),
                            prefill_chunk_tokens=choices.prefill_chunk_tokens)
            with Progress() as bar:
                tasks = [bar.add_task(f'{condition}: {what}', total=1.0) for what in ('lengths', 'requests')]
                rows += held_out(model, predictor, profile, chunk_tokens=choices.prefill_chunk_tokens,
                                 repeats=repeats, condition=condition,
                                 progress=lambda share, bar=bar, task=tasks[0]: bar.update(task, completed=share))
                wcet.append(requests(engine, n_requests, condition=condition, max_new_tokens=max_new_tokens,
                                     progress=lambda share, bar=bar, task=tasks[1]: bar.update(task, completed=share)))
    table = Table('condition', 'kind', 'n', 'mean error', 'p50', 'p99')
    for r in rows:
        table.add_row(r['condition'], r['kind'], str(r['n']), f'{r["mape"]:.1%}', f'{r["residual_p50"]:.3f}',
                      f'{r["residual_p99"]:.3f}')
    for w in wcet:
        share = 'no promises' if w['share_exceeded'] is None else f'{w["share_exceeded"]:.1%} beyond their WCET'
        table.add_row(w['condition'], 'requests', str(w['n_promised']), share, '', '')
    print_table(table)
    write(out, {'machine': machine, 'profile': {'date': profile.date, 'held_out_errors': profile.held_out_errors},
                'rows': rows, 'requests': wcet})
    if plots := plots_if_installed():
        plots.execution_time(rows, out.with_suffix('.png'))
    return 0
