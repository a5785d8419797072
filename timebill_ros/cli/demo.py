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

"""`timebill demo`: a node on the embedded model, and goals with budgets from generous to hopeless.

The node is a process of its own; this one is its client and imports no torch. Discovery is kept to this machine and
to a ROS domain of its own, so that neither a robot nearby nor another demonstration takes part.
"""
from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from timebill_ros.action import Generate
from timebill_ros.bench import plots
from timebill_ros.client import Client, chat, duration
from timebill_ros.request import ErrorCode, FinishReason, Strategy, Verdict
from timebill_ros.tasks import site_log
from timebill_ros.tasks.site_log_scores import step_accuracy

N_PROMPTS = 2
PROMPT_TOKENS = 960
N_ASKED = 8  # objects per instruction: plans long enough for eviction to matter
MAX_NEW_TOKENS = 512
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 10.0
MOST_BROKEN = 1  # promises: each of a dozen may be missed at a rate of 0.05
TOO_LITTLE_S = 0.001  # a budget for estimates at the largest eviction


def isolate() -> None:
    """Keep this process and its children to themselves in the ROS graph. Before rclpy.init."""
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ['ROS_LOCALHOST_ONLY'] = '1'  # the same for Humble
    os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)


def budgets(client, goal, margin_s: float) -> list[tuple[str, float]]:
    """(what is expected, seconds) for one prompt, from the node's own estimates, generous first."""
    tight = estimate(client, goal)
    prefill = estimate(client, Generate.Goal(messages=goal.messages, max_new_tokens=1)).wcet_without_eviction_s
    full, least = tight.wcet_without_eviction_s, tight.wcet_with_eviction_s
    share = tight.predicted_tokens / tight.pessimistic_tokens
    predicted, predicted_least = (full - prefill) * share, (least - prefill) * share  # decoding N_hat tokens
    steps = [('generous', 2 * full), ('just enough', 1.05 * full)]
    steps += [('needs eviction', least + part * (full - least)) for part in (0.75, 0.5, 0.25)]
    # Below the pessimistic length there is no promise; below the predicted one the text is cut; below prefill it ends
    # at once.
    steps += [('at risk', prefill + predicted_least + 0.3 * (predicted - predicted_least)),
              ('too short', prefill + 0.4 * predicted_least), ('hopeless', 0.5 * prefill)]
    return [(name, seconds + margin_s) for name, seconds in steps]


def estimate(client, goal):
    response = client.estimate(goal, TOO_LITTLE_S)
    if response.error_code:
        raise RuntimeError(f'no estimate: {response.error_msg}')
    return response


def row_of(task, name: str, label: str, budget_s: float, strategy: Strategy, answer) -> dict:
    """One goal for results.json; NaN becomes null."""
    result, timing = answer.result, answer.result.timing
    account = {field: getattr(timing, field) for field in timing.get_fields_and_field_types()}
    account = {field: None if isinstance(value, float) and math.isnan(value) else value
               for field, value in account.items()}
    return {
        'prompt': label, 'kind': name, 'instruction': task.instruction, 'budget_s': budget_s,
        'response_time_s': answer.received_s, 'tardiness_s': max(0.0, answer.received_s - budget_s),
        'node_tardiness_s': timing.tardiness_s if math.isfinite(timing.tardiness_s) else 0.0,
        'overrun_strategy': strategy.name, 'verdict': Verdict(timing.verdict).name,
        'eviction_ratio': account['eviction_ratio'], 'predicted_tokens': timing.predicted_tokens,
        'pessimistic_tokens': timing.pessimistic_tokens, 'generated_tokens': timing.generated_tokens,
        'finish_reason': FinishReason(result.finish_reason).name, 'error_code': ErrorCode(result.error_code).name,
        'error_msg': result.error_msg, 'step_accuracy': step_accuracy(task, result.text),
        'text': result.text, 'reference': task.answer, 'timing': account}


def is_broken_promise(row: dict) -> bool:
    """A promised answer (verdict FITS or FITS_WITH_EVICTION) that did not end by itself in time."""
    return Verdict[row['verdict']].is_promise and \
        (not FinishReason[row['finish_reason']].is_natural or row['node_tardiness_s'] > 0)


def send_goals(client) -> list[dict]:
    rows = []
    for index in range(N_PROMPTS):
        task = site_log.generate(index, split='test', family='bring', n_tokens=PROMPT_TOKENS, n_asked=N_ASKED)
        label = f'log {index + 1}'
        goal = Generate.Goal(messages=chat(*task.messages), max_new_tokens=MAX_NEW_TOKENS)
        series = budgets(client, goal, margin_s=0.04)
        for name, budget_s in series:
            # The second log's goals are killed where the first's are truncated: the same plan, another ending.
            strategy = Strategy.TRUNCATE if index == 0 else Strategy.KILL
            goal.overrun_strategy, goal.time_budget = int(strategy), duration(budget_s)
            answer = client.send(goal).answer(budget_s + 10.0)
            rows.append(row_of(task, name, label, budget_s, strategy, answer))
        # Two at once: the second waits, and its waiting counts.
        budget_s = series[0][1]
        goal.time_budget = duration(budget_s)
        pending = [client.send(goal), client.send(goal)]
        rows += [row_of(task, 'two at once', label, budget_s, strategy, p.answer(budget_s + 10.0)) for p in pending]
    return rows


def show(rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table
    table = Table(title='Goals as the client saw them. N_hat, N_W, N: predicted, pessimistic and generated tokens')
    left = ('log', 'strategy', 'verdict', 'finish')
    for column in ('log', 'strategy', 'budget s', 'response s', 'slack s', 'verdict', 'evicted', 'N_hat', 'N_W', 'N',
                   'finish', 'steps right'):
        table.add_column(column, no_wrap=True, justify='left' if column in left else 'right')
    for row in rows:
        evicted = '-' if row['eviction_ratio'] is None else f'{row["eviction_ratio"]:.0%}'
        finish = row['finish_reason'] + ('' if row['error_code'] == 'NONE' else f' ({row["error_code"]})')
        table.add_row(row['prompt'], row['overrun_strategy'], f'{row["budget_s"]:.3f}', f'{row["response_time_s"]:.3f}',
                      f'{row["budget_s"] - row["response_time_s"]:.3f}', row['verdict'], evicted,
                      str(row['predicted_tokens']), str(row['pessimistic_tokens']), str(row['generated_tokens']),
                      finish, f'{row["step_accuracy"]:.0%}')
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    first = rows[0]
    console.print(f'\nInstruction: {first["instruction"]}\n\nAnswer ({first["step_accuracy"]:.0%} of its steps right):',
                  highlight=False)
    console.print(first['text'], highlight=False, markup=False)


def run(out: Path) -> int:
    """The whole demonstration; 0 unless more promises were broken than a miss rate of 0.05 explains in so few goals."""
    isolate()
    started = time.monotonic()
    node = subprocess.Popen([sys.executable, '-m', 'timebill_ros.node.server_node', '--ros-args',
                             '-p', 'autostart:=true', '-p', 'keep_state:=false'],  # every demonstration starts the same
                            start_new_session=True)
    try:
        with Client() as client:
            client.wait_until_active(START_TIMEOUT_S, alive=lambda: node.poll() is None)
            print(f'node active after {time.monotonic() - started:.1f} s')
            rows = send_goals(client)
    finally:
        stop(node)
    out.mkdir(parents=True, exist_ok=True)
    (out / 'results.json').write_text(json.dumps(rows, indent=1) + '\n')
    plots.timeline(rows, out / 'timeline.png')
    show(rows)
    broken = [row for row in rows if is_broken_promise(row)]
    promised = sum(Verdict[row['verdict']].is_promise for row in rows)
    print(f'\n{len(rows)} goals, {promised} promised, {len(broken)} promises broken; '
          f'written to {out / "results.json"} and {out / "timeline.png"}')
    return 1 if len(broken) > MOST_BROKEN else 0


def stop(node: subprocess.Popen) -> None:
    """SIGINT, as Ctrl-C would; by force if that does not help. The worker ends with its node."""
    if node.poll() is None:
        node.send_signal(signal.SIGINT)
    try:
        node.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()
