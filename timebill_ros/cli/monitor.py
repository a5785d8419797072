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

"""`timebill monitor`: print the status of every request as the node publishes it."""
from __future__ import annotations

import argparse
import sys
import time

LOOK_S = 0.5  # seconds between looks at whether a node publishes its status


def add(commands) -> None:
    """Add the subcommand's parser."""
    command = commands.add_parser('monitor', help='print the status of every request as it is published')
    command.add_argument('--server', default='/timebill', help='name of the node')
    command.set_defaults(run=run, talks=True)


def run(options: argparse.Namespace) -> int:
    """Print a table with a line per message of the node's status topic until Ctrl-C.

    What it waits for goes to standard error, so that standard output holds the table alone.
    """
    from timebill_ros.cli.status_table import StatusTable
    from timebill_ros.client import Client
    from timebill_ros.msg import RequestStatus
    table, topic = StatusTable(), f'{options.server}/status'
    print(table.header(), flush=True)
    with Client(options.server) as client:
        client.node.create_subscription(RequestStatus, topic, lambda m: print(table.line(m), flush=True), 50)
        told = None
        try:
            while True:
                is_there = client.node.count_publishers(topic) > 0
                if is_there is not told:
                    told = is_there
                    print(waiting(options.server, is_there), file=sys.stderr, flush=True)
                time.sleep(LOOK_S)
        except KeyboardInterrupt:
            return 0


def waiting(server: str, is_there: bool) -> str:
    """Return what the monitor waits for; `is_there`: the node publishes its status."""
    if is_there:
        return f'{server} is there; waiting for requests'
    return (f'waiting for {server}: nothing publishes {server}/status. The node is not running, not configured yet, '
            'or in another ROS_DOMAIN_ID')
