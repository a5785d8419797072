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

from timebill_ros.cli.bench_options import FOLDER
from timebill_ros.cli.model_options import add_model_options, model_settings
from timebill_ros.cli.option_values import out_file, whole


def add_to(benches, parser: Callable) -> None:
    """Add it; `parser(benches, name, what)` makes one."""
    command = parser(benches, 'prefix', 'time to the first token of prompts that begin like earlier ones, and whether '
                     'their answers stay the same')
    add_model_options(command, model='smollm2')  # goals are conversations, which take a chat template
    command.add_argument('--out', type=out_file, default=FOLDER / 'prefix.json')
    command.add_argument('--rounds', type=whole(1), default=9, help='interleaved repeats of each length')
    command.add_argument('--goals', type=whole(2), default=50, metavar='N', help='of each conversation')
    command.add_argument('--longest', type=whole(0), default=0, metavar='N', help='longest prompt; 0: the context')
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from timebill_ros.bench.prefix import run
    return run(model_settings(options), options.out, rounds=options.rounds, n_goals=options.goals,
               longest=options.longest)
