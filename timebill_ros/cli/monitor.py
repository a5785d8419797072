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

"""`timebill monitor`: show what a node does, live in a terminal, or as a line for each status."""
from __future__ import annotations

import argparse
import sys
import time

LOOK_S = 0.5  # seconds between looks at whether a node publishes its status
DRAWN_PER_S = 4  # pictures a second


def add(commands) -> None:
    """Add the subcommand's parser."""
    command = commands.add_parser('monitor', help='show the goals of a node as bars against their deadlines, its '
                                                  'promises and its device')
    command.add_argument('--server', default='/timebill', help='name of the node')
    command.add_argument('--lines', action='store_true',
                         help='print a line for each status instead, as where the output is no terminal')
    command.add_argument('--rqt', action='store_true', help='show it in a window instead, where rqt is installed')
    command.set_defaults(run=run, talks=True)


def run(options: argparse.Namespace) -> int:
    """Show the node until Ctrl-C."""
    if options.rqt:
        from timebill_ros.rqt.starting import start
        return start(options.server)
    from rich.console import Console

    from timebill_ros.client import Client
    console = Console()
    show = _lines if options.lines or not console.is_terminal or console.is_dumb_terminal else _live
    with Client(options.server) as client:
        try:
            show(client, options.server, console)
        except KeyboardInterrupt:
            return 0


def _lines(client, server: str, _) -> None:
    """Print a table with a line per message of the status topic.

    What it waits for goes to standard error, so that standard output holds the table alone.
    """
    from timebill_ros.cli.status_table import StatusTable
    from timebill_ros.msg import RequestStatus
    table, topic = StatusTable(), f'{server}/status'
    print(table.header(), flush=True)
    client.node.create_subscription(RequestStatus, topic, lambda m: print(table.line(m), flush=True), 50)
    told = None
    while True:
        is_there = client.node.count_publishers(topic) > 0
        if is_there is not told:
            told = is_there
            print(waiting(server, is_there), file=sys.stderr, flush=True)
        time.sleep(LOOK_S)


def _live(client, server: str, console) -> None:
    """Draw the picture again and again, on a screen of its own."""
    from rich.live import Live

    from timebill_ros.cli.monitor_picture import picture
    from timebill_ros.monitoring import wording
    from timebill_ros.monitoring.goal_board import GoalBoard
    from timebill_ros.monitoring.subscription import subscribe
    board = GoalBoard()
    subscribe(client.node, server, lambda m: board.take_status(m, time.monotonic()),
              lambda m: board.take_stats(m, time.monotonic()))
    hint = wording.unheard(server)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(picture(server, board, time.monotonic(), *console.size, hint), refresh=True)
            time.sleep(1 / DRAWN_PER_S)


def waiting(server: str, is_there: bool) -> str:
    """Return what the monitor waits for; `is_there`: the node publishes its status."""
    if is_there:
        return f'{server} is there; waiting for requests'
    return (f'waiting for {server}: nothing publishes {server}/status. The node is not running, not configured yet, '
            'or in another ROS_DOMAIN_ID')
