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

"""`timebill bench fleet`: many robots and one server, simulated."""
from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from timebill_ros.cli.bench_options import FOLDER
from timebill_ros.cli.option_values import number, out_file, whole

ROBOTS = (10, 30, 100, 300, 1000, 3000, 10000)


def add_to(benches, parser: Callable) -> None:
    """Add it; `parser(benches, name, what)` makes one."""
    command = parser(benches, 'fleet', 'what a model on board is worth where 10 to 10,000 robots share one server, '
                     'simulated from recorded times')
    command.add_argument('--onboard', type=Path, required=True, metavar='FILE',
                         help='results.json of "timebill demo" on a robot, whose goals without hurry are asked')
    command.add_argument('--server', type=Path, required=True, metavar='FILE',
                         help='device.json of "timebill bench device" on the server')
    command.add_argument('--shape', default='Qwen2.5-7B', help='which model of that file the server has')
    command.add_argument('--robots', type=whole(1), nargs='+', default=list(ROBOTS), metavar='N')
    command.add_argument('--places', type=whole(1), default=16, metavar='N',
                         help='answers that the server writes at once')
    command.add_argument('--deadline', type=number(0), default=5.0, metavar='S', help='of each question, in seconds')
    command.add_argument('--period', type=number(0), default=10.0, metavar='S',
                         help="mean time between a robot's questions, in seconds")
    command.add_argument('--network', type=number(0), default=0.03, metavar='S',
                         help='to the server and back, in seconds')
    command.add_argument('--seconds', type=number(0), default=600.0, metavar='S', help='time that is simulated')
    command.add_argument('--out', type=out_file, default=FOLDER / 'fleet.json')
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from timebill_ros.bench.fleet import run
    return run(options.onboard, options.server, options.out, shape=options.shape, robots=options.robots,
               places=options.places, deadline_s=options.deadline, period_s=options.period, network_s=options.network,
               seconds=options.seconds)
