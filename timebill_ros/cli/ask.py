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

"""`timebill ask`: send one goal to a running node and print the answer as it comes."""
from __future__ import annotations

import argparse
import math
import sys

from timebill_ros import settings

STRATEGY_NUMBERS = {'default': 0, **{name: int(strategy) for name, strategy in settings.STRATEGIES.items()}}


def add(commands) -> None:
    """Add the subcommand's parser."""
    command = commands.add_parser('ask', help='send one goal to a running node and print the answer as it comes')
    command.add_argument('text', help='the prompt; - reads it from standard input')
    command.add_argument('--budget', type=float, required=True, metavar='S', help='time budget in seconds')
    command.add_argument('--strategy', choices=sorted(STRATEGY_NUMBERS), default='default')
    command.add_argument('--max-new-tokens', type=int, default=0, metavar='N')
    command.add_argument('--raw', action='store_true',
                         help="send the text as it is, not through the model's chat template")
    command.add_argument('--server', default='/timebill', help='name of the node (default: /timebill)')
    command.set_defaults(run=run, talks=True)


def run(options: argparse.Namespace) -> int:
    """Print the answer to standard output and its times to standard error. Ctrl-C cancels the goal."""
    from timebill_ros.action import Generate
    from timebill_ros.client import Client, ServerUnavailable, chat, duration
    text = sys.stdin.read() if options.text == '-' else options.text
    goal = Generate.Goal(time_budget=duration(options.budget), max_new_tokens=options.max_new_tokens,
                         overrun_strategy=STRATEGY_NUMBERS[options.strategy])
    if options.raw:
        goal.prompt = text
    else:
        goal.messages = chat({'role': 'user', 'content': text})
    with Client(options.server) as client:
        if not client.actions.wait_for_server(5.0):
            raise ServerUnavailable(f'no node {options.server} found within 5 s')
        pending = client.send(goal, lambda message: print(message.feedback.text_delta, end='', flush=True))
        try:
            answer = pending.answer(max(options.budget, 0.0) + 10.0)
        except KeyboardInterrupt:
            pending.cancel()
            answer = pending.answer(5.0)
    result, timing = answer.result, answer.result.timing
    print()
    if result.error_code:
        print(f'error {result.error_code}: {result.error_msg}', file=sys.stderr)
    evicted = '' if math.isnan(timing.eviction_ratio) else f', evicted {timing.eviction_ratio:.0%}'
    print(f'[{answer.received_s:.3f} s of {options.budget:.3f} s, {timing.generated_tokens} tokens{evicted}]',
          file=sys.stderr)
    return 0 if result.error_code == Generate.Result.NONE else 1
