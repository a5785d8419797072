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

"""The picture of `timebill bench structured`. Only optional_plots.py imports this module: see plots.py."""
from __future__ import annotations

from pathlib import Path

from timebill_ros.bench.plots import COLOURS, LINES, MARKERS, plt, save
from timebill_ros.bench.structured_rows import ALL, KEPT, KINDS, MISSING, NO_TIME, UNMET, WHOLE

FILLS = {WHOLE: COLOURS['decode'], KEPT: COLOURS['prefill'], MISSING: '#BBBBBB', NO_TIME: '#777777',
         UNMET: COLOURS['eviction']}


def structured(result: dict, path: Path) -> None:
    """Draw what became of goals, and how much of the texts is the model's own, by budget. `result`: as in the JSON."""
    ways = list(dict.fromkeys(row['on_cut'] for row in result['budgets']))
    figure, axes = plt.subplots(len(ways), 2, figsize=(11, 3.8 * len(ways)), layout='constrained', squeeze=False)
    for way, (ended, own) in zip(ways, axes, strict=True):
        rows = [row for row in result['budgets'] if row['on_cut'] == way]
        whole = [row for row in rows if row['schema'] == ALL and row['n']]
        below = [0.0] * len(whole)
        for kind in KINDS:
            shares = [row[kind.replace(' ', '_')] / row['n'] for row in whole]
            ended.bar([row['from'] for row in whole], shares, [row['to'] - row['from'] for row in whole], below,
                      align='edge', color=FILLS[kind], edgecolor='white', linewidth=0.5, label=kind)
            below = [a + b for a, b in zip(below, shares, strict=True)]
        ended.set(title=f'on_cut: {way}', ylabel='share of goals', ylim=(0, 1))
        schemas = [schema for schema in dict.fromkeys(row['schema'] for row in rows) if schema != ALL]
        for schema, colour, marker in zip(schemas, LINES, MARKERS, strict=False):
            points = [row for row in rows if row['schema'] == schema and row['own_share'] is not None]
            own.plot([(row['from'] + row['to']) / 2 for row in points], [row['own_share'] for row in points],
                     color=colour, marker=marker, markersize=4, label=schema)
        own.set(title=f'on_cut: {way}; texts that were cut and kept', ylim=(0, 1.02),
                ylabel="share of characters that are the model's")
        for axis in (ended, own):
            axis.set_xlabel("budget, as a share of the time without hurry")
            axis.xaxis.set_major_formatter('{x:.0%}')
            axis.yaxis.set_major_formatter('{x:.0%}')
            axis.legend(fontsize=8, loc='lower right')
    save(figure, path)
