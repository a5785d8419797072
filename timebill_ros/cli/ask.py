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
import json
import math
import os
import sys
import time
from pathlib import Path

from timebill_ros import settings
from timebill_ros.asking.message_check import INTEGERS, LARGEST
from timebill_ros.cli import trace
from timebill_ros.cli.form_options import add_form_options, check_form, form_fields
from timebill_ros.codes import ErrorCode, Part, name_of
from timebill_ros.monitoring import ending

STRATEGY_NUMBERS = {'default': 0, **{name: int(strategy) for name, strategy in settings.STRATEGIES.items()}}
GRACE_S = 10.0  # how long after its budget an answer is waited for
LONGEST_S = 2 ** 31 - 1  # the largest `sec` of a Duration
MOST_TOKENS = INTEGERS['uint32'][1]
# Fields of SamplingConfig; what is not given keeps the goal's default. The node refuses other values with a sentence.
SAMPLING = {
    'temperature': (float, 'how freely tokens are drawn; 0: greedily; negative: as the node is configured'),
    'top_p': (float, 'probability mass of the tokens to draw from'),
    'top_k': (int, 'number of tokens to draw from; 0: all'),
    'min_p': (float, "least probability of a token to draw, as a share of the likeliest one's"),
    'repetition_penalty': (float, 'above 1: tokens that were there before become less likely'),
    'seed': (int, 'seed of the sampler; 0: a fresh one'),
}
KINDS = {'top_k': 'uint32', 'seed': 'uint64'}  # of ROS; the others are float32


def add(commands) -> None:
    """Add the subcommand's parser."""
    command = commands.add_parser('ask', help='send one goal to a running node and print the answer as it comes')
    command.add_argument('text', help='the prompt; - reads it from standard input')
    command.add_argument('--budget', type=float, required=True, metavar='S', help='time budget in seconds')
    command.add_argument('--strategy', choices=sorted(STRATEGY_NUMBERS), default='default',
                         help="what happens at the deadline; default: the node's own")
    command.add_argument('--max-new-tokens', type=int, default=0, metavar='N',
                         help="longest answer in tokens; 0: the node's own limit")
    for name, (kind, what) in SAMPLING.items():
        command.add_argument(f'--{name.replace("_", "-")}', type=kind, metavar='N' if kind is int else 'X', help=what)
    add_form_options(command)
    command.add_argument('--allow-offboard', action='store_true',
                         help='the text may leave the robot: a server that the node knows (offboard_url) is asked too')
    command.add_argument('--raw', action='store_true',
                         help="send the text as it is, not through the model's chat template")
    command.add_argument('--json', action='store_true',
                         help='print one JSON object at the end: text, codes by name, promise, all times')
    command.add_argument('--trace', metavar='FILE', help='write what happened when as a Chrome trace, for '
                         'ui.perfetto.dev or chrome://tracing')
    command.add_argument('--wait', type=float, default=5.0, metavar='S',
                         help='longest time to wait until the node is active, in seconds')
    command.add_argument('--server', default='/timebill', help='name of the node')
    command.set_defaults(run=run, talks=True)


def check(options: argparse.Namespace) -> None:
    """Raise ValueError with a sentence for options that cannot be served, such as a number that no goal can carry."""
    if not 0 < options.budget <= LONGEST_S:  # NaN compares false too
        raise ValueError(f'--budget {options.budget} s is no time budget: give seconds above 0, at most {LONGEST_S}')
    if not 0 <= options.max_new_tokens <= MOST_TOKENS:
        raise ValueError(f'--max-new-tokens {options.max_new_tokens} is no number of tokens: give 0 to {MOST_TOKENS}')
    for name, (kind, _) in SAMPLING.items():
        value, option = getattr(options, name), f'--{name.replace("_", "-")}'
        low, high = INTEGERS[KINDS[name]] if kind is int else (-LARGEST['float'], LARGEST['float'])
        if value is not None and not low <= value <= high:  # NaN compares false too
            give = f'a whole number from {low} to {high}' if kind is int else f'a number from {low:.4g} to {high:.4g}'
            raise ValueError(f'{option} {value} cannot be sent: give {give}')
    if not (math.isfinite(options.wait) and options.wait >= 0):
        raise ValueError(f'--wait {options.wait} s is no time to wait: give seconds, 0 or more')
    check_form(options)
    _check_trace(options.trace)


def _check_trace(file: str | None) -> None:
    """Raise ValueError where `file` is given and cannot be written."""
    if not file:
        return
    if os.path.isdir(file):
        raise ValueError(f'--trace {file} is a directory: name a file in it')
    if os.path.exists(file) and not os.access(file, os.W_OK):
        raise ValueError(f'--trace {file} cannot be written: it is not yours to write to')
    if not os.access(os.path.dirname(file) or '.', os.W_OK):
        raise ValueError(f'--trace {file} cannot be written: its folder is missing or not yours to write to')


def prompt(text: str) -> str:
    """Return the prompt that the argument `text` stands for. ValueError, in one sentence, where it is not UTF-8."""
    try:
        found = sys.stdin.read() if text == '-' else text
        found.encode()  # Python stands in a surrogate for what it could not decode on the command line
    except UnicodeError as error:
        where = 'standard input' if text == '-' else 'the text'
        raise ValueError(f'{where} is not UTF-8, from position {error.start} on: convert it first, for instance with '
                         '"iconv -f latin1 -t utf-8"') from None
    return found


def unshown(shown: str, text: str) -> str:
    """Return what is to be printed after the streamed text `shown`, so that the whole answer `text` stands there.

    Feedback is a topic: what a client that has just started misses of it does not come again.
    """
    if text.startswith(shown):
        return text[len(shown):]
    return f'\n{text}' if text else ''


def run(options: argparse.Namespace) -> int:
    """Print the answer to standard output and how it ended to standard error. Ctrl-C cancels the goal."""
    check(options)
    from timebill_ros.action import Generate
    from timebill_ros.client import Client, chat, check_goal, duration
    from timebill_ros.msg import SamplingConfig
    text = prompt(options.text)
    goal = Generate.Goal(time_budget=duration(options.budget), max_new_tokens=options.max_new_tokens,
                         overrun_strategy=STRATEGY_NUMBERS[options.strategy], **form_fields(options),
                         allow_offboard=options.allow_offboard,
                         sampling=SamplingConfig(
                             **{name: value for name in SAMPLING if (value := getattr(options, name)) is not None}))
    if options.raw:
        goal.prompt = text
    else:
        goal.messages = chat({'role': 'user', 'content': text})
    check_goal(goal)  # before a node is waited for

    # What is streamed of an answer with a form or with tools may be taken back where it is cut: its reader gets the
    # result alone.
    streams = not options.json and not (options.schema or options.choice or options.regex or options.tools)
    shown: list[str] = []
    thoughts: list[str] = []
    texts: list[tuple[float, int]] = []  # for the trace: when feedback came, and with how many tokens

    def hear(message) -> None:
        texts.append((time.monotonic(), message.feedback.generated_tokens))
        feedback = message.feedback
        if options.json or not feedback.text_delta:
            return
        if feedback.part == Part.REASONING:
            thoughts.append(feedback.text_delta)
            print(thoughts[-1], end='', flush=True, file=sys.stderr)
        elif feedback.part == Part.TEXT and streams:
            if thoughts and not shown:
                print(file=sys.stderr)
            shown.append(feedback.text_delta)
            print(shown[-1], end='', flush=True)

    with Client(options.server, watch_status=bool(options.trace)) as client:
        client.wait_until_active(options.wait)
        sent_s, sent_ros_s = time.monotonic(), client.node.get_clock().now().nanoseconds * 1e-9
        # With a time-out, because its statuses can be asked for then; the answer is waited for less long.
        pending = client.send(goal, hear, timeout_s=options.budget + 2 * GRACE_S)
        try:
            answer = pending.answer(options.budget + GRACE_S)
        except KeyboardInterrupt:
            pending.cancel()
            answer = pending.answer(5.0)
        statuses = list(pending.statuses()) if options.trace else []
    result = answer.result
    if options.trace:
        seen = trace.Seen(sent_ros_s, answer.accepted_s, answer.received_s, [(came - sent_s, n) for came, n in texts],
                          statuses)
        Path(options.trace).write_text(json.dumps(trace.trace(result, seen)) + '\n')
    if options.json:
        print(json.dumps(ending.as_json(result, answer.accepted_s, answer.received_s, options.budget)))
        return 0 if result.error_code == Generate.Result.NONE else 1
    if thoughts and not shown:
        print(file=sys.stderr)
    if not result.tool_calls or result.text:
        print(unshown(''.join(shown), result.text))
    for call in ending.calls_of(result):
        print(json.dumps(call, ensure_ascii=False))
    if result.error_code:
        print(f'error {result.error_code} {name_of(ErrorCode, result.error_code)}: {result.error_msg}',
              file=sys.stderr)
    print(ending.sentence(result, answer.received_s, options.budget), file=sys.stderr)
    return 0 if result.error_code == Generate.Result.NONE else 1
