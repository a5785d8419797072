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
import time


def add(commands) -> None:
    """Add the subcommand's parser."""
    command = commands.add_parser('monitor', help='print the status of every request as it is published')
    command.add_argument('--server', default='/timebill')
    command.set_defaults(run=run, talks=True)


def run(options: argparse.Namespace) -> int:
    """Print a line per message of the node's status topic until Ctrl-C."""
    from timebill_ros.client import Client
    from timebill_ros.msg import RequestStatus
    from timebill_ros.request import ErrorCode, FinishReason, Phase, Verdict

    def show(m: RequestStatus) -> None:
        stamp = f'{m.header.stamp.sec}.{m.header.stamp.nanosec // 10 ** 6:03d}'
        if not m.request_id:
            print(f'{stamp} the node is {"degraded: see /diagnostics" if m.degraded else "well again"}', flush=True)
            return
        ending = f' {FinishReason(m.finish_reason).name} {ErrorCode(m.error_code).name} in {m.response_time_s:.3f} s' \
            if m.phase >= Phase.DONE else ''
        print(f'{stamp} {m.request_id[:8]} {Phase(m.phase).name:8} {Verdict(m.verdict).name:18} '
              f'slack {m.slack_s:7.3f} s, wcet {m.wcet_s:7.3f} s, evicted {m.eviction_ratio:6.1%}, '
              f'tokens {m.generated_tokens}/{m.predicted_tokens}/{m.pessimistic_tokens}'
              f'{ending}{" OVERRUN" if m.overrun else ""}', flush=True)

    with Client(options.server) as client:
        client.node.create_subscription(RequestStatus, f'{options.server}/status', show, 50)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return 0
