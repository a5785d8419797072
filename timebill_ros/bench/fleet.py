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

"""`timebill bench fleet`: what a model on board is worth where many robots share one server. A simulation.

Nothing is run: service times are those of recorded goals (on board) and of a measured profile (the server) for the same
numbers of tokens. A server that batches serves its places side by side, each of them slower than one alone; here they
are as quick as one alone, so the server is better than a real one with as many places.
"""
from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from timebill_ros.bench.fleet_queue import POLICIES, Kind, simulate
from timebill_ros.bench.host import environment, write
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.timing.execution_time import ExecutionTimes

UNHURRIED = 'unhurried'  # the kind of the demonstration's goals that nothing cut


def server_times(path: Path, shape: str) -> ExecutionTimes:
    """Return the measured times of a model from a file of `timebill bench device`. ValueError where it has none."""
    rows = _json('--server', path, dict, 'timebill bench device').get('shapes', [])
    try:
        measured = {row.get('shape'): ExecutionTimes(**row['times']) for row in rows if row.get('times')}
    except (AttributeError, TypeError):
        raise ValueError(f'--server {path} is no result of "timebill bench device"') from None
    if not measured:
        raise ValueError(f'--server {path} has no times of any model: give a file of "timebill bench device"')
    if shape not in measured:
        raise ValueError(f'--server {path} has no times of --shape {shape!r}, only of {", ".join(map(str, measured))}')
    return measured[shape]


def kinds_of(path: Path, server: ExecutionTimes) -> list[Kind]:
    """Return the questions of a file of `timebill demo`, with the time that each took on board when nothing hurried it.

    The server takes the times of its profile for as many tokens. ValueError where the file has no such goals.
    """
    rows = _json('--onboard', path, list, 'timebill demo')
    try:
        kinds = [_kind_of(row['timing'], server) for row in rows
                 if row.get('kind') == UNHURRIED and row.get('error_code') == 'NONE']
    except (AttributeError, KeyError, TypeError):
        raise ValueError(f'--onboard {path} is no result of "timebill demo"') from None
    if not kinds:
        raise ValueError(f'--onboard {path} has no goals without hurry: give the results.json of "timebill demo" with '
                         'a language model')
    return kinds


def _kind_of(timing: dict, server: ExecutionTimes) -> Kind:
    n_x, n = timing['prompt_tokens'], timing['generated_tokens']
    decoding_s = sum(server.step(n_x + i) for i in range(1, n))  # prefill gives the first token
    read_s = timing['prefill_s'] + (timing['eviction_s'] or 0.0)
    return Kind(server.prefill(n_x) + decoding_s, read_s + timing['decode_s'], read_s)


def _json(option: str, path: Path, kind: type, command: str):
    """Return what the file of an option holds. ValueError where that is no result of `command`, a `kind`."""
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f'{option} {path} cannot be read: {error.strerror}') from None
    except ValueError as error:
        raise ValueError(f'{option} {path} is no JSON: {error}') from None
    if not isinstance(found, kind):
        raise ValueError(f'{option} {path} is no result of "{command}"')
    return found


def _per_cent(share: float) -> str:
    return '-' if math.isnan(share) else f'{100 * share:.0f}'  # NaN: no question came


def run(onboard: Path, server: Path, out: Path, *, shape: str, robots: Sequence[int], places: int, deadline_s: float,
        period_s: float, network_s: float, seconds: float) -> int:
    """Simulate every policy at every number of robots, print a table, write the rows and draw them."""
    kinds = kinds_of(onboard, server_times(server, shape))
    settings = {'shape': shape, 'places': places, 'deadline_s': deadline_s, 'period_s': period_s,
                'network_s': network_s, 'seconds': seconds}
    rows = [{'robots': n, 'policy': policy.name, **simulate(
        kinds, policy, robots=n, places=places, deadline_s=deadline_s, period_s=period_s, network_s=network_s,
        seconds=seconds).row()} for policy in POLICIES for n in robots]
    mean_s = sum(kind.server_s for kind in kinds) / len(kinds)
    result = {'environment': environment(), **settings, 'kinds': [asdict(kind) for kind in kinds],
              'full_at_robots': places / mean_s * period_s, 'rows': rows}
    columns = [policy.name for policy in POLICIES]
    on_time = {(row['robots'], row['policy']): row['on_time'] for row in rows}
    table = Table('robots', *columns, title='answers that were whole by their deadline, in per cent; the server is '
                  f'full at {result["full_at_robots"]:.0f} robots')
    for n in robots:
        table.add_row(f'{n:,}', *(_per_cent(on_time[n, name]) for name in columns))
    print_table(table)
    write(out, result)
    if plots := plots_if_installed('fleet_plots'):
        plots.fleet(result, out.with_suffix('.png'))
    return 0
