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

"""`timebill bench miss-rate`: which methods keep the promised miss rate, and what it costs them.

A promise is a first plan with the verdict FITS or FITS_WITH_EVICTION; a miss is a promised request that did not come
to its natural end by its deadline. Every method replays the same recorded answers and step times on a virtual clock
(replay.py), under five conditions. What changes in a condition changes once, at the same request for all methods:

    nominal          test prompts
    prompt shift     test prompts, then prompts of the shifted split
    slow             steps that take 1.5 times as long after the change
    both             prompt shift and slow steps
    tight            test prompts, with budgets a tenth as long, so that 10 to 30 % can be promised; nothing changes

The methods:

    k = 1, 3, 5, 8   the paper: N_W = k * N_hat, execution times as profiled
    conformal        a fixed quantile of calibration scores, a fixed quantile of time ratios, no timing factor
    adaptive         what the node does by default
    oracle           knows every length, and tracks times like adaptive: its miss rate is the attainable one

`adaptive` also runs live on the real engine, without replays: once alone and once with a competing load in the second
half; on real text, see miss_rate_text.py.
"""
from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from rich.progress import Progress, track

from timebill_ros.bench import recordings, replay
from timebill_ros.bench.competing_load import CompetingLoad
from timebill_ros.bench.machine import describe, write
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.bench.recordings import BUDGET_TOKENS, TIGHT_BUDGET_TOKENS, sampled
from timebill_ros.bench.replay import Device, Method, Outcome, is_missed
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.codes import Strategy, Verdict
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.control import Control
from timebill_ros.length.calibration import SCORES_FILE, load_scores, save_scores
from timebill_ros.planning.tracker import Tracker
from timebill_ros.tasks import site_log
from timebill_ros.tasks.site_log_scores import step_accuracy
from timebill_ros.timing.profile import Profile
from timebill_ros.training.parallel import spread

SLOWDOWN = 1.5
TIGHT = 'tight'  # the condition whose promises are rare


@dataclass(frozen=True)
class Condition:
    """What a replay meets; the first two from the change on."""

    shifted: bool = False  # prompts of the shifted split
    slowdown: float = 1.0  # how many times as long steps take
    budget_tokens: tuple[int, int] = BUDGET_TOKENS


CONDITIONS = {'nominal': Condition(), 'prompt shift': Condition(shifted=True), 'slow': Condition(slowdown=SLOWDOWN),
              'both': Condition(True, SLOWDOWN), TIGHT: Condition(budget_tokens=TIGHT_BUDGET_TOKENS)}
AFTER = (51, 150)  # requests after the change whose miss rate is given apart, 1-based
FACTORS = (1.0, 3.0, 5.0, 8.0)


def methods(scores: list[float], profile: Profile, miss_rate: float, *, with_factors: bool = True) -> list[Method]:
    """Return all methods, which start from calibration scores and a profile; fixed factors know no miss rate."""
    def of(policy: str, **options) -> Callable[[], Tracker]:
        return lambda: Tracker.of(profile, policy, miss_rate=miss_rate, scores=scores, **options)

    factors = FACTORS if with_factors else ()
    return [*(Method(f'k = {k:.0f}', of('fixed', k=k, track_timing=False)) for k in factors),
            Method('conformal', of('conformal', track_timing=False)), Method('adaptive', of('adaptive')),
            Method('oracle', of('adaptive'), oracle=True)]


def interval(missed: int, n: int) -> list[float]:
    """Return the 95 % Wilson interval of the share `missed / n`."""
    if n == 0:
        return [0.0, 1.0]
    z, p = 1.96, missed / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return [max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))]


def summary(outcomes: list[Outcome]) -> dict:
    """Return a row: what was promised, kept and paid. `mean_score` counts a cut answer as empty (KILL)."""
    promised = [o for o in outcomes if o.promised]
    missed = sum(is_missed(o) for o in promised)
    return {'n': len(outcomes), 'n_promised': len(promised), 'share_promised': len(promised) / len(outcomes),
            'miss_rate': missed / len(promised) if promised else None, 'interval': interval(missed, len(promised)),
            'beyond_wcet': fmean(not o.within_wcet for o in promised) if promised else None,
            'mean_eviction_ratio': fmean(o.plan.eviction_ratio for o in outcomes),
            'mean_score': fmean(o.recording.answer(o.plan.variant or next(iter(o.recording.answers)),
                                                   o.plan.eviction_ratio).score if o.in_time else 0.0
                                for o in outcomes),
            'refused': fmean(o.plan.verdict is Verdict.INFEASIBLE for o in outcomes)}


@dataclass(frozen=True)
class Replays:
    """What all methods are tried on. `scores` and `profile` are what they start from, as in `methods`."""

    device: Device
    found: dict[str, list[recordings.Recording]]
    scores: list[float]
    profile: Profile
    miss_rate: float
    n_replays: int
    n_requests: int  # in each; `change_at`: the first one after the change
    change_at: int

    def run(self, names: Sequence[str], processes: int) -> tuple[list[dict], dict]:
        """Return rows for every condition and method, and one replay of `adaptive` under slow steps by request."""
        jobs = [(condition, name) for condition in CONDITIONS for name in names]
        done = spread(replayed, jobs, processes, self) if processes > 1 else replayed(jobs, self)
        found = {job: (row, trace) for job, row, trace in track(done, 'replaying', total=len(jobs))}
        rows = [found[job][0] for job in jobs]
        for row in rows:
            row['attainable_miss_rate'] = found[row['condition'], 'oracle'][0]['miss_rate']
        return rows, found['slow', 'adaptive'][1]

    def one(self, condition: str, method: Method) -> tuple[dict, dict]:
        """Return the row of a method under a condition, and its first replay, request by request."""
        met, change_at = CONDITIONS[condition], self.change_at
        runs = [replay.replay(method, self.device, self.found['test'],
                              self.found['shifted' if met.shifted else 'test'], seed=seed, n_requests=self.n_requests,
                              change_at=change_at, slowdown=met.slowdown, budget_tokens=met.budget_tokens)
                for seed in range(self.n_replays)]
        row = {'condition': condition, 'method': method.name, 'epsilon': self.miss_rate,
               **summary([o for run in runs for o in run])}
        window = [o for run in runs for o in run[change_at + AFTER[0] - 1:change_at + AFTER[1]] if o.promised]
        row['after_change'] = {'requests': list(AFTER), 'n_promised': len(window),
                               'miss_rate': fmean(map(is_missed, window)) if window else None}
        first = runs[0]
        return row, {'change_at': change_at, 'slowdown': met.slowdown, 'slack_s': [o.slack_s for o in first],
                     'timing_factor': [o.factor for o in first], 'time_bound': [o.time_bound for o in first],
                     'promised': [o.promised for o in first], 'in_time': [o.in_time for o in first]}


def replayed(jobs: Sequence[tuple[str, str]], tried: Replays) -> Iterator[tuple[tuple[str, str], dict, dict]]:
    """Yield (condition, name of a method), row and trace of each of the `jobs`."""
    known = {method.name: method for method in methods(tried.scores, tried.profile, tried.miss_rate)}
    for condition, name in jobs:
        yield ((condition, name), *tried.one(condition, known[name]))


def judge(rows: list[dict], miss_rate: float) -> dict:
    """Return which bars `adaptive` meets: its miss rate from both sides, that after the change, and how much it evicts.

    A rate is `kept` where it is at most 0.01 above epsilon, and its 95 % interval is not above epsilon as a whole;
    the tolerance after the change is 0.02. It is `approached` from half of epsilon on, and where the oracle
    promises no more. Eviction is compared with that of the smallest k which holds the rate, by 0.01, under every
    condition.
    """
    adaptive = {row['condition']: row for row in rows if row['method'] == 'adaptive'}
    limit = miss_rate + 0.01
    holds = {f'k = {k:.0f}': all((row['miss_rate'] or 0.0) <= limit for row in rows if row['method'] == f'k = {k:.0f}')
             for k in FACTORS}
    smallest = next((name for name, held in holds.items() if held), None)
    verdict: dict = {'smallest_k_that_holds': smallest, 'conditions': {}}
    for condition, row in adaptive.items():
        other = next((r for r in rows if (r['condition'], r['method']) == (condition, smallest)), None)
        oracle = next(r for r in rows if (r['condition'], r['method']) == (condition, 'oracle'))
        verdict['conditions'][condition] = {
            'attainable': (row['attainable_miss_rate'] or 0.0) <= limit,
            'kept': (row['miss_rate'] or 0.0) <= limit and row['interval'][0] <= miss_rate,
            'approached': (row['miss_rate'] or 0.0) >= miss_rate / 2 or
            row['share_promised'] >= oracle['share_promised'],
            'share_of_oracle': row['share_promised'] / oracle['share_promised'] if oracle['share_promised'] else None,
            'kept_after_change': (row['after_change']['miss_rate'] or 0.0) <= miss_rate + 0.02,
            'eviction_above_smallest_k': row['mean_eviction_ratio'] - other['mean_eviction_ratio'] if other else None}
    return verdict


# -- live ------------------------------------------------------------------------------------------------------------

def live(engine: Engine, n_requests: int, *, epsilon: float, temperature: float, max_new_tokens: int, load: bool,
         progress: Callable[[int], None]) -> dict:
    """Run test prompts on the real engine, one after the other, killed at their deadlines, and return a row.

    With `load`, another program computes on every core during the second half of the `n_requests` requests.
    """
    rng, found = random.Random(7), []
    with CompetingLoad() as other:
        for i in range(n_requests):
            if load and i == n_requests // 2:
                other.start()
            task = site_log.generate(i, split='test')
            request = sampled(task, temperature, max_new_tokens)
            n_x = len(engine.model.tokenize(engine.model.render(request), is_chat=True))
            budget_s = recordings.draw_budget(rng, engine.times) + \
                engine.times.prefill(n_x) * engine.tracker.prefill_factor
            now = time.monotonic()
            request = replace(request, request_id=str(i), release_s=now, deadline_s=now + budget_s,
                              strategy=Strategy.KILL, delivery_margin_s=0.0)
            outcome = engine.run(request, Control(Deadline(request.deadline_s)))
            late_s = time.monotonic() - request.deadline_s
            engine.tracker.settle()
            in_time = outcome.finish_reason.is_natural and late_s <= 0
            ratio = outcome.timing.eviction_ratio
            found.append({'promised': outcome.timing.verdict.is_promise, 'in_time': in_time, 'late_s': late_s,
                          'eviction_ratio': 0.0 if math.isnan(ratio) else ratio,
                          'score': step_accuracy(task, outcome.text) if in_time else 0.0,
                          'timing_factor': engine.tracker.timing_factor, 'time_bound': engine.tracker.time_bound,
                          'refused': outcome.timing.verdict is Verdict.INFEASIBLE})
            progress(i + 1)
    promised = [row for row in found if row['promised']]
    missed = sum(not row['in_time'] for row in promised)
    return {'condition': 'live, competing load in the second half' if load else 'live', 'method': 'adaptive',
            'epsilon': epsilon, 'n': len(found), 'n_promised': len(promised),
            'share_promised': len(promised) / len(found),
            'miss_rate': missed / len(promised) if promised else None, 'interval': interval(missed, len(promised)),
            'mean_eviction_ratio': fmean(row['eviction_ratio'] for row in found),
            'mean_score': fmean(row['score'] for row in found), 'refused': fmean(row['refused'] for row in found),
            'latest_end_s': max(row['late_s'] for row in found),
            'trace': {name: [row[name] for row in found] for name in ('timing_factor', 'time_bound', 'promised',
                                                                      'in_time')}}


# -- all of it -------------------------------------------------------------------------------------------------------

def run(values: dict, out: Path, *, profile_path: Path, recordings_path: Path, n_prompts: int, n_calibration: int,
        n_replays: int, n_requests: int, n_live: int, miss_rates: Sequence[float], max_new_tokens: int,
        processes: int) -> int:
    """Record (unless a file has it), replay, run live, print and write. The first of the `miss_rates` is run live."""
    if min(n_prompts, n_replays) < 1 or n_requests < 2:
        raise ValueError(f'nothing to measure: {n_prompts} prompts, {n_replays} replays of {n_requests} requests')
    profile, miss_rate = Profile.load(profile_path), miss_rates[0]
    setting = recordings.prepare(values, max_new_tokens=max_new_tokens, processes=processes)
    model, predictor, options = setting.model, setting.predictor, setting.options
    temperature = options['temperature']
    facts = {**options, 'model': model.fingerprint, 'predictor': predictor.fingerprint, 'prompts': n_prompts}
    found = recordings.load(recordings_path, facts)
    if found is None:
        found = {split: setting.record(split, n_prompts) for split in ('test', 'shifted')}
        recordings.save(recordings_path, found, facts)
    scores_path = Path(predictor.directory) / SCORES_FILE
    if n_calibration:
        rng = random.Random(0)
        budgets = {seed: recordings.draw_budget(rng, profile.times) for seed in range(n_calibration)}
        scores = list(track(spread(recordings.calibrate_share, list(range(n_calibration)), setting.processes,
                                   setting.values, profile.times, options, budgets, 1 - miss_rate / 2), 'calibrating',
                            total=n_calibration))
        save_scores(scores_path, sorted(scores), split='calibration', prompts=n_calibration, temperature=temperature)
        print(f'written to {scores_path}')
    scores = load_scores(scores_path)
    if not scores:
        raise ValueError(f'there is no {scores_path} yet: name a number of calibration prompts')
    device = Device(profile.times, [model.variant], max_new_tokens, model.max_context, values['max_eviction_ratio'])
    rows, traces, bars = [], [], {}
    for epsilon in miss_rates:
        names = [method.name for method in methods(scores, profile, epsilon, with_factors=epsilon == miss_rate)]
        tried = Replays(device, found, scores, profile, epsilon, n_replays, n_requests, n_requests // 3)
        more, trace = tried.run(names, setting.processes)
        rows += more
        traces.append(trace)
        bars[str(epsilon)] = judge(more, epsilon)
    lives = []
    if n_live:
        for load in (False, True):
            tracker = Tracker.of(profile, miss_rate=miss_rate, scores=scores)
            engine = Engine(model, predictor, profile.times, tracker,
                            prefill_chunk_tokens=setting.options['chunk_tokens'])
            with Progress() as bar:
                task = bar.add_task('live' + (' under load' if load else ''), total=n_live)
                lives.append(live(engine, n_live, epsilon=miss_rate, temperature=temperature,
                                  max_new_tokens=max_new_tokens, load=load,
                                  progress=lambda done, bar=bar, task=task: bar.update(task, completed=done)))
    show(rows + lives)
    write(out, {'machine': describe(model), 'epsilon': miss_rate, 'temperature': temperature, 'prompts': n_prompts,
                'calibration_prompts': len(scores), 'replays': n_replays, 'requests_per_replay': n_requests,
                'rows': rows, 'live': lives, 'bars': bars, 'trace': traces[0]})
    if plots := plots_if_installed():
        plots.miss_rate([row for row in rows if row['epsilon'] == miss_rate], traces[0], out.with_suffix('.png'))
        print(f'written to {out.with_suffix(".png")}')
    return 0


def show(rows: list[dict]) -> None:
    """Print a table of the rows."""
    table = Table('condition', 'method', 'epsilon', 'promised', 'missed', '95 % interval', 'after the change',
                  'evicted', 'score', 'refused')
    for r in rows:
        after = r.get('after_change', {}).get('miss_rate')
        low, high = r['interval']
        table.add_row(r['condition'], r['method'], f'{r["epsilon"]:g}', f'{r["share_promised"]:.1%}',
                      '' if r['miss_rate'] is None else f'{r["miss_rate"]:.3f}', f'{low:.3f} to {high:.3f}',
                      '' if after is None else f'{after:.3f}', f'{r["mean_eviction_ratio"]:.3f}',
                      f'{r["mean_score"]:.3f}', f'{r["refused"]:.1%}', end_section=r['method'] == 'oracle')
    print_table(table)
