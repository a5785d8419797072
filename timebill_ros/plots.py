"""Pictures: of a profile and of a series of goals. matplotlib without a display."""
from __future__ import annotations

import math
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)
import numpy as np  # noqa: E402

from timebill_ros.execution_time import Profile  # noqa: E402

# Okabe and Ito's palette: told apart with any colour vision.
COLOURS = {'queue': '#BBBBBB', 'prefill': '#0072B2', 'prediction': '#56B4E9', 'eviction': '#D55E00',
           'decode': '#009E73'}
TITLES = {'prefill': ('prefill', 'prompt tokens $N_x$'), 'step': ('one decode step', 'cache entries $N_{kv}$'),
          'eviction': ('scoring and eviction', 'prompt tokens $N_x$'),
          'prediction': ('length prediction, prefill beside it', 'predictor tokens $N_p$')}


def _save(figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def profile(profile: Profile, path: Path) -> None:
    """Measured points and fitted curves, a panel per kind."""
    kinds = [kind for kind in TITLES if profile.points.get(kind)]
    figure, axes = plt.subplots(1, len(kinds), figsize=(4.2 * len(kinds), 3.6), layout='constrained', squeeze=False)
    for axis, kind in zip(axes[0], kinds, strict=True):
        lengths, seconds = np.array(profile.points[kind], dtype=float).T
        grid = np.linspace(0, lengths.max(), 200)
        axis.plot(lengths, seconds * 1e3, '.', color='#999999', label='measured')
        axis.plot(grid, [profile.times.estimate(kind, n) * 1e3 for n in grid], color=COLOURS['prefill'],
                  label=f'fit, mean error {profile.fit_errors.get(kind, math.nan):.1%}')
        axis.set(title=TITLES[kind][0], xlabel=TITLES[kind][1], ylabel='ms', xlim=(0, None), ylim=(0, None))
        axis.legend(loc='upper left', fontsize=8)
        axis.grid(alpha=0.3)
    figure.suptitle(f'{profile.identity.device}, {profile.identity.dtype}', fontsize=10)
    _save(figure, path)


def timeline(goals: list[dict], path: Path) -> None:
    """One row per goal: where its time went, and its deadline. `goals` as in results.json, times in seconds."""
    figure, axis = plt.subplots(figsize=(10, 0.42 * len(goals) + 1.6), layout='constrained')
    labels = []
    for row, goal in enumerate(goals):
        start = 0.0
        for part in ('queue', 'prefill', 'eviction', 'decode'):
            seconds = goal['timing'][f'{part}_s'] or 0.0
            axis.barh(row, seconds, left=start, height=0.62, color=COLOURS[part])
            if part == 'prefill' and goal['timing']['prediction_s']:
                axis.barh(row + 0.2, goal['timing']['prediction_s'], left=start, height=0.2,
                          color=COLOURS['prediction'])
            start += seconds
        axis.plot([goal['budget_s']] * 2, [row - 0.42, row + 0.42], color='black', linewidth=2)
        axis.text(goal['budget_s'], row, f'  {goal["finish_reason"]}', va='center', fontsize=7)
        labels.append(f'{goal["prompt"]}  {goal["overrun_strategy"]}  {goal["verdict"]}'
                      + (f' {goal["eviction_ratio"]:.0%}' if goal['eviction_ratio'] else ''))
    axis.set_yticks(range(len(goals)), labels, fontsize=7)
    axis.set_ylim(len(goals) - 0.4, -0.6)  # the first goal on top
    axis.set(xlabel='seconds since release', title='Where the time of each goal went')
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    handles.append(plt.Line2D([], [], color='black', linewidth=2))
    axis.legend(handles, [*COLOURS, 'deadline'], loc='upper right', fontsize=8, ncols=2, bbox_to_anchor=(1.0, 0.9))
    axis.set_xlim(0, max(goal['budget_s'] for goal in goals) * 1.15)
    axis.grid(axis='x', alpha=0.3)
    _save(figure, path)
