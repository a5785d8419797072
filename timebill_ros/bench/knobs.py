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

"""`timebill bench knobs`: a quality table for the planner, and what planning with it is worth.

The table (see planning/quality_table.py) is measured on validation tasks. It holds the mean step accuracy by weight
precision and eviction ratio, and the share of that accuracy which is left when an answer is cut. Then test tasks are
replayed on a virtual clock (replay.py), with time left for few decoded tokens and for many. The method `eviction only`
plans by the paper's rule, `knobs` with the table; both keep the same miss rate by the same adaptive bounds. A cut
answer scores for the steps that it holds.
"""
from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from rich.progress import Progress, track

from timebill_ros.bench import recordings, replay
from timebill_ros.bench.machine import describe, write
from timebill_ros.bench.miss_rate import interval
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.bench.recordings import RATIOS, Recording
from timebill_ros.bench.replay import Device, Method, Outcome, is_missed
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.planning import quality_table as tables
from timebill_ros.planning.quality_rule import QualityRule
from timebill_ros.planning.tracker import Tracker
from timebill_ros.tasks import site_log
from timebill_ros.tasks.site_log_scores import step_accuracy
from timebill_ros.timing.profiling import make_profile, measure

SHARES = tuple(i / 10 for i in range(11))
BUDGETS = (5, 10, 20, 40, 80, 160, 320)  # time for so many tokens over recordings.BUDGET_ENTRIES entries


def prefix(tokenizer, text: str, n: int) -> str:
    """Return the text of an answer's first `n` tokens."""
    ids = tokenizer(text, add_special_tokens=False)['input_ids']
    return tokenizer.decode(ids[:n])


def score_of_cut(tokenizer, recording: Recording, answer: recordings.Answer, n: int) -> float:
    """Return the step accuracy of an answer of which `n` tokens came."""
    if n >= answer.n:
        return answer.score
    task = site_log.generate(recording.seed, split=recording.split)
    return step_accuracy(task, prefix(tokenizer, answer.text, n))


def quality_table(tokenizer, found: list[Recording]) -> tables.QualityTable:
    """Return the quality table of the recordings: means over all of them."""
    variants = {variant: tuple((ratio, fmean(r.answers[variant][str(ratio)].score for r in found)) for ratio in RATIOS)
                for variant in found[0].answers}
    whole = [(r, next(iter(r.answers.values()))['0.0']) for r in found]
    total = sum(answer.score for _, answer in whole) or 1.0
    cut = tuple((share, min(1.0, sum(score_of_cut(tokenizer, r, answer, int(share * answer.n))
                                     for r, answer in whole) / total)) for share in SHARES)
    return tables.QualityTable(variants, cut)


def run_at(method: Method, device: Device, found: list[Recording], tokenizer, *, budget_s: float, n_requests: int,
           seed: int) -> list[tuple[Outcome, float]]:
    """Replay requests that all have `budget_s` for decoding; return them with the score of what came."""
    rng, tracker = random.Random(seed), method.make()
    outcomes = []
    for _ in range(n_requests):
        recording = rng.choice(found)
        outcome = replay.run_one(method, tracker, device, recording, budget_s, 1.0)
        answer = recording.answer(outcome.plan.variant or device.variants[0], outcome.plan.eviction_ratio)
        outcomes.append((outcome, score_of_cut(tokenizer, recording, answer, outcome.n)))
    return outcomes


def summary(outcomes: list[tuple[Outcome, float]], variant: str) -> dict:
    """Return a row: score, miss rate, and how often each knob was turned."""
    plans = [outcome.plan for outcome, _ in outcomes]
    promised = [outcome for outcome, _ in outcomes if outcome.promised]
    missed = sum(map(is_missed, promised))
    return {'n': len(outcomes), 'mean_score': fmean(score for _, score in outcomes),
            'share_promised': len(promised) / len(outcomes), 'miss_rate': missed / len(promised) if promised else None,
            'interval': interval(missed, len(promised)),
            'mean_eviction_ratio': fmean(plan.eviction_ratio for plan in plans),
            'shares': {'evicted': fmean(plan.eviction_ratio > 0 for plan in plans),
                       'cut': fmean(not outcome.in_time for outcome, _ in outcomes),
                       'other weights': fmean(plan.variant not in ('', variant) for plan in plans)}}


def run(values: dict, out: Path, *, table_path: Path, n_prompts: int, n_requests: int, miss_rate: float,
        max_new_tokens: int, profile_s: float, processes: int) -> int:
    """Measure the table, write it, replay, print and write."""
    if n_prompts < 1 or n_requests < 1:
        raise ValueError(f'nothing to measure with {n_prompts} prompts and {n_requests} requests')
    setting = recordings.prepare(values, max_new_tokens=max_new_tokens, processes=processes)
    model, predictor, variants = setting.model, setting.predictor, list(setting.model.variants)
    with Progress() as bar:
        task = bar.add_task('profile of all variants', total=1.0)
        profile = make_profile(model, predictor, measure(
            model, predictor, chunk_tokens=setting.options['chunk_tokens'], budget_s=profile_s,
            progress=lambda share: bar.update(task, completed=share)), setting.options['chunk_tokens'])
    found = {split: setting.record(split, n_prompts) for split in ('validation', 'test')}
    table = quality_table(model.tokenizer, found['validation'])
    table_path.parent.mkdir(parents=True, exist_ok=True)
    table_path.write_text(json.dumps({**table.to_dict(), 'machine': describe(model), 'prompts': n_prompts},
                                     indent=1) + '\n')
    print(f'written to {table_path}')
    device = Device(profile.times, variants, max_new_tokens, model.max_context, values['max_eviction_ratio'])

    def make() -> Tracker:
        return Tracker.of(profile, miss_rate=miss_rate, scores=predictor.scores)

    rows = []
    for n_tokens in track(BUDGETS, 'replaying'):
        budget_s = profile.times.steps.decode(recordings.BUDGET_ENTRIES, n_tokens)
        for method in (Method('eviction only', make), Method('knobs', make, rule=QualityRule(table))):
            outcomes = run_at(method, device, found['test'], model.tokenizer, budget_s=budget_s,
                              n_requests=n_requests, seed=n_tokens)
            rows.append({'method': method.name, 'budget_tokens': n_tokens, 'budget_s': budget_s,
                         **summary(outcomes, model.variant)})
    show(rows)
    steps = {name: asdict(profile.times.of_variant(name).steps) for name in variants}
    write(out, {'machine': describe(model), 'epsilon': miss_rate, 'prompts': n_prompts, 'requests': n_requests,
                'steps': steps, 'rows': rows})
    if plots := plots_if_installed():
        plots.knobs(rows, out.with_suffix('.png'))
    return 0


def show(rows: list[dict]) -> None:
    """Print a table of the rows."""
    table = Table('time for', 'planner', 'score', 'promised', 'missed', 'evicted (mean)', 'cut', 'other weights')
    for r in rows:
        table.add_row(f'{r["budget_tokens"]} tokens', r['method'], f'{r["mean_score"]:.3f}',
                      f'{r["share_promised"]:.0%}', '' if r['miss_rate'] is None else f'{r["miss_rate"]:.3f}',
                      f'{r["mean_eviction_ratio"]:.2f}', f'{r["shares"]["cut"]:.0%}',
                      f'{r["shares"]["other weights"]:.0%}', end_section=r['method'] == 'knobs')
    print_table(table)
