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

"""The tables of docs/results.md and the headline of README.md, as Markdown, from results/*.json.

One function per generated block; BLOCKS names them. Standard library only.
"""
from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / 'results'


def read(name: str):
    """Return what results/<name>.json holds."""
    return json.loads((RESULTS / f'{name}.json').read_text())


def table(header: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """Return a Markdown table; the first `left` columns are aligned left, the others right."""
    lines = ['| ' + ' | '.join(header) + ' |', '|' + '---|' * left + '---:|' * (len(header) - left)]
    return '\n'.join(lines + ['| ' + ' | '.join(map(str, row)) + ' |' for row in rows])


def percent(share: float | None, digits: int = 0) -> str:
    """Return 0.25 as '25 %', and '-' where there is no share, as of promises that nobody made."""
    return '-' if share is None else f'{100 * share:.{digits}f} %'


def demo() -> str:
    """Return the goals of `make demo`, one row each."""
    rows = []
    for r in read('demo/results'):
        finish = r['finish_reason'] if r['error_code'] == 'NONE' else f'{r["finish_reason"]} ({r["error_code"]})'
        evicted = percent(r['eviction_ratio']) if r['eviction_ratio'] is not None else ''
        lengths = f'{r["predicted_tokens"]} / {r["pessimistic_tokens"]} / {r["generated_tokens"]}'
        rows.append((r['prompt'], r['overrun_strategy'], r['verdict'], f'{r["budget_s"]:.3f}',
                     f'{r["response_time_s"]:.3f}', evicted, lengths, finish, percent(r['score'])))
    return table(['prompt', 'strategy', 'verdict', 'budget s', 'response s', 'evicted', 'N_hat / N_W / N', 'finish',
                  'steps right'], rows, left=3)


def method(row: dict) -> str:
    """Return the name of a method, with its threads."""
    return f'{row["method"]}, {row["threads"]} thread{"s" if row["threads"] > 1 else ""}'


def decode() -> str:
    """Return times per token of the embedded model."""
    return table(
        ['', 'cache', 'evicted', 'median ms', 'p99 ms', 'p99.9 ms', 'first ms', 'p99.9 after 3', 'tokens/s',
         'against generate'],
        [(method(r), r['cache_tokens'], percent(r['eviction_ratio']), f'{r["median_ms"]:.3f}', f'{r["p99_ms"]:.3f}',
          f'{r["p99.9_ms"]:.3f}', f'{r["first_ms"]:.3f}', f'{r["settled_p99.9_ms"]:.3f}', f'{r["tokens_per_s"]:.0f}',
          f'{r["speedup"]:.2f}') for r in read('decode')['rows']])


def decode_overhead() -> str:
    """Return what the deadline guard, planning and the machine itself add to a step."""
    data = read('decode')
    lines = [f'- Guard, bookkeeping and plans made again cost {r["us_per_token"]:.0f} µs per token over '
             f'{r["cache_tokens"]:,} entries, against the bare loop.' for r in data['loop_overhead']]
    call, jitter = data['planning_call'], data['jitter']['p99.9_ms']
    lines.append(f'- One planning call takes {call["median_us"]:.0f} µs (p99 {call["p99_us"]:.0f} µs).')

    def step(name: str) -> dict:
        return next(r for r in data['rows'] if r['method'] == name and r['cache_tokens'] == 1000)

    ours, bare = step('timebill'), step('bare loop')
    lines.append(f'- The machine itself: a loop that only looks at the clock for as long as a step takes overran by '
                 f'{jitter:.3f} ms at p99.9. Twice the median step plus that is '
                 f'{2 * ours["median_ms"] + jitter:.3f} ms. Over 1,000 entries the p99.9 of all steps is '
                 f'{ours["p99.9_ms"]:.3f} ms, that of the later ones {ours["settled_p99.9_ms"]:.3f} ms; the later ones '
                 f'of the bare loop take {bare["settled_p99.9_ms"]:.3f} ms.')
    return '\n'.join(lines)


def decode_shape() -> str:
    """Return times per token of a model of a public shape, by precision."""
    return table(
        ['', 'weights', 'ms per token', 'p99 ms', 'p99.9 ms', 'prefill s', 'against generate in float32'],
        [(r['method'], r['precision'], f'{r["median_ms"]:.1f}', f'{r["p99_ms"]:.1f}', f'{r["p99.9_ms"]:.1f}',
          f'{r["prefill_s"]:.2f}' if r.get('prefill_s') is not None else '', f'{r["speedup"]:.2f}')
         for r in read('decode')['shape']['rows']], left=2)


def decode_quality() -> str:
    """Return what each precision costs in quality."""
    rows = read('decode')['shape']['quality']
    return table(['weights', *(r['precision'] for r in rows)],
                 [['mean step accuracy', *(f'{r["mean_score"]:.3f}' for r in rows)]])


def load() -> str:
    """Return what happened to the goals of `timebill bench load`."""
    d = read('load')
    client, recovery = d['client_lateness_s'], d['recovery_s']

    def trend(name: str) -> str:
        low, high = d[name]['interval']
        return f'{d[name]["per_hour"]:+.1f} ({low:+.0f} to {high:+.0f})'

    late = ', '.join(f'{n} {code}' for code, n in d['late_codes'].items())
    pauses = d.get('host_pauses')  # results of before had none
    rows = [
        ('goals', f'{d["goals"]:,} from {d["clients"]} client processes in {d["seconds"] / 60:.0f} minutes'),
        ('offered load', f'{d["offered_load"]:.2f}'),
        ('cancels, malformed goals', f'{d["cancels_sent"]}, {d["malformed"]}'),
        ('worker killed, hung', f'{d["kills"]} times, {d["hangs"]} times'),
        ('lost goals', d['lost']),
        ('wrong codes', d['wrong_code']),
        ('set by the node after the deadline (KILL, TRUNCATE)',
         f'{d["late"]} ({late}), by {1e3 * d["late_by_s"]["max"]:.0f} ms at most' if d['late'] else '0'),
        *([('more than 5 ms after it; the same outside pauses of the machine',
            f'{d["late_over_5_ms"]}; {d["late_over_5_ms_outside_pauses"]}'),
           ("pauses of the machine's cores of more than 3 ms",
            f'{pauses["n"]}' + (f', {1e3 * pauses["max"]:.0f} ms at most' if pauses['n'] else ''))] if pauses else []),
        ('share of the valid goals that ended on time', percent(d['on_time_share'])),
        ('more than 20 ms late at the client', f'{client["over_20_ms"]} of {client["goals"]:,} '
         f'({percent(client["over_20_ms"] / client["goals"], 2)})'),
        ('more than 100 ms late at the client',
         f'{client["over_100_ms"]} (the latest {1e3 * client["all"]["max"]:.0f} ms)'),
        ('promised, of which missed', f'{d["promised"]:,}, {d["missed"]}'),
        ('a killed worker is back after (median)', f'{recovery["kill"]["p50"]:.1f} s'),
        ('a hung worker is back after (median, from where it stopped)', f'{recovery["hang"]["p50"]:.1f} s'),
        ("node's memory, MB an hour with 95 % interval",
         f'{trend("node_mb")}, from {d["node_mb"]["first"]:.0f} to {d["node_mb"]["last"]:.0f} MB in the whole run'),
        ('the same of the worker that lived longest',
         f'{trend("worker_mb")}, in {d["worker_mb"]["n"] * d["seconds"] / d["node_mb"]["n"] / 60:.0f} minutes'),
        ('open files an hour: node, worker',
         f'{d["node_files"]["per_hour"]:+.1f}, {d["worker_files"]["per_hour"]:+.1f}'),
        *((f'ended {code}', f'{n:,}') for code, n in sorted(d['codes'].items())),
    ]
    return table(['', ''], rows, left=2)


def load_latency() -> str:
    """Return latencies beside those of an action server that does nothing."""
    d = read('load')

    def cells(name: str) -> list[str]:
        return [f'{1e3 * d[name][server][q]:.0f}' for server in ('timebill', 'empty_action')
                for q in ('p50', 'p99', 'p99.9')]

    return table(['ms', 'timebill p50', 'p99', 'p99.9', 'empty action p50', 'p99', 'p99.9'],
                 [['acceptance', *cells('acceptance_s')],
                  ['whole goal, less the time until decoding ended', *cells('delivery_s')]])


def utilisation() -> str:
    """Return the share on time and the score by offered load, for each policy."""
    d = read('utilisation')
    cells = {(r['budgets'], r['offered_load'], r['policy']): [percent(r['on_time']['mean']),
                                                              f'{r["score"]["mean"]:.2f}'] for r in d['rows']}
    header = ['budgets', 'offered load']
    for policy in d['policies']:
        header += [f'{policy}: on time', 'score']
    keys = sorted({(budgets, offered) for budgets, offered, _ in cells}, key=lambda key: (key[0] != 'tight', key[1]))
    return table(header, [[*key, *(cell for policy in d['policies'] for cell in cells[(*key, policy)])]
                          for key in keys])


def profile() -> str:
    """Return the errors of this machine's profile."""
    text = (RESULTS / 'profile.yaml').read_text()
    blocks = {name: dict(re.findall(r'  (\w+): (\S+)\n', block)) for name, block in  # without draw:top_p and the like
              re.findall(r'^(fit_errors|held_out_errors):\n((?:  \S+: \S+\n)+)', text, re.MULTILINE)}
    return table(['mean absolute error', *blocks['fit_errors']],
                 [[name, *(percent(float(value), 1) for value in blocks[key].values())] for name, key in
                  (('of the fit', 'fit_errors'), ('on lengths left out of the fit', 'held_out_errors'))])


def execution_time() -> str:
    """Return the profile against times measured by another process."""
    d = read('execution_time')
    found = table(['', '', 'mean error', 'measured / estimated, p50', 'p99'],
                  [(r['condition'], r['kind'], percent(r['mape'], 1), f'{r["residual_p50"]:.2f}',
                    f'{r["residual_p99"]:.2f}') for r in d['rows']], left=2)
    whole = table(['', 'promised requests', 'took longer than their estimate'],
                  [(r['condition'], r['n_promised'], f'{r["exceeded"]} ({percent(r["share_exceeded"], 1)})')
                   for r in d['requests']])
    return found + '\n\n' + whole


SCORERS = {'snapkv': 'SnapKV', 'recent': 'recent only', 'random': 'random', 'key_norm': 'key norm'}
FAMILIES = ('find', 'list', 'bring', 'room', 'route', 'report')


def quality() -> str:
    """Return the share of right steps by the share evicted."""
    rows = read('quality')['rows']
    ratios = sorted({r['eviction_ratio'] for r in rows})
    right = {(r['scorer'], r['family'], r['eviction_ratio']): f'{100 * r["step_accuracy"]:.1f}' for r in rows}
    kinds = [(name, scorer, 'all') for scorer, name in SCORERS.items()] + \
            [(f'SnapKV, {family}', 'snapkv', family) for family in FAMILIES]
    return table(['', *(percent(ratio) for ratio in ratios)],
                 [[name, *(right[scorer, family, ratio] for ratio in ratios)] for name, scorer, family in kinds])


def device() -> str:
    """Return times per token of models of public shapes on a GPU."""
    rows = [(one['shape'], r['method'], f'{r["cache_tokens"]:,}', percent(r['eviction_ratio']), f'{r["median_ms"]:.2f}',
             f'{r["p99.9_ms"]:.2f}', f'{r["profiled_ms"]:.2f}' if 'profiled_ms' in r else '', f'{r["speedup"]:.2f}',
             percent(r['share_of_bandwidth'])) for one in read('device_h100')['shapes'] for r in one['decode']]
    return table(['shape', '', 'cache', 'evicted', 'ms per token', 'p99.9 ms', 'profiled ms', 'against generate',
                  'of the bandwidth'], rows, left=2)


def device_aims() -> str:
    """Return what was aimed at on a GPU, and what was measured."""
    shape, = (one for one in read('device_h100')['shapes'] if one['goals'][0]['met'] is not None)
    return table([f'{shape["shape"]} in {shape["dtype"]}', 'wanted', 'measured', ''],
                 [(one['aim'], f'{"at least" if one["at_least"] else "at most"} {one["wanted"]:g}',
                   f'{one["measured"]:.3g}', 'met' if one['met'] else 'missed') for one in shape['goals']])


def miss_rate() -> str:
    """Return the share of promises that were missed."""
    d = read('miss_rate')

    def missed(row: dict) -> str:
        after = f' ({percent(row["after_change"]["miss_rate"], 1)})' if 'after_change' in row else ''
        return percent(row['miss_rate'], 1) + after

    def condition(row: dict) -> str:
        return row['condition'] + ('' if row.get('epsilon', d['epsilon']) == d['epsilon'] else
                                   f', epsilon {row["epsilon"]:g}')

    rows = d['rows'] + d['live'] + d.get('text', {}).get('rows', [])
    return table(['condition', 'method', 'promised', 'missed', 'longer than the WCET', 'evicted', 'score'],
                 [(condition(r), r['method'], percent(r['share_promised']), missed(r),
                   percent(None if r['method'] == 'oracle' else r.get('beyond_wcet'), 1),
                   f'{r["mean_eviction_ratio"]:.2f}', f'{r["mean_score"]:.2f}') for r in rows], left=2)


def knobs() -> str:
    """Return what planning with a quality table is worth."""
    return table(['time for decoding', 'planner', 'score', 'promised', 'missed', 'evicted (mean)', 'cut',
                  'other weights'],
                 [(f'{r["budget_s"]:.3f} s', r['method'], f'{r["mean_score"]:.3f}', percent(r['share_promised']),
                   percent(r['miss_rate'], 1), f'{r["mean_eviction_ratio"]:.2f}', percent(r['shares']['cut']),
                   percent(r['shares']['other weights'])) for r in read('knobs')['rows']], left=2)


def headline() -> str:
    """Return the lines of results in README.md."""
    shown, found, times = read('demo/results'), read('load'), read('decode')
    late = sum(r['tardiness_s'] > 0 or r['node_tardiness_s'] > 0 for r in shown)
    promises = read('miss_rate')
    adaptive = {r['condition']: r for r in promises['rows']
                if (r['method'], r['epsilon']) == ('adaptive', promises['epsilon'])}
    tight = adaptive.pop('tight', None)  # results of earlier versions lack it
    missed, promised = ([r[name] for r in adaptive.values()] for name in ('miss_rate', 'share_promised'))
    rare = '' if tight is None else (f' Where budgets are so tight that it can promise only '
                                     f'{percent(tight["share_promised"])}, it missed {percent(tight["miss_rate"], 1)}.')
    ours = next(r for r in times['rows'] if r['method'] == 'timebill' and r['cache_tokens'] == 1000)
    right = {r['eviction_ratio']: r['step_accuracy'] for r in read('quality')['rows']
             if (r['scorer'], r['family']) == ('snapkv', 'all')}
    whole = real_text()
    return '\n'.join([
        f'- [Demonstration](docs/results.md#budgets-from-generous-to-hopeless), the embedded model: {len(shown)} goals '
        f'with budgets from generous to hopeless; {late or "none"} of them late.',
        *[whole] * bool(whole),
        f'- [Under load and faults](docs/results.md#deadlines-under-load): {found["goals"]:,} goals, the worker killed '
        f'{found["kills"]} times and hung {found["hangs"]} times; {found["lost"]} goals lost, {found["late"]} results '
        f'set late (by {1e3 * found["late_by_s"]["max"]:.0f} ms at most).',
        f'- [Promises](docs/results.md#is-the-miss-rate-kept): 5 % of them may be missed. On recorded answers, '
        f'replayed, the default promised {100 * min(promised):.0f} to {percent(max(promised))} of the goals and '
        f'missed {100 * min(missed):.1f} to {percent(max(missed), 1)} of its promises, also where prompts and times '
        f'shift.{rare}',
        f'- [Speed](docs/results.md#time-per-token): the embedded model takes {ours["median_ms"]:.2f} ms a token over '
        f'1,000 cached tokens, {ours["speedup"]:.1f} times as fast as with `model.generate`; the deadline guard takes '
        f'{times["loop_overhead"][0]["us_per_token"]:.0f} µs of it.',
        f'- [Quality](docs/results.md#quality-after-eviction): {percent(right[0.0], 1)} of the steps of the embedded '
        f"model's plans are right with the whole cache, {percent(right[0.5], 1)} with half of it evicted."])


def real_text() -> str:
    """Return the line on answers of a real model by the deadline; empty where there is no such result."""
    if not (RESULTS / 'deadlines.json').exists():
        return ''
    bed = next(iter(read('deadlines')['test_beds'].values()))
    rows = [r for r in bed.get('rows_of_live_tasks', ())
            if (r['method'], r['family']) == ('quality', 'all') and r['strategy'] in ('TRUNCATE', 'KILL')]
    if not rows:
        return ''
    n, late, promised, missed = (sum(r[name] for r in rows) for name in ('n', 'late', 'promised', 'missed'))
    mean = next(r for r in bed['over_budgets'] if r['strategy'] == 'all')
    name = re.sub('-[0-9a-f]{12}$', '', bed['machine']['model'])  # a converted file's key means nothing to a reader
    return (f'- [A real model](docs/results.md#what-a-deadline-leaves-of-answers), {name}, on real '
            f'text: {n:,} goals at five budgets, {late or "none"} late, {missed} of {promised} promises missed. The '
            f'mean score, from 0 to 1, differs from that of plain generation, cut at the deadline, by '
            f'{mean["difference"]:+.3f} '
            f'({mean["difference_lo"]:+.3f} to {mean["difference_hi"]:+.3f}).')


# Name of the block, as in its marker, and what makes its text.
BLOCKS: dict[str, Callable[[], str]] = {
    'demo': demo, 'decode': decode, 'decode overhead': decode_overhead, 'decode shape': decode_shape,
    'decode quality': decode_quality, 'device': device, 'device aims': device_aims, 'load': load,
    'load latency': load_latency, 'utilisation': utilisation, 'profile': profile, 'execution time': execution_time,
    'quality': quality, 'miss rate': miss_rate, 'knobs': knobs, 'headline': headline,
}
