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

"""`timebill bench structured`: answers that have their form wherever they are cut, and what masks cost."""
from __future__ import annotations

import argparse
from collections.abc import Callable

from timebill_ros.cli.bench_options import FOLDER
from timebill_ros.cli.form_options import ON_CUT
from timebill_ros.cli.model_options import add_model_options, model_settings
from timebill_ros.cli.option_values import out_file, whole


def add_to(benches, parser: Callable) -> None:
    """Add it; `parser(benches, name, what)` makes one."""
    command = parser(benches, 'structured', 'answers of five JSON schemas at budgets from hopeless to generous: each '
                     'that succeeds is to satisfy its schema')
    add_model_options(command, model='smollm2')  # goals are conversations, which take a chat template
    command.add_argument('--out', type=out_file, help='the plot and the finished goals, from which a stopped run goes '
                         f'on, lie beside it (default: {FOLDER}/structured.json, with --mask structured_mask.json)')
    command.add_argument('--goals', type=whole(1), default=1000, metavar='N')
    command.add_argument('--on-cut', nargs='+', choices=sorted(ON_CUT), default=['drop'],
                         help='how answers that are cut are completed; with both, every goal is asked twice')
    command.add_argument('--mask', action='store_true', help='measure instead how long a step waits for its mask, on a '
                         'model of --shape with random weights and a vocabulary of --words words')
    command.add_argument('--shape', default='Qwen2.5-0.5B', choices=['Qwen2.5-0.5B', 'Qwen2.5-1.5B', 'tiny'],
                         help='default: %(default)s')
    command.add_argument('--words', type=whole(300), default=131072, metavar='N')
    command.add_argument('--pairs', type=whole(1), default=300, metavar='N',
                         help='steps with a mask, each beside one without')
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    values = model_settings(options)
    if options.mask:
        from timebill_ros.bench.structured_mask import run as run_mask
        return run_mask(values, options.out or FOLDER / 'structured_mask.json', shape=options.shape,
                        n_words=options.words, n_pairs=options.pairs)
    from timebill_ros.bench.structured import run
    from timebill_ros.codes import OnCut
    ways = [OnCut(ON_CUT[name]) for name in dict.fromkeys(options.on_cut)]
    return run(values, options.out or FOLDER / 'structured.json', n_goals=options.goals, on_cut=ways)
