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

"""`timebill bench prefix`: prompts that begin like earlier ones."""
from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from timebill_ros.cli.bench_options import FOLDER
from timebill_ros.cli.model_options import add_model_options, model_settings
from timebill_ros.cli.option_values import number, out_file, whole

PARTS = ('cases', 'goals', 'pauses', 'promises', 'ends')  # of bench/prefix.py, which needs torch


def add_to(benches, parser: Callable) -> None:
    """Add it; `parser(benches, name, what)` makes one."""
    command = parser(benches, 'prefix', 'time to the first token of prompts that begin like earlier ones, beside '
                     'llama.cpp where llama-cpp-python is installed; whether their answers stay the same and their '
                     'promises are kept; goals that give way')
    add_model_options(command, model='smollm2')  # goals are conversations, which take a chat template
    command.add_argument('--out', type=out_file, default=FOLDER / 'prefix.json', help='written after every part; a '
                         'stopped run goes on from it')
    command.add_argument('--quick', action='store_true', help='little of everything, and prompts of 1,200 tokens at '
                         'most')
    command.add_argument('--only', nargs='+', choices=PARTS, default=[], metavar='PART', help='parts to measure, of '
                         + ', '.join(PARTS))
    command.add_argument('--minutes', type=number(0), help='about how long all of it may take, but for loading; a slow '
                         'machine has fewer repeats (default: 22, quick: 3)')
    command.add_argument('--rounds', type=whole(2), help='interleaved repeats at most (default: 15, quick: 3)')
    command.add_argument('--goals', type=whole(2), metavar='N', help='of each conversation (default: 50, quick: 6)')
    command.add_argument('--promises', type=whole(2), metavar='N', help='goals with a tight budget (default: 300, '
                         'quick: 30)')
    command.add_argument('--longest', type=whole(200), metavar='N', help='longest prompt, in tokens (default: what the '
                         'context holds)')
    command.add_argument('--gguf', type=Path, help="the model's weights as a GGUF file, which llama.cpp requantizes "
                         '(default: MODEL, where that is one, or the file of a named model in the cache)')
    command.add_argument('--near', action='store_true', help='with exact_prefixes: false; answers may then differ by '
                         'rounding, and how many do is told')
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from timebill_ros.bench.prefix import QUICK, WHOLE, run
    amount = QUICK if options.quick else WHOLE
    said = {'minutes': options.minutes, 'rounds': options.rounds, 'n_goals': options.goals,
            'n_promises': options.promises, 'longest': options.longest}
    amount = replace(amount, **{name: value for name, value in said.items() if value is not None})
    return run({**model_settings(options), 'exact_prefixes': not options.near}, options.out, amount, gguf=options.gguf,
               only=tuple(options.only))
