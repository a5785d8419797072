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

"""Pictures of predicted lengths. Only optional_plots.py imports this module: see plots.py."""
from __future__ import annotations

from pathlib import Path

from timebill_ros.bench.plots import COLOURS, plt, save

SPLITS = (('matched', COLOURS['prefill']), ('shifted', COLOURS['eviction']))


def length_predictor(result: dict, path: Path) -> None:
    """Draw the errors of every method on each test bed, and how often a response stays within its predicted quantile.

    `result` as in the JSON.
    """
    beds = list(dict.fromkeys(row['bed'] for row in result['rows']))
    reliable = bool(result['reliability'])
    figure, axes = plt.subplots(1, len(beds) + reliable, figsize=(6 * len(beds) + 4.4 * reliable, 5.6),
                                layout='constrained', squeeze=False, width_ratios=[3] * len(beds) + [2] * reliable)
    for axis, bed in zip(axes[0], beds, strict=False):
        _errors(axis, bed, [row for row in result['rows'] if row['bed'] == bed and row['family'] == 'all'])
    if reliable:
        _reliability(axes[0, -1], result['reliability'])
    save(figure, path)


def _errors(axis, bed: str, rows: list[dict]) -> None:
    methods = list(dict.fromkeys(row['method'] for row in rows))
    for offset, (split, colour) in enumerate(SPLITS):
        mae = {row['method']: row['mae'] for row in rows if row['split'] == split}
        places = [i + 0.4 * (offset - 0.5) for i, method in enumerate(methods) if method in mae]
        axis.barh(places, list(mae.values()), height=0.38, color=colour, label=split)
        for place, value in zip(places, mae.values(), strict=True):
            axis.text(value, place, f' {value:.1f}', va='center', fontsize=7)
    axis.set_yticks(range(len(methods)), methods, fontsize=8)
    axis.set_ylim(len(methods) - 0.4, -0.6)  # the first method on top
    axis.set(xlabel='mean absolute error, tokens', title=f'Predicted response length: {bed}')
    axis.legend(loc='lower right', fontsize=8)
    axis.grid(axis='x', alpha=0.3)


def _reliability(axis, found: dict) -> None:
    for split, colour in SPLITS:
        points = found[split]
        levels = [point['level'] for point in points]
        axis.plot(levels, [point['share_interpolated'] for point in points], 'o-', markersize=3, color=colour,
                  label=f'{split}, interpolated')
        axis.plot(levels, [point['share_planned'] for point in points], '--', linewidth=1, color=colour,
                  label=f'{split}, upper edges as plans use them')
    axis.plot([0, 1], [0, 1], color='black', linewidth=0.8)
    axis.set(xlabel='predicted quantile', ylabel='share of responses within it',
             title='Reliability of the bucket classifier', xlim=(0, 1), ylim=(0, 1))
    axis.legend(loc='upper left', fontsize=7)
    axis.grid(alpha=0.3)
