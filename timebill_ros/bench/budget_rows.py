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

"""From what clients held at their deadlines to rows, to comparisons on the same tasks, and to the bars for these."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from timebill_ros.bench.bootstrap import difference, interval
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.codes import Strategy

OURS, PLAIN, BOUND = 'quality', 'vanilla', 'oracle'
MOST_BELOW = 0.02  # how far `quality` may lie below the best other method, at any budget
MOST_MISSED = 0.05  # share of promises


@dataclass(frozen=True)
class Held:
    """What one method made of one task within one budget."""

    score: float  # of what the client holds at the deadline; under SKIP_NEXT at the answer's end
    natural: bool  # the answer came to its natural end, in time unless under SKIP_NEXT
    late: bool = False  # the result came after the deadline
    promised: bool = False
    missed: bool = False  # promised, and not at its natural end in time
    seconds: float = 0.0  # for which the job took the device
    eviction_ratio: float = 0.0
    shared: bool = False  # the answer was given in another case, in which it must be the same


Case = tuple[str, str, float]  # (method, strategy, quantile of the budget)
Results = dict[Case, dict[str, Held]]  # the key of a task -> what became of it


def rows_of(results: Results, families: Mapping[str, str], budgets: Mapping[float, float],
            variants: Mapping[str, str]) -> list[dict]:
    """Return a row for each method, strategy, budget and family of tasks, and for all families.

    families:  by task
    budgets:   seconds by quantile
    variants:  of the methods that have other weights

    `miss_ratio` is the share of jobs without a whole answer by the deadline, `score_per_s` what a second of the device
    brought in, `shared` the number of answers that were given in another case.
    """
    rows = []
    for (method, strategy, quantile), by_task in results.items():
        for family in ['all', *dict.fromkeys(families[key] for key in by_task)]:
            held = [each for key, each in by_task.items() if family in ('all', families[key])]
            score, low, high = interval([each.score for each in held])
            rows.append({
                'method': method, 'variants': variants.get(method, ''), 'strategy': strategy,
                'budget_quantile': quantile, 'budget_s': budgets[quantile], 'family': family, 'n': len(held),
                'score': score, 'score_lo': low, 'score_hi': high,
                'completion': fmean(each.natural for each in held), 'late': sum(each.late for each in held),
                'promised': sum(each.promised for each in held), 'missed': sum(each.missed for each in held),
                'miss_ratio': fmean(each.late or not each.natural for each in held),
                'eviction_ratio': fmean(each.eviction_ratio for each in held),
                'score_per_s': sum(each.score for each in held) / (sum(each.seconds for each in held) or 1.0),
                'shared': sum(each.shared for each in held)})
    return rows


def on_the_same_tasks(results: Results) -> Results:
    """Return what every method gave on the tasks that `quality` answered, which are fewer than the recorded ones."""
    return {case: {task: by_task[task] for task in results[(OURS, *case[1:])]} for case, by_task in results.items()}


def compare(results: Results, plain: str = PLAIN) -> dict:
    """Return `quality` against the other methods on the tasks that it answered, and whether it meets the bars.

    `comparisons`: with every other method, in each case. `over_budgets`: with `plain`, each task's mean over the
    budgets, for each strategy, and for KILL and TRUNCATE together ('all').
    """
    cases = [case for case in results if case[0] == OURS]
    comparisons = []
    for _, strategy, quantile in cases:
        ours = results[OURS, strategy, quantile]
        for method in dict.fromkeys(method for method, *_ in results if method != OURS):
            theirs = results[method, strategy, quantile]
            mean, low, high = difference(*_scores(ours, theirs))
            comparisons.append({'method': OURS, 'other': method, 'strategy': strategy, 'budget_quantile': quantile,
                                'n': len(ours), 'difference': mean, 'difference_lo': low, 'difference_hi': high,
                                'score': fmean(each.score for each in ours.values())})
    over_budgets = []
    for wanted in ['all', *dict.fromkeys(strategy for _, strategy, _ in cases)]:
        pairs = [_scores(results[case], results[plain, case[1], case[2]]) for case in cases
                 if wanted == case[1] or wanted == 'all' and case[1] != Strategy.SKIP_NEXT.name]
        ours, theirs = ([fmean(scores) for scores in zip(*side, strict=True)] for side in zip(*pairs, strict=True))
        mean, low, high = difference(ours, theirs)
        over_budgets.append({'method': OURS, 'other': plain, 'strategy': wanted, 'n': len(ours), 'difference': mean,
                             'difference_lo': low, 'difference_hi': high})
    return {'comparisons': comparisons, 'over_budgets': over_budgets, 'bars': _bars(results, comparisons, over_budgets)}


def _scores(ours: Mapping[str, Held], theirs: Mapping[str, Held]) -> tuple[list[float], list[float]]:
    """Return the scores of the same tasks in the same order."""
    return [each.score for each in ours.values()], [theirs[key].score for key in ours]


def _bars(results: Results, comparisons: list[dict], over_budgets: list[dict]) -> list[dict]:
    """Return each bar: a sentence, the measured value and whether it is met."""
    worst = min((row for row in comparisons if row['other'] != BOUND), key=lambda row: row['difference'])
    all_budgets = over_budgets[0]
    # A late answer of SKIP_NEXT is what its client asked for.
    held = [each for case, by_task in results.items() if case[0] == OURS and case[1] != Strategy.SKIP_NEXT.name
            for each in by_task.values()]
    promised = sum(each.promised for each in held)
    missed = sum(each.missed for each in held) / promised if promised else 0.0
    late = sum(each.late for each in held)
    return [
        {'bar': f'{OURS} is at most {MOST_BELOW} below the best other method at every budget and strategy',
         'value': worst['difference'], 'met': worst['difference'] >= -MOST_BELOW,
         'where': f'{worst["strategy"]}, quantile {worst["budget_quantile"]}, {worst["other"]}'},
        {'bar': f'{OURS} is above {all_budgets["other"]} in the mean over budgets, with its interval above 0',
         'value': all_budgets['difference'], 'met': all_budgets['difference_lo'] > 0,
         'where': f'{all_budgets["difference_lo"]:.3f} to {all_budgets["difference_hi"]:.3f}'},
        {'bar': 'no result is late', 'value': late, 'met': late == 0, 'where': f'{len(held)} goals'},
        {'bar': f'at most {MOST_MISSED:.0%} of the promises are missed', 'value': missed, 'met': missed <= MOST_MISSED,
         'where': f'{promised} promises'}]


def show(rows: list[dict], comparison: dict) -> None:
    """Print the scores of all families by budget, the differences from `quality`, and the bars."""
    methods = list(dict.fromkeys(row['method'] for row in rows))
    found = {(row['method'], row['strategy'], row['budget_quantile']): row for row in rows if row['family'] == 'all'}
    n: dict[str, int] = {}  # tasks; under SKIP_NEXT rows count places in orders of arrival
    for (method, *_), row in found.items():
        n[method] = min(n.get(method, row['n']), row['n'])
    table = Table('strategy', 'budget', *(f'{method}, {n[method]} tasks' for method in methods),
                  title='score of what the client holds (share that came to its end)')
    for strategy, quantile in dict.fromkeys(case[1:] for case in found):
        cells = [found.get((method, strategy, quantile)) for method in methods]
        budget = next(row['budget_s'] for row in cells if row)
        table.add_row(strategy, f'{budget:.2f} s', *(f'{row["score"]:.3f} ({row["completion"]:.0%})' if row else ''
                                                     for row in cells))
    print_table(table)
    for row in comparison.get('over_budgets', ()):
        print(f'{row["strategy"]}: {OURS} - {row["other"]} = {row["difference"]:+.3f} '
              f'({row["difference_lo"]:+.3f} to {row["difference_hi"]:+.3f}) on {row["n"]} tasks')
    for bar in comparison.get('bars', ()):
        print(f'{"met" if bar["met"] else "MISSED"}: {bar["bar"]} ({bar["value"]:.3f}; {bar["where"]})')
