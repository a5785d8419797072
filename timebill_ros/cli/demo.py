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

"""`timebill demo`: a node on the embedded model, and goals with budgets from generous to hopeless.

The node is a process of its own. This process is its client, and imports no torch. Discovery is kept to this machine
and to a ROS domain of its own, so that neither a robot nearby nor another demonstration takes part.
"""
from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from timebill_ros.cli.isolation import isolate

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 10.0
MOST_BROKEN = 1  # promises: each of a dozen may be missed at a rate of 0.05


def add(commands) -> None:
    """Add the subcommand's parser."""
    command = commands.add_parser('demo',
                                  help='start a node on the embedded model and send it goals of different budgets')
    command.add_argument('--out', type=Path, default=Path('build/demo'))
    command.set_defaults(run=run, talks=True)


def run(options: argparse.Namespace) -> int:
    """Run the demonstration and write results.json and timeline.png to `options.out`.

    Returns 0 unless more promises were broken than a miss rate of 0.05 explains in so few goals.
    """
    from timebill_ros.bench import optional_plots
    from timebill_ros.cli.demo_goals import is_broken_promise, is_promise, send_goals
    from timebill_ros.client import Client
    isolate()
    started = time.monotonic()
    node = subprocess.Popen([sys.executable, '-m', 'timebill_ros.node.main', '--ros-args',
                             '-p', 'autostart:=true', '-p', 'keep_state:=false'],  # every demonstration starts the same
                            start_new_session=True)
    try:
        with Client() as client:
            client.wait_until_active(START_TIMEOUT_S, alive=lambda: node.poll() is None)
            print(f'node active after {time.monotonic() - started:.1f} s')
            rows = send_goals(client)
    finally:
        stop(node)
    results, picture = options.out / 'results.json', options.out / 'timeline.png'
    options.out.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(rows, indent=1) + '\n')
    show(rows)
    written = f'{results}'
    if plots := optional_plots.plots_if_installed():
        plots.timeline(rows, picture)
        written += f' and {picture}'
    broken = sum(map(is_broken_promise, rows))
    print(f'\n{len(rows)} goals, {sum(map(is_promise, rows))} promised, {broken} promises broken; '
          f'written to {written}')
    return 1 if broken > MOST_BROKEN else 0


def show(rows: list[dict]) -> None:
    """Print a table with a row per goal, and the text of the first answer."""
    from rich.console import Console
    from rich.table import Table
    table = Table(title='Goals as the client saw them. N_hat, N_W, N: predicted, pessimistic and generated tokens')
    left = ('log', 'strategy', 'verdict', 'finish')
    for column in ('log', 'strategy', 'budget s', 'response s', 'slack s', 'verdict', 'evicted', 'N_hat', 'N_W', 'N',
                   'finish', 'steps right'):
        table.add_column(column, no_wrap=True, justify='left' if column in left else 'right')
    for row in rows:
        evicted = '-' if row['eviction_ratio'] is None else f'{row["eviction_ratio"]:.0%}'
        finish = row['finish_reason'] + ('' if row['error_code'] == 'NONE' else f' ({row["error_code"]})')
        table.add_row(row['prompt'], row['overrun_strategy'], f'{row["budget_s"]:.3f}', f'{row["response_time_s"]:.3f}',
                      f'{row["budget_s"] - row["response_time_s"]:.3f}', row['verdict'], evicted,
                      str(row['predicted_tokens']), str(row['pessimistic_tokens']), str(row['generated_tokens']),
                      finish, f'{row["step_accuracy"]:.0%}')
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    first = rows[0]
    console.print(f'\nInstruction: {first["instruction"]}\n\nAnswer ({first["step_accuracy"]:.0%} of its steps right):',
                  highlight=False)
    console.print(first['text'], highlight=False, markup=False)


def stop(node: subprocess.Popen) -> None:
    """Send SIGINT, as Ctrl-C would, and end the node by force if that does not help. The worker ends with its node."""
    if node.poll() is None:
        node.send_signal(signal.SIGINT)
    try:
        node.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()
