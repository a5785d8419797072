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

"""Pictures of profiles, of the demonstration's goals and of every bench, drawn by matplotlib without a display.

Only optional_plots.py imports this module, since matplotlib may be missing.
"""
from __future__ import annotations

import math
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)
import numpy as np  # noqa: E402

from timebill_ros.timing.profile import Profile  # noqa: E402

# Okabe and Ito's palette: told apart with any colour vision.
COLOURS = {'queue': '#BBBBBB', 'prefill': '#0072B2', 'prediction': '#56B4E9', 'eviction': '#D55E00',
           'decode': '#009E73'}
PARTS = ('queue', 'prefill', 'eviction', 'decode')  # of a goal's time, one after the other
FAR = 2.0  # a deadline more than so many times beyond the longest answer is written, not drawn
LINES = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')
MARKERS = 'osD^vP'
TITLES = {'prefill': ('prefill', 'prompt tokens $N_x$'), 'step': ('one decode step', 'cache entries $N_{kv}$'),
          'eviction': ('scoring and eviction', 'prompt tokens $N_x$'),
          'prediction': ('length prediction, prefill beside it', 'predictor tokens $N_p$')}


def save(figure, path: Path) -> None:
    """Write a figure, and forget it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def profile(profile: Profile, path: Path) -> None:
    """Draw measured points and fitted curves, a panel per kind."""
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
    save(figure, path)


def timeline(goals: list[dict], path: Path) -> None:
    """Draw one row per goal: where its time went, and its deadline. `goals` as in results.json, times in seconds.

    A deadline far beyond every answer is written, so that it does not take the width from everything else.
    """
    figure, axis = plt.subplots(figsize=(10, 0.42 * len(goals) + 1.6), layout='constrained')
    longest = max(sum(goal['timing'][f'{part}_s'] or 0.0 for part in PARTS) for goal in goals)
    near = [goal['budget_s'] for goal in goals if goal['budget_s'] <= FAR * longest]
    end = 1.2 * max(longest, *near) if near else 1.2 * longest or 1.0
    labels = []
    for row, goal in enumerate(goals):
        start = 0.0
        for part in PARTS:
            seconds = goal['timing'][f'{part}_s'] or 0.0
            axis.barh(row, seconds, left=start, height=0.62, color=COLOURS[part])
            if part == 'prefill' and goal['timing']['prediction_s']:
                axis.barh(row + 0.2, goal['timing']['prediction_s'], left=start, height=0.2,
                          color=COLOURS['prediction'])
            start += seconds
        if goal['budget_s'] <= end:
            axis.plot([goal['budget_s']] * 2, [row - 0.42, row + 0.42], color='black', linewidth=2)
            axis.text(max(goal['budget_s'], start), row, f'  {goal["finish_reason"]}', va='center', fontsize=7)
        else:
            axis.text(start, row, f'  {goal["finish_reason"]}, deadline at {goal["budget_s"]:g} s', va='center',
                      fontsize=7)
        labels.append(f'{goal["prompt"]}  {goal["overrun_strategy"]}  {goal["verdict"]}'
                      + (f' {goal["eviction_ratio"]:.0%}' if goal['eviction_ratio'] else ''))
    axis.set_yticks(range(len(goals)), labels, fontsize=7)
    axis.set_ylim(len(goals) - 0.4, -0.6)  # the first goal on top
    axis.set(xlabel='seconds since release', title='Where the time of each goal went')
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    handles.append(plt.Line2D([], [], color='black', linewidth=2))
    figure.legend(handles, [*COLOURS, 'deadline'], loc='outside lower center', fontsize=8, ncols=len(handles))
    axis.set_xlim(0, end)
    axis.grid(axis='x', alpha=0.3)
    save(figure, path)


def quality(rows: list[dict], path: Path) -> None:
    """Draw the score against the share evicted: of all answers by scorer and weights, and the first's by family.

    `rows` as in quality.json: variant, scorer, eviction_ratio, family, n, scores by name and their intervals. The first
    score is drawn.
    """
    score = next(name for name in rows[0] if f'{name}_interval' in rows[0])
    rows = [{**row, 'line': ', '.join(filter(None, (row['scorer'], row.get('variant', ''))))} for row in rows]
    first = rows[0]['line']
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout='constrained', sharey=True)
    panels = (('line', 'family', 'all', 'all families'), ('family', 'line', first, f'{first}, by family'))
    for axis, (line, fixed, value, title) in zip(axes, panels, strict=True):
        chosen = [row for row in rows if row[fixed] == value and row[line] != 'all']
        for name, colour, marker in zip(dict.fromkeys(row[line] for row in chosen), LINES, MARKERS, strict=False):
            points = sorted((row for row in chosen if row[line] == name), key=lambda row: row['eviction_ratio'])
            ratios = [row['eviction_ratio'] for row in points]
            low, high = zip(*(row[f'{score}_interval'] for row in points), strict=True)
            axis.fill_between(ratios, low, high, color=colour, alpha=0.15, linewidth=0)
            axis.plot(ratios, [row[score] for row in points], color=colour, marker=marker, markersize=5,
                      label=name if line == 'line' else f'{name} ({points[0]["n"]})')
        axis.set(title=f'{title} ({max(row["n"] for row in chosen)} tasks)' if line == 'line' else title,
                 xlabel='share of the prompt cache evicted', ylim=(0, 1.02))
        axis.xaxis.set_major_formatter('{x:.0%}')
        axis.yaxis.set_major_formatter('{x:.0%}')
        axis.legend(loc='lower left', fontsize=9)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f'{score.replace("_", " ")}, 95 % interval')
    save(figure, path)


def miss_rate(rows: list[dict], trace: dict, path: Path) -> None:
    """Draw miss rates by condition and method, and one adaptive replay across the slow-down, request by request."""
    figure, (bars, slack, tracked) = plt.subplots(3, 1, figsize=(10, 10), layout='constrained')
    conditions = list(dict.fromkeys(row['condition'] for row in rows))
    methods = list(dict.fromkeys(row['method'] for row in rows))
    width = 0.8 / len(methods)
    colours = (*LINES, '#999999')
    for i, method in enumerate(methods):
        mine = {row['condition']: row for row in rows if row['method'] == method}
        places = [j + width * (i - (len(methods) - 1) / 2) for j in range(len(conditions))]
        rates = [mine[condition]['miss_rate'] or 0.0 for condition in conditions]
        bars.bar(places, rates, width=0.9 * width, color=colours[i % len(colours)], label=method)
        for place, rate, condition in zip(places, rates, conditions, strict=True):
            bars.text(place, rate, f'{mine[condition]["share_promised"]:.0%}', ha='center', va='bottom', fontsize=6)
    bars.axhline(rows[0]['epsilon'], color='black', linewidth=0.8, linestyle='--')
    bars.set_xticks(range(len(conditions)), conditions)
    bars.margins(y=0.2)  # room for the legend
    bars.set(ylabel='misses per promise', title='Miss rate (numbers: share of requests that were promised)')
    bars.legend(ncols=len(methods), fontsize=8)
    requests = range(len(trace['slack_s']))
    kinds = (('promise kept', True, True, COLOURS['decode']), ('promise missed', True, False, COLOURS['eviction']),
             ('no promise', False, None, '#BBBBBB'))
    for label, promised, in_time, colour in kinds:
        chosen = [i for i in requests if trace['promised'][i] == promised and in_time in (None, trace['in_time'][i])]
        slack.plot(chosen, [trace['slack_s'][i] for i in chosen], '.', color=colour, label=label)
    slack.set(ylabel='slack at the end, s', title='One replay of adaptive; negative: time that was missing')
    tracked.plot(requests, trace['timing_factor'], color=COLOURS['prefill'], label='timing factor')
    tracked.plot(requests, [f * b for f, b in zip(trace['timing_factor'], trace['time_bound'], strict=True)],
                 color=COLOURS['eviction'], linewidth=0.8, label='with the time bound')
    tracked.set(xlabel='request', ylabel='times profiled')
    for axis in (slack, tracked):
        axis.axvline(trace['change_at'], color='black', linewidth=0.8, linestyle='--')
        axis.legend(fontsize=8, loc='upper left')
        axis.grid(alpha=0.3)
    save(figure, path)


def knobs(rows: list[dict], path: Path) -> None:
    """Draw each planner's mean score, and how often it turned which knob, over the time left for decoding."""
    figure, (score, chosen) = plt.subplots(1, 2, figsize=(11, 4.2), layout='constrained')
    for i, method in enumerate(dict.fromkeys(row['method'] for row in rows)):
        mine = [row for row in rows if row['method'] == method]
        score.plot([row['budget_s'] for row in mine], [row['mean_score'] for row in mine], marker=MARKERS[i],
                   color=LINES[i], label=method)
        for style, name in (('-', 'evicted'), ('--', 'cut'), (':', 'other weights')):
            chosen.plot([row['budget_s'] for row in mine], [row['shares'][name] for row in mine], style,
                        color=LINES[i], label=f'{method}: {name}')
    score.set(xlabel='time left for decoding, s', ylabel='step accuracy, cut answers as they are', xscale='log')
    chosen.set(xlabel='time left for decoding, s', ylabel='share of requests', xscale='log')
    for axis in (score, chosen):
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    save(figure, path)


def execution_time(rows: list[dict], path: Path) -> None:
    """Draw measured over estimated time of held-out lengths, by kind and condition."""
    kinds = list(dict.fromkeys(row['kind'] for row in rows))
    figure, axes = plt.subplots(1, len(kinds), figsize=(4.2 * len(kinds), 3.6), layout='constrained', squeeze=False)
    for axis, kind in zip(axes[0], kinds, strict=True):
        for i, row in enumerate(row for row in rows if row['kind'] == kind):
            lengths, ratios = np.array(row['ratios'], dtype=float).T
            axis.plot(lengths, ratios, MARKERS[i], markersize=3, alpha=0.6, color=LINES[i],
                      label=f'{row["condition"]}, mean error {row["mape"]:.1%}')
        axis.axhline(1.0, color='black', linewidth=0.8)
        axis.set(title=TITLES[kind][0], xlabel=TITLES[kind][1], ylabel='measured / estimated', xscale='log')
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    save(figure, path)


def load(lateness_s: list[float], samples: list[dict], start_s: float, path: Path) -> None:
    """Draw how late results were at their clients (negative: early), and the processes' memory over time."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout='constrained')
    values = np.clip(np.array(lateness_s) * 1e3, -200, 120)
    left.hist(values, bins=80, color=COLOURS['prefill'])
    for at, label in ((0, 'deadline'), (20, '20 ms'), (100, '100 ms')):
        left.axvline(at, color=COLOURS['eviction'], linewidth=1, linestyle='-' if at == 0 else ':')
        left.annotate(label, (at, 1.0), xycoords=('data', 'axes fraction'), fontsize=7, rotation=90, va='top')
    left.set(yscale='log', xlabel='result at the client, ms after the deadline (ends clipped)', ylabel='goals',
             title=f'{len(values)} goals of KILL and TRUNCATE')
    for name, colour in (('node', COLOURS['prefill']), ('worker', COLOURS['decode'])):
        rows = [row for row in samples if f'{name}_mb' in row]
        right.plot([(row['at_s'] - start_s) / 60 for row in rows], [row[f'{name}_mb'] for row in rows], '.',
                   markersize=2, color=colour, label=f'{name}, resident MB')
    right.set(xlabel='minutes', ylabel='MB', ylim=(0, None), title='memory; each gap is a worker lost')
    right.legend(fontsize=8)
    right.grid(alpha=0.3)
    save(figure, path)


def utilisation(rows: list[dict], path: Path) -> None:
    """Draw the share of goals on time and the mean score over the offered load.

    Each mix of budgets has its panels, each policy a line.
    """
    mixes, policies = (list(dict.fromkeys(row[key] for row in rows)) for key in ('budgets', 'policy'))
    figure, axes = plt.subplots(len(mixes), 2, figsize=(10, 3.8 * len(mixes)), layout='constrained', squeeze=False)
    for mix, panels in zip(mixes, axes, strict=True):
        for axis, (name, title) in zip(panels, (('on_time', 'share of goals on time'),
                                                ('score', 'mean score (late: 0)')), strict=True):
            for policy, colour, marker in zip(policies, LINES, MARKERS, strict=False):
                own = [row for row in rows if (row['policy'], row['budgets']) == (policy, mix)]
                loads, means = [row['offered_load'] for row in own], np.array([row[name]['mean'] for row in own])
                bounds = np.array([row[name]['interval'] for row in own]).T
                axis.errorbar(loads, means, yerr=np.abs(bounds - means), color=colour, marker=marker, capsize=2,
                              label=policy)
            axis.set(xlabel='offered load (arrival rate x mean unhurried time)', title=f'{title}, {mix} budgets',
                     ylim=(0, 1.02))
            axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    save(figure, path)


def device(found: list[dict], path: Path) -> None:
    """Draw, for each shape, measured steps over cache entries and their fit, and prefill; `found` as in the JSON."""
    figure, axes = plt.subplots(2, len(found), figsize=(4.6 * len(found), 7), layout='constrained', squeeze=False)
    for (steps, prefill), one in zip(axes.T, found, strict=True):
        for axis, kind in ((steps, 'step'), (prefill, 'prefill')):
            lengths, seconds = np.array(one['points'][kind], dtype=float).T
            axis.plot(lengths, seconds * 1e3, '.', color='#999999', label='measured')
            axis.set(xlabel=TITLES[kind][1], ylabel='ms', xlim=(0, None), ylim=(0, None))
            axis.grid(alpha=0.3)
        for method, colour in (('model.generate', COLOURS['eviction']), ('timebill', COLOURS['prefill'])):
            rows = [row for row in one['decode'] if row['method'] == method]
            steps.plot([row['cache_tokens'] * (1 - row['eviction_ratio']) for row in rows],
                       [row['median_ms'] for row in rows], 'o', color=colour, markersize=5,
                       label=f'{method}, in its loop')
        grid = np.linspace(0, max(n for n, _ in one['points']['step']), 200)
        times = one['times']
        steps.plot(grid, 1e3 * (times['p'] * grid + times['q'] + times['bend'] * np.maximum(0, grid - times['knee'])),
                   color=COLOURS['prefill'], label='fit')
        steps.legend(loc='lower right', fontsize=8)
        steps.set_title(f'{one["shape"]} in {one["dtype"]}: one decode step', fontsize=10)
        prefill.set_title('prefill', fontsize=10)
    save(figure, path)
