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

"""`timebill bench deadlines`, `k-sweep`, `reversible`, `wcet`, `parallel`: tables and figures as the paper's; `all`."""
from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from timebill_ros.cli.bench_options import EMBEDDED, FOLDER, add_answer_options, answer_arguments
from timebill_ros.cli.model_options import add_model_options, model_settings
from timebill_ros.cli.option_values import out_file, whole
from timebill_ros.cli.task_options import add_task_options, task_source


def add_to(benches, parser: Callable) -> None:
    """Add the six; `parser(benches, name, what)` makes one."""
    for name, what, runs in (
            ('deadlines', 'score and completion by method, strategy and budget, as the paper compares them',
             _run_deadlines),
            ('k-sweep', 'pessimistic factors from 1 to 8, beside what is adapted at run time', _run_k_sweep),
            ('reversible', 'evictions that can be taken back, beside those that cannot', _run_reversible)):
        command = parser(benches, name, what)
        add_model_options(command, model=EMBEDDED)
        add_answer_options(command, name)
        command.set_defaults(run=runs, variants='int8')
    command = parser(benches, 'wcet', 'times of whole requests against their estimates and worst cases')
    add_model_options(command, model=EMBEDDED)
    add_task_options(command)
    command.add_argument('--out', type=out_file, default=FOLDER / 'wcet.json', help='the plot lies beside it')
    command.add_argument('--requests', type=whole(1), default=300, metavar='N')
    command.set_defaults(run=_run_wcet)
    command = parser(benches, 'parallel', 'from a prompt to a predicted length, beside prefill, after it and without '
                     'a second network')
    add_model_options(command, model=EMBEDDED)
    command.add_argument('--out', type=out_file, default=FOLDER / 'parallel.json', help='the plot lies beside it')
    command.add_argument('--lengths', type=whole(1), nargs='+', default=[64, 128, 256, 512, 1024, 1536],
                         metavar='N_x', help='prompt tokens')
    command.add_argument('--rounds', type=whole(1), default=15, help='interleaved repeats')
    command.set_defaults(run=_run_parallel)
    command = parser(benches, 'all', 'the benches of an evaluation, one after the other; again: what did not finish')
    command.add_argument('--out', type=Path, default=FOLDER / 'all', metavar='FOLDER', help='default: %(default)s')
    command.add_argument('--quick', action='store_true', help='little of everything')
    command.add_argument('--only', nargs='+', default=[], metavar='BENCH', help='these benches alone')
    command.add_argument('--model', default='', help='for --tasks')
    command.add_argument('--tasks', type=Path, metavar='FILE', help='also on real text: JSON lines, as for bench '
                         'deadlines')
    command.set_defaults(run=_run_all)


def _run_deadlines(options: argparse.Namespace) -> int:
    from timebill_ros.bench.deadlines import run
    return run(model_settings(options), options.out, **answer_arguments(options))


def _run_k_sweep(options: argparse.Namespace) -> int:
    from timebill_ros.bench.k_sweep import run
    return run(model_settings(options), options.out, **answer_arguments(options))


def _run_reversible(options: argparse.Namespace) -> int:
    from timebill_ros.bench.reversible import run
    return run(model_settings(options), options.out, **answer_arguments(options))


def _run_wcet(options: argparse.Namespace) -> int:
    from timebill_ros.bench.wcet import run
    return run(model_settings(options), options.out, source=task_source(options), n_requests=options.requests)


def _run_parallel(options: argparse.Namespace) -> int:
    from timebill_ros.bench.parallel import run
    return run(model_settings(options), options.out, lengths=options.lengths, rounds=options.rounds)


def _run_all(options: argparse.Namespace) -> int:
    from timebill_ros.bench.everything import run
    return run(options.out / 'quick' if options.quick else options.out, run_in_a_process, quick=options.quick,
               only=options.only, model=options.model, tasks=options.tasks)


def run_in_a_process(arguments: Sequence[str]) -> int:
    """Run `timebill bench` with these arguments and return its exit status."""
    return subprocess.run([sys.executable, '-m', 'timebill_ros.cli', 'bench', *arguments]).returncode
