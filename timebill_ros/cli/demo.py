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

"""`timebill demo`: a node on a language model, and goals with budgets from generous to hopeless.

The node is a process of its own. This process is its client, and imports no torch. Discovery is kept to this machine
and to a ROS domain of its own, so that neither a robot nearby nor another demonstration takes part. Nothing is
downloaded: the model is the named one, or the real one where it is in the cache, or the embedded one.
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

START_TIMEOUT_S = 600.0  # the first start on a slow machine measures it and compiles the model's step
STOP_TIMEOUT_S = 10.0
MOST_BROKEN = 1  # promises: each of a dozen may be missed at a rate of 0.05
TEXT_CHARACTERS = 76  # of an answer in the table


def add(commands) -> None:
    """Add the subcommand's parser."""
    command = commands.add_parser('demo', help='start a node and send it goals of different budgets')
    command.add_argument('--model', default='', help="what the node's parameter of that name takes (default: smollm2 "
                         'where "timebill get-model smollm2" was run, otherwise embedded)')
    command.add_argument('--out', type=Path, default=Path('build/demo'))
    command.set_defaults(run=run, talks=True)


def run(options: argparse.Namespace) -> int:
    """Run the demonstration and write results.json and timeline.png to `options.out`.

    Returns 0 unless more promises were broken than a miss rate of 0.05 explains in so few goals.
    """
    from timebill_ros.bench import optional_plots
    from timebill_ros.cli import demo_site_log, demo_text
    from timebill_ros.cli.demo_goals import is_broken_promise, is_promise
    from timebill_ros.cli.demo_summary import next_step, sentences
    from timebill_ros.client import Client
    from timebill_ros.inference.named_models import EMBEDDED
    model = options.model or default_model()
    is_real = model != EMBEDDED
    asks = demo_text if is_real else demo_site_log
    isolate()
    started = time.monotonic()
    node = subprocess.Popen([sys.executable, '-m', 'timebill_ros.node.main', '--ros-args', '-p', f'model:={model}',
                             '-p', f'worker_start_timeout_s:={START_TIMEOUT_S}',
                             '-p', 'autostart:=true', '-p', 'keep_state:=false',  # every demonstration starts the same
                             # The same prompts come again: read once, they would fit any budget.
                             '-p', 'prefix_cache_mib:=0'],
                            start_new_session=True)
    try:
        with Client() as client:
            client.wait_until_active(START_TIMEOUT_S, alive=lambda: node.poll() is None)
            print(f'node active after {time.monotonic() - started:.1f} s')
            rows = asks.send_goals(client)
    finally:
        stop(node)
    results, picture = options.out / 'results.json', options.out / 'timeline.png'
    options.out.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(rows, indent=1) + '\n')
    show(rows, asks.SCORE, with_texts=is_real)
    written = f'{results}'
    if plots := optional_plots.plots_if_installed():
        plots.timeline(rows, picture)
        written += f' and {picture}'
    broken = sum(map(is_broken_promise, rows))
    print()
    print(*sentences(rows), '', next_step(model, is_real=is_real), '', sep='\n')
    print(f'{len(rows)} goals, {sum(map(is_promise, rows))} promised, {broken} promises broken; written to {written}')
    return 1 if broken > MOST_BROKEN else 0


def default_model() -> str:
    """Return the name of the real model where it is in the cache, otherwise that of the embedded one, and say so."""
    from timebill_ros.inference.named_models import DEFAULT, EMBEDDED, find_named
    if find_named(DEFAULT, ''):
        return DEFAULT
    print(f'{DEFAULT} is not in the cache ("timebill get-model {DEFAULT}" takes it there): the embedded model is '
          'shown, which plans over a site log and answers nothing else')
    return EMBEDDED


def show(rows: list[dict], score: str, *, with_texts: bool) -> None:
    """Print a table with a row per goal, and answers. `score`: what the score of a row is, in words.

    `with_texts`: another table has the beginnings of all answers; otherwise the first answer is printed whole.
    """
    from rich.console import Console
    from rich.table import Table
    table = Table(title='Goals as the client saw them. N_hat, N_W, N: predicted, pessimistic and generated tokens')
    left = ('request', 'strategy', 'verdict', 'finish')
    for column in ('request', 'strategy', 'budget s', 'response s', 'slack s', 'verdict', 'evicted', 'N_hat', 'N_W',
                   'N', 'finish', score):
        table.add_column(column, no_wrap=True, justify='left' if column in left else 'right')
    for row in rows:
        evicted = '-' if row['eviction_ratio'] is None else f'{row["eviction_ratio"]:.0%}'
        finish = row['finish_reason'] + ('' if row['error_code'] == 'NONE' else f' ({row["error_code"]})')
        table.add_row(row['prompt'], row['overrun_strategy'], f'{row["budget_s"]:.3f}', f'{row["response_time_s"]:.3f}',
                      f'{row["budget_s"] - row["response_time_s"]:.3f}', row['verdict'], evicted,
                      str(row['predicted_tokens']), str(row['pessimistic_tokens']), str(row['generated_tokens']),
                      finish, f'{row["score"]:.0%}')
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    if with_texts:
        _show_texts(rows, console)
        return
    first = rows[0]
    console.print(f'\nInstruction: {first["instruction"]}\n\nAnswer ({first["score"]:.0%} {score}):', highlight=False)
    console.print(first['text'], highlight=False, markup=False)


def _show_texts(rows: list[dict], console) -> None:
    """Print what was asked and what the client held, by budget."""
    for row in rows:
        if row['kind'] == rows[0]['kind']:  # the first of its request
            console.print(f'\n{row["prompt"]}: {row["instruction"]}', highlight=False, markup=False)
        text = ' '.join(row['text'].split()) or f'({row["error_msg"] or "no text"})'
        short = text if len(text) <= TEXT_CHARACTERS else f'{text[:TEXT_CHARACTERS]} ... ({len(text)} characters)'
        console.print(f'  {row["budget_s"]:7.3f} s  {row["kind"]:14}  {short}', highlight=False, markup=False)


def stop(node: subprocess.Popen) -> None:
    """Send SIGINT, as Ctrl-C would, and end the node by force if that does not help. The worker ends with its node."""
    if node.poll() is None:
        node.send_signal(signal.SIGINT)
    try:
        node.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()
