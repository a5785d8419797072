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

"""The sections of docs/results.md on the evaluation, each from its file in results/; generate_docs.py runs this.

A section is written only where its file exists, so that a result shows as soon as it is committed. A new one is a
function that makes a section's text of what the file holds, and its row in SECTIONS. Standard library only.
"""
from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import offboard_tables
import prefix_tables
import speed_tables
import structured_tables
from results_tables import RESULTS, percent, table

OURS, BOUND, TRUNCATE, SKIP_NEXT = 'quality', 'oracle', 'TRUNCATE', 'SKIP_NEXT'
ENGINES = (OURS, 'in_place', 'paper', BOUND)  # methods that promise: they run live
NONE = ('No results of these benches are committed yet. [quality.md](quality.md#the-papers-tables-and-figures) has the '
        'commands.')


@dataclass(frozen=True)
class Section:
    """One section: `text` makes it of what results/`file`.json holds; `command` makes the file."""

    file: str
    heading: str
    command: str
    text: Callable[[dict], str]
    pictures: str = ''  # a pattern of files in results/

    def written(self, results: Path) -> str:
        """Return the section, with its heading and the pictures that there are."""
        name = f'{self.file}.json'
        parts = [f'### {self.heading}', f'`{self.command}`; [results/{name}](../results/{name}).',
                 self.text(json.loads((results / name).read_text()))]
        parts += [f'![{self.heading}](../results/{picture.name})'
                  for picture in (sorted(results.glob(self.pictures)) if self.pictures else ())]
        return '\n\n'.join(parts)


def interval(value: float, low: float, high: float, digits: int = 3, sign: str = '') -> str:
    """Return a value with its interval: '0.412 (0.300 to 0.511)'."""
    return f'{value:{sign}.{digits}f} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})'


def named(model: str) -> str:
    """Return what a model is called here: the embedded one lies in a folder called model."""
    return 'embedded' if model == 'model' else model


def where(machine: dict) -> str:
    """Return on what a result was measured, in words."""
    model = f'{named(machine["model"])} in {machine["dtype"]} on ' if 'model' in machine else ''
    return f'{model}{machine["device"]}, {machine["date"][:10]}'


# -- budgets ----------------------------------------------------------------------------------------------------------

def deadlines(data: dict) -> str:
    """Return the tables of results/deadlines.json, for one test bed after the other."""
    parts = []
    for bed, facts in data['test_beds'].items():
        rows = [row for row in data['rows'] if row['test_bed'] == bed]
        model, tasks = bed.split(', ', 1)
        parts.append(f'**{named(model)}, {tasks}.** {of_one_bed(facts, rows)}')
    return '\n\n'.join(parts)


def real_model(data: dict) -> str:
    """Return the tables of results/real_model.json."""
    return of_one_bed(data, data['rows'])


def of_one_bed(facts: dict, rows: list[dict]) -> str:
    """Return what was measured on one test bed: scores, differences, promises, families and bars."""
    rows = facts.get('rows_of_live_tasks') or rows  # every method on the same tasks
    whole = [row for row in rows if row['family'] == 'all']
    live = facts.get('how', {})
    shared = '' if not live.get('live_answers') else (
        f' Of {live["live_answers"]:,} live answers {live["live_runs"]:,} were run; the others must be the same '
        '([quality.md](quality.md#how-it-is-measured)).')
    parts = [f'{facts["n"]:,} tasks, {facts["n_live"]:,} of them answered live; {where(facts["machine"])}.{shared} '
             'Score with its 95 % interval, and the share of answers that came to their end:']
    for strategy in dict.fromkeys(row['strategy'] for row in whole):
        parts.append(scores([row for row in whole if row['strategy'] == strategy], strategy))
    if facts.get('comparisons'):
        parts.append(f'`{OURS}` against the others, on the same tasks (above 0: it is better). The row of the '
                     f'{BOUND} is the distance to what could be reached:')
        parts.append(differences(facts['comparisons']))
    if promises_of := [method for method in ENGINES if any(row['method'] == method for row in whole)]:
        parts += ['What was promised, how many of these answers did not come to their end in time, results that came '
                  'late, and the mean share evicted:', promises(whole, promises_of)]
    parts += ['Mean score over the budgets, by family, under TRUNCATE:', by_family(rows)]
    parts += ['\n'.join(f'- {"Met" if bar["met"] else "Missed"}: {bar["bar"]} ({bar["value"]:.3f}; {bar["where"]}).'
                        for bar in facts.get('bars', ()))]
    return '\n\n'.join(part for part in parts if part)


def _budgets(rows: Sequence[dict]) -> dict[float, float]:
    """Return the seconds of every budget, by quantile."""
    return {row['budget_quantile']: row['budget_s'] for row in sorted(rows, key=lambda row: row['budget_quantile'])}


def scores(rows: list[dict], strategy: str) -> str:
    """Return scores and completion under one strategy: a row for each method, a column for each budget."""
    budgets = _budgets(rows)
    found = {(row['method'], row['budget_quantile']): row for row in rows}

    def cell(row: dict | None) -> str:
        return '' if row is None else \
            f'{interval(row["score"], row["score_lo"], row["score_hi"])}, {percent(row["completion"])}'

    methods = dict.fromkeys(method for method, _ in found)
    return table([strategy, 'jobs' if strategy == SKIP_NEXT else 'tasks', *(f'{s:.2f} s' for s in budgets.values())],
                 [[method, next(row['n'] for row in rows if row['method'] == method),
                   *(cell(found.get((method, quantile))) for quantile in budgets)] for method in methods])


def differences(comparisons: list[dict]) -> str:
    """Return by how much our scores are above the others': a row for each strategy and method, a column a budget."""
    quantiles = sorted({row['budget_quantile'] for row in comparisons})
    found = {(row['strategy'], row['other'], row['budget_quantile']): row for row in comparisons}

    def cell(row: dict | None) -> str:
        return '' if row is None else interval(row['difference'], row['difference_lo'], row['difference_hi'], sign='+')

    return table(['strategy', 'other', *(f'quantile {quantile:g}' for quantile in quantiles)],
                 [[strategy, other, *(cell(found.get((strategy, other, quantile))) for quantile in quantiles)]
                  for strategy, other in dict.fromkeys(key[:2] for key in found)], left=2)


def promises(rows: list[dict], methods: Sequence[str]) -> str:
    """Return promises and lateness of the methods that promise: a row for each strategy and budget."""
    found = {(row['strategy'], row['budget_s'], row['method']): row for row in rows}
    header = ['strategy', 'budget']
    for method in methods:
        header += [f'{method}: promised', 'missed', 'late', 'evicted']

    def cells(row: dict | None) -> list[str]:
        return [''] * 4 if row is None else [f'{row["promised"]} of {row["n"]}', str(row['missed']), str(row['late']),
                                             percent(row['eviction_ratio'])]

    return table(header, [[strategy, f'{budget:.2f} s', *(cell for method in methods for cell in
                                                         cells(found.get((strategy, budget, method))))]
                          for strategy, budget in dict.fromkeys(key[:2] for key in found)], left=2)


def by_family(rows: list[dict]) -> str:
    """Return mean scores over the budgets under TRUNCATE: a row for each method, a column for each family."""
    own = [row for row in rows if row['strategy'] == TRUNCATE]
    families = [family for family in dict.fromkeys(row['family'] for row in own) if family != 'all']

    def cell(method: str, family: str) -> str:
        values = [row['score'] for row in own if (row['method'], row['family']) == (method, family)]
        return f'{sum(values) / len(values):.3f}' if values else ''

    return table(['', *families], [[method, *(cell(method, family) for family in families)]
                                   for method in dict.fromkeys(row['method'] for row in own)])


def reversible(data: dict) -> str:
    """Return what evictions that can be taken back change, over all budgets and at each."""
    mean = {row['strategy']: row for row in data['over_budgets']}['all']
    told = interval(mean['difference'], mean['difference_lo'], mean['difference_hi'], sign='+')
    return (f'Mean score over the budgets and both strategies, each task beside itself: `{OURS}` - `{mean["other"]}` = '
            f'{told}.\n\n{of_one_bed(data, data["rows"])}')


def k_sweep(data: dict) -> str:
    """Return score and completion by pessimistic factor, beside what is adapted."""
    rows = [row for row in data['rows'] if row['family'] == 'all']
    budgets = _budgets(rows)
    found = {(row['method'], row['budget_quantile']): row for row in rows}
    names = {row['method']: f'k = {row["k"]}' if row['k'] else row['method'] for row in rows}
    if OURS in names:
        names[OURS] = 'adaptive (the default)'
    header = ['']
    for seconds in budgets.values():
        header += [f'{seconds:.2f} s: score', 'completion', 'promised', 'missed']

    def cells(row: dict | None) -> list[str]:
        return [''] * 4 if row is None else [interval(row['score'], row['score_lo'], row['score_hi']),
                                             percent(row['completion']), percent(row['promised'] / row['n']),
                                             str(row['missed'])]

    order = sorted(names, key=lambda method: (names[method][:1] == 'k', names[method]))
    return (f'{data["n_live"]:,} tasks under KILL; {where(data["machine"])}.\n\n'
            + table(header, [[names[method], *(cell for quantile in budgets
                                               for cell in cells(found.get((method, quantile))))] for method in order]))


# -- times ------------------------------------------------------------------------------------------------------------

def wcet(data: dict) -> str:
    """Return how often whole requests took longer than their estimated worst case."""
    rows = [('requests', f'{data["n"]:,}'),
            ('took longer than their estimated WCET', f'{data["violations"]} '
             f'({percent(data["violation_rate"], 1)}, 95 % interval {percent(data["interval"][0], 1)} to '
             f'{percent(data["interval"][1], 1)})'),
            ('aimed at (epsilon)', percent(data['epsilon'])),
            ('error of the estimated prefill, median', percent(data['prefill_error'], 1)),
            ('error of the estimated step, median', percent(data['step_error'], 1)),
            ('estimated WCET over what was measured, median', f'{data["wcet_over_took"]:.2f}')]
    return f'{data["tasks"]}; {where(data["machine"])}.\n\n{table(["", ""], rows)}'


def other_lengths(data: dict) -> str:
    """Return how well a profile foretold times at other lengths, and how much visits of one length differ."""
    rows = []
    for row in data['rows']:
        by_length: dict[int, list[float]] = {}
        for n, ratio in row['ratios']:
            by_length.setdefault(n, []).append(ratio)
        spread = sorted(max(ratios) / min(ratios) for ratios in by_length.values())
        rows.append((row['kind'], str(row['lengths']), percent(row['mape'], 1), f'{row["residual_p50"]:.2f}',
                     f'{row["residual_p99"]:.2f}', f'{spread[len(spread) // 2]:.2f}'))
    return (f'The profile was measured by another process just before. {where(data["machine"])}.\n\n'
            + table(['', 'lengths', 'mean error', 'measured / estimated, p50', 'p99',
                     'slowest / quickest visit of a length, median'], rows))


def parallel(data: dict) -> str:
    """Return the time from a prompt to its predicted length: a row for each way, a column for each prompt length."""
    lengths = sorted({row['n_x'] for row in data['rows']})
    found = {(row['way'], row['n_x']): row for row in data['rows']}
    return (f'Milliseconds, median of {data["rounds"]} rounds; in brackets, above prefill alone. '
            f'{where(data["machine"])}.\n\n'
            + table(['', *(f'{n:,} tokens' for n in lengths)],
                    [[way, *(f'{1e3 * row["p50_s"]:.1f} ({1e3 * row["above_prefill_s"]:+.1f})'
                             for row in (found[way, n] for n in lengths))]
                     for way in dict.fromkeys(way for way, _ in found)]))


SECTIONS = (
    Section('deadlines', 'What a deadline leaves of answers',
            'timebill bench deadlines`, and with `--model smollm2 --tasks FILE', deadlines, 'deadlines_*.png'),
    Section('real_model', 'A real model at five budgets', 'timebill bench budgets --model smollm2 --tasks FILE',
            real_model),
    Section('k_sweep', 'The pessimistic factor', 'timebill bench k-sweep', k_sweep, 'k_sweep.png'),
    Section('reversible', 'Evictions that can be taken back', 'timebill bench reversible', reversible),
    Section('wcet', 'Estimated worst cases', 'timebill bench wcet --model smollm2 --tasks FILE', wcet, 'wcet.png'),
    Section('execution_time_smollm2', 'Times at lengths that are not those of the profile',
            'timebill bench execution-time --model smollm2', other_lengths),
    Section('speed', 'Speed beside other runtimes', 'timebill bench decode --speed smollm2 --only-speed --gguf FILE',
            lambda data: f'{speed_tables.speed(data["model"])}\n\n{where(data["machine"])}.'),
    Section('parallel', 'Prediction beside prefill', 'timebill bench parallel', parallel, 'parallel.png'),
    Section('prefix', 'Prompts that begin like earlier ones', 'timebill bench prefix --model smollm2',
            lambda data: prefix_tables.prefix(data, where(data))),
    Section('prefix_near', 'The same, where rounding may change a token',
            'timebill bench prefix --model smollm2 --near --minutes 18',
            lambda data: prefix_tables.prefix(data, where(data))),
    Section('load_prefixes', 'Thousands of goals of mixed prefixes', 'timebill bench load --prefixes',
            lambda data: prefix_tables.load(data, where(data))),
    Section('structured', 'Answers that have a form at any cut', 'timebill bench structured',
            lambda data: structured_tables.structured(data, where(data['machine'])), 'structured.png'),
    Section('structured_mask', 'The wait for a mask', 'timebill bench structured --mask',
            lambda data: structured_tables.mask(data, where(data['machine']))),
    Section('offboard', 'A server besides, on a network that fails',
            'timebill bench offboard --model smollm2 --tasks FILE --gguf FILE --server-threads 2 --server-speed 10 '
            '--budgets 0.5 4', offboard_tables.offboard))


def evaluation(results: Path = RESULTS) -> str:
    """Return the sections whose files are in `results`, or a sentence where there is none."""
    return '\n\n'.join(section.written(results) for section in SECTIONS
                       if (results / f'{section.file}.json').exists()) or NONE


BLOCKS: dict[str, Callable[[], str]] = {'evaluation': evaluation}
