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

"""What `timebill bench device` says of a shape: which steps are used and why, tables, and what this project aims at."""
from __future__ import annotations

from timebill_ros.bench.tables import Table, print_table

JUDGED = 'Qwen2.5-7B'  # the aims for speed are for this shape in half precision on a GPU; other rows are only told
LONG_PREFILL = 1024  # tokens from which prefill errors are reported apart
# The errors are those of the paper on an A40 with that model.
AT_LEAST = {'times as fast as model.generate': 3.0, 'of the read bandwidth': 0.7, 'of the prediction is hidden': 0.95}
AT_MOST = {'error of long prefill': 0.012, 'error of steps': 0.017, 'of a step, by which eviction differs': 0.05}


def step_lines(steps: dict[str, str], said: list[str]) -> list[str]:
    """Return a line for each precision's kind of step, by name, and the reasons for which others are not used."""
    lines = []
    for name, kind in steps.items():
        made = next((made for made in ('compiled', 'fused') if made in kind), 'not compiled')
        captured = 'captured' in kind
        lines.append(f'steps in {name}: {made}, {"" if captured else "not "}captured as CUDA graphs'
                     f'{", which draw the tokens" if captured else ""}')
    return [*lines, *(f'  {sentence}' for sentence in said)]


def goals(result: dict) -> list[dict]:
    """Return what was measured of each aim: the worst of its rows. `met` is None where it is not an aim here."""
    whole = [row for row in _own(result) if row['eviction_ratio'] == 0]
    beside = [row for row in result['prediction'] if row['hidden_share'] is not None]
    measured = {
        'times as fast as model.generate': min(row['speedup'] for row in whole),
        'of the read bandwidth': min(row['share_of_bandwidth'] for row in whole),
        'error of long prefill': _error(result, 'prefill', LONG_PREFILL),
        'error of steps': _error(result, 'step', 0),
        'of the prediction is hidden': beside[0]['hidden_share'] if beside else None,
        'of a step, by which eviction differs': max((abs(row['measured'] - row['profiled']) for row in
                                                     eviction_effects(result)), default=None)}
    judged = result['shape'] == JUDGED and result['dtype'] in ('bfloat16', 'float16') and result['on'] == 'cuda'
    return [{'aim': aim, 'measured': value, 'wanted': AT_LEAST.get(aim, AT_MOST.get(aim)), 'at_least': aim in AT_LEAST,
             'met': (value >= AT_LEAST[aim] if aim in AT_LEAST else value <= AT_MOST[aim]) if judged else None}
            for aim, value in measured.items() if value is not None]


def eviction_effects(result: dict) -> list[dict]:
    """Return a step's time after each eviction as a share of that before, as measured and by the profile."""
    found = []
    for n in sorted({row['cache_tokens'] for row in _own(result)}):
        rows = {row['eviction_ratio']: row for row in _own(result) if row['cache_tokens'] == n}
        for ratio, row in sorted(rows.items()):
            if ratio:
                found.append({'cache_tokens': n, 'eviction_ratio': ratio,
                              'measured': row['median_ms'] / rows[0.0]['median_ms'],
                              'profiled': row['profiled_ms'] / rows[0.0]['profiled_ms']})
    return found


def _own(result: dict) -> list[dict]:
    return [row for row in result['decode'] if row['method'] == 'timebill']


def _error(result: dict, kind: str, least: int) -> float | None:
    rows = [row for row in result['held_out'] if row['kind'] == kind and row['from_tokens'] == least]
    return rows[0]['mape'] if rows else None


def show(result: dict) -> None:
    """Print one shape's tables."""
    title = f'{result["shape"]} in {result["dtype"]}, loaded in {result["load_s"]:.1f} s'
    table = Table('method', 'cache', 'evicted', 'ms per token', 'p99.9 ms', 'profiled ms', 'against generate',
                  'of the bandwidth', title=title)
    for r in result['decode']:
        profiled = f'{r["profiled_ms"]:.3f}' if 'profiled_ms' in r else ''
        table.add_row(r['method'], str(r['cache_tokens']), f'{r["eviction_ratio"]:.0%}', f'{r["median_ms"]:.3f}',
                      f'{r["p99.9_ms"]:.3f}', profiled, f'{r["speedup"]:.2f}x', f'{r["share_of_bandwidth"]:.0%}')
    print_table(table)
    for r in result['held_out']:
        print(f'{r["kind"]} at {r["lengths"]} held-out lengths from {r["from_tokens"]}: mean error {r["mape"]:.1%}')
    for r in result['prediction']:
        hidden = '' if r['hidden_share'] is None else \
            f', prediction {1e3 * r["prediction_s"]:.1f} ms, {r["hidden_share"]:.0%} of it hidden'
        print(f'prefill of {r["prompt_tokens"]} tokens, {r["setting"]}: {1e3 * r["prefill_s"]:.1f} ms{hidden}')
    for r in eviction_effects(result):
        print(f'a step over {r["cache_tokens"]} entries takes {r["measured"]:.1%} as long after evicting '
              f'{r["eviction_ratio"]:.0%}; the profile says {r["profiled"]:.1%}')
    for r in goals(result):
        aimed = '' if r['met'] is None else f' ({"at least" if r["at_least"] else "at most"} {r["wanted"]:g}: ' \
            f'{"met" if r["met"] else "NOT MET"})'
        print(f'{r["measured"]:.3g} {r["aim"]}{aimed}')
