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

"""Pictures of the evaluation, as the paper draws them. Only optional_plots.py imports this module: see plots.py."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from timebill_ros.bench.plots import LINES, plt, save

# The project's own methods are drawn strong, the fixed ones thin, and the bound dashed.
STYLES = {'quality': {'color': '#D55E00', 'linewidth': 2.4, 'marker': 'o'},
          'paper': {'color': '#0072B2', 'linewidth': 2.4, 'marker': 's'},
          'oracle': {'color': 'black', 'linewidth': 1.2, 'linestyle': '--'},
          'vanilla': {'color': '#666666', 'linewidth': 1.6, 'marker': 'x'}}
PANELS = (('score', 'mean score'), ('completion', 'share that came to its end'))


def style(method: str, others: Sequence[str]) -> dict:
    """Return how a method's line is drawn; `others`: those without a style of their own."""
    if method in STYLES:
        return STYLES[method]
    return {'color': LINES[(others.index(method) + 2) % len(LINES)], 'linewidth': 1.0, 'marker': '.'}


def deadlines(rows: list[dict], machine: dict, path: Path) -> None:
    """Draw score and completion over the budget, a column for each strategy; `rows`: of one test bed."""
    rows = [row for row in rows if row['family'] == 'all']
    strategies, methods = (list(dict.fromkeys(row[name] for row in rows)) for name in ('strategy', 'method'))
    others = [method for method in methods if method not in STYLES]
    figure, axes = plt.subplots(len(PANELS), len(strategies), figsize=(4.4 * len(strategies), 7.2), sharex=True,
                                sharey='row', layout='constrained', squeeze=False)
    for i, (column, strategy) in enumerate(zip(axes.T, strategies, strict=True)):
        for axis, (value, title) in zip(column, PANELS, strict=True):
            for method in methods:
                own = sorted((row for row in rows if (row['method'], row['strategy']) == (method, strategy)),
                             key=lambda row: row['budget_s'])
                budgets = [row['budget_s'] for row in own]
                axis.plot(budgets, [row[value] for row in own], label=method, **style(method, others))
                if value == 'score' and method in ('quality', 'vanilla'):
                    axis.fill_between(budgets, *([row[edge] for row in own] for edge in ('score_lo', 'score_hi')),
                                      color=STYLES[method]['color'], alpha=0.12, linewidth=0)
            axis.set(ylabel='' if i else title, ylim=(0, None))
            axis.grid(alpha=0.3)
        column[0].set_title(strategy)
        column[-1].set_xlabel('time budget T, s')
    axes[0][-1].legend(fontsize=8, loc='upper left', bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(f'{rows[0]["test_bed"]}; {machine["device"]}', fontsize=10)
    save(figure, path)


def k_sweep(rows: list[dict], machine: dict, path: Path) -> None:
    """Draw score and completion over k, a column for each budget, with the default's as a level."""
    rows = [row for row in rows if row['family'] == 'all']
    quantiles = list(dict.fromkeys(row['budget_quantile'] for row in rows))
    figure, axes = plt.subplots(1, len(quantiles), figsize=(5.4 * len(quantiles), 3.8), layout='constrained',
                                squeeze=False)
    for axis, quantile in zip(axes[0], quantiles, strict=True):
        own = sorted((row for row in rows if row['budget_quantile'] == quantile and row['k']), key=lambda row: row['k'])
        default = next(row for row in rows if row['budget_quantile'] == quantile and row['method'] == 'quality')
        for (value, title), colour in zip(PANELS, LINES, strict=False):
            axis.plot([row['k'] for row in own], [row[value] for row in own], 'o-', color=colour, label=f'{title}, k')
            axis.axhline(default[value], color=colour, linestyle='--', label=f'{title}, adaptive')
        axis.set(xlabel='pessimistic factor k', ylim=(0, None), title=f'T = {default["budget_s"]:.2f} s, KILL')
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    figure.suptitle(f'{machine["model"]}, {own[0]["n"]} tasks; {machine["device"]}', fontsize=10)
    save(figure, path)


def wcet(rows: list[dict], machine: dict, path: Path) -> None:
    """Draw what requests took, in the order of it, with what was estimated; `rows` as in wcet.json."""
    rows = sorted(rows, key=lambda row: row['took_s'])
    figure, axis = plt.subplots(figsize=(8, 4), layout='constrained')
    places = range(len(rows))
    axis.plot(places, [row['wcet_s'] for row in rows], '.', markersize=4, color=LINES[1], label='estimated WCET')
    axis.plot(places, [row['estimated_s'] for row in rows], '.', markersize=4, color=LINES[0],
              label='estimated time, predicted length')
    axis.plot(places, [row['took_s'] for row in rows], color='black', linewidth=1.6, label='measured')
    axis.set(xlabel='requests, in the order of their times', ylabel='s', ylim=(0, None),
             title=f'{machine["model"]}; {machine["device"]}')
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    save(figure, path)


def parallel(rows: list[dict], machine: dict, path: Path) -> None:
    """Draw the time until a plan can be made over the prompt's length, a line for each way of predicting."""
    figure, axis = plt.subplots(figsize=(6.4, 4), layout='constrained')
    for i, way in enumerate(dict.fromkeys(row['way'] for row in rows)):
        own = [row for row in rows if row['way'] == way]
        axis.plot([row['n_x'] for row in own], [row['p50_s'] * 1e3 for row in own], marker='osD^v'[i % 5],
                  color=LINES[i % len(LINES)], label=way)
    axis.set(xlabel='prompt tokens $N_x$', ylabel='ms from the prompt to its prediction, median', xlim=(0, None),
             ylim=(0, None), title=f'{machine["model"]}; {machine["device"]}')
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    save(figure, path)
