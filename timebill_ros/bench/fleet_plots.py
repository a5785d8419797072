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

"""The picture of `timebill bench fleet`. Only optional_plots.py imports this module: see plots.py."""
from __future__ import annotations

from pathlib import Path

from timebill_ros.bench.plots import COLOURS, plt, save

LINES = {
    'server alone, never canceled': dict(color='black', linestyle=':'),
    'server alone, canceled at the deadline': dict(color='black', linestyle='--'),
    'server, and on board beside it': dict(color=COLOURS['eviction']),
    'the same, and robots back off': dict(color=COLOURS['decode']),
    'on board alone': dict(color='grey', linewidth=1),
}


def fleet(result: dict, path: Path) -> None:
    """Draw the share of answers in time, and that of the server's, by number of robots. `result`: as in the JSON."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.4), layout='constrained', sharey=True)
    for axis, key, title in zip(axes, ('on_time', 'server'), ('whole answers by the deadline',
                                                             'of the server, by the deadline'), strict=True):
        for policy, style in LINES.items():
            rows = [row for row in result['rows'] if row['policy'] == policy]
            axis.plot([row['robots'] for row in rows], [row[key] for row in rows], marker='o', markersize=3,
                      label=policy, **{'linestyle': '-', **style})
        axis.axvline(result['full_at_robots'], color='black', linewidth=0.6)
        axis.text(result['full_at_robots'], 1.02, ' the server is full', fontsize=7)
        axis.set(xscale='log', xlabel='robots', title=title, ylim=(-0.02, 1.08))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel('share of all questions')
    axes[0].legend(fontsize=7, loc='lower left')
    save(figure, path)
