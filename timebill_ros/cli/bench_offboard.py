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

"""`timebill bench offboard`: a node, a server besides, and a network that fails."""
from __future__ import annotations

import argparse
import contextlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from timebill_ros.cli.bench_options import FOLDER
from timebill_ros.cli.isolation import isolate
from timebill_ros.cli.model_options import add_model_options, model_settings
from timebill_ros.cli.option_values import number, out_file, whole
from timebill_ros.cli.task_options import add_task_options, task_source

CONTEXT = 8192  # of the server that is started, where --max-context-tokens does not say


def add_to(benches, parser: Callable) -> None:
    """Add it; `parser(benches, name, what)` makes one."""
    command = parser(benches, 'offboard', 'a node that asks a server besides, through a network that fails: whose '
                     'answers goals get, and what they are worth against each tier alone')
    add_model_options(command, model='smollm2')  # goals are conversations, which take a chat template
    add_task_options(command)
    command.add_argument('--out', type=out_file, default=FOLDER / 'offboard.json', help='the finished goals, from '
                         'which a stopped run goes on, lie beside it')
    command.add_argument('--goals', type=whole(1), default=500, metavar='N', help='each is answered in three ways')
    server = command.add_mutually_exclusive_group()
    server.add_argument('--gguf', type=Path, metavar='FILE', help='start a server of llama-cpp-python on this file')
    server.add_argument('--server-url', metavar='URL', help='or ask this one, which speaks the HTTP API of OpenAI')
    command.add_argument('--server-model', default='', metavar='NAME', help='what that server calls its model')
    command.add_argument('--server-threads', type=whole(1), default=1, metavar='N', help='of the server that is '
                         'started: it shares this machine with the node (default: %(default)s)')
    command.add_argument('--server-speed', type=number(0), default=0.0, metavar='X', help='the server answers every '
                         'task once before the goals; they are told its answers again, X times as fast as it was, as '
                         'by a server on another machine (default: it answers while the goals run)')
    command.add_argument('--quality', type=number(0), default=1.0, help='offboard_quality (default: %(default)s)')
    command.add_argument('--budgets', type=number(0), nargs=2, default=[1.0, 8.0], metavar='S', help='shortest and '
                         'longest, in seconds (default: 1 and 8)')
    command.add_argument('--seed', type=whole(0), default=1)
    command.set_defaults(run=_run, talks=True)


def _run(options: argparse.Namespace) -> int:
    isolate()
    from timebill_ros.bench.llama_server import LlamaServer
    from timebill_ros.bench.offboard import run
    if not (options.gguf or options.server_url and options.server_model):
        raise ValueError('name a server: a file by --gguf, or --server-url and --server-model')
    if importlib.util.find_spec('httpx') is None:  # said before a node is waited for that cannot ask the server
        raise ModuleNotFoundError("No module named 'httpx'", name='httpx')
    values = model_settings(options)
    with contextlib.ExitStack() as stack:
        url, model = options.server_url, options.server_model
        if options.gguf:
            started = stack.enter_context(LlamaServer(options.gguf, threads=options.server_threads,
                                                      n_context=values['max_context_tokens'] or CONTEXT))
            url, model = started.url, model or started.model
        return run(values, options.out, source=task_source(options), n_goals=options.goals, url=url, model=model,
                   quality=options.quality, budgets_s=tuple(sorted(options.budgets)), seed=options.seed,
                   speed=options.server_speed)
