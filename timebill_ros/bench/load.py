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

"""`timebill bench load`: many clients, cancels, nonsense and faults at once; is every deadline held, is anything lost?

A real node over DDS, clients in processes of their own, and beside it an action server that does nothing, which says
what ROS 2 itself takes on this machine under this load.
"""
from __future__ import annotations

import datetime
import json
import math
import os
import platform
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from importlib import metadata
from pathlib import Path

import numpy as np

from timebill_ros.bench.goal_checks import Circumstances, GoalRecord, most_open, overruns, wrong
from timebill_ros.bench.node_under_load import ClientProcesses, Faults, Node, Sampler
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.client import duration
from timebill_ros.request import ErrorCode, FinishReason, Strategy, Verdict
from timebill_ros.resources import write_whole

CANCELED_SHARE, MALFORMED_SHARE, ABSOLUTE_SHARE = 0.10, 0.02, 0.05
STRATEGIES = [Strategy.TRUNCATE] * 11 + [Strategy.KILL] * 8 + [Strategy.SKIP_NEXT]
SHORTEST, LONGEST = 0.2, 3.0  # budgets, in vanilla times
MAX_OVERRUN_S = 1.0
LEAST_VANILLA_S = 0.15
FAULTS_SHARE = 0.65
EMPTY_EVERY = 5  # an empty goal for every so many
WARM_UP_S = 60.0  # of the memory of the node: caches fill
QUEUE_SIZE = 32
# What a malformed goal replaces, and the code that it must end with.
MALFORMED = [
    ({'time_budget': 0.0}, ErrorCode.INVALID_GOAL), ({'time_budget': -1.0}, ErrorCode.INVALID_GOAL),
    ({'prompt': '', 'messages': []}, ErrorCode.INVALID_GOAL), ({'overrun_strategy': 9}, ErrorCode.INVALID_GOAL),
    ({'max_eviction_ratio': 'nan'}, ErrorCode.INVALID_GOAL), ({'max_eviction_ratio': 1.5}, ErrorCode.INVALID_GOAL),
    ({'sampling': {'temperature': 'nan'}}, ErrorCode.INVALID_GOAL), ({'sampling': {'top_p': 2.0}},
                                                                      ErrorCode.INVALID_GOAL),
    ({'sampling': {'stop': ['']}}, ErrorCode.INVALID_GOAL), ({'closing_text': 'x' * 2000}, ErrorCode.INVALID_GOAL),
    ({'messages': [{'role': 'wizard', 'content': 'x'}]}, ErrorCode.INVALID_GOAL),
    ({'messages': [], 'prompt': 1_000_001}, ErrorCode.PROMPT_TOO_LONG),
]


def environment() -> dict:
    """Hardware and versions, without importing torch here."""
    cpu = next((line.split(':', 1)[1].strip() for line in Path('/proc/cpuinfo').read_text().splitlines()
                if line.startswith('model name')), platform.machine())
    return {'device': cpu, 'cores': len(os.sched_getaffinity(0)), 'load_average': os.getloadavg()[0],
            'nice': os.nice(0), 'versions': {name: metadata.version(name) for name in (
                'torch', 'transformers', 'numpy')}, 'python': platform.python_version(),
            'date': datetime.datetime.now().astimezone().isoformat(timespec='seconds')}


def site_log_kinds(n: int, seed: int, shortest: int = 600, longest: int = 1600) -> list[dict]:
    """Prompts for the embedded model."""
    from timebill_ros.tasks import site_log
    rng = random.Random(seed)
    tasks = [site_log.generate(rng.randrange(10 ** 6), split='test', n_tokens=rng.randint(shortest, longest),
                               family=rng.choice(['list', 'bring', 'route', 'report']),
                               n_asked=rng.randint(10, 24)) for _ in range(n)]
    return [{'messages': list(task.messages), 'max_new_tokens': 256, 'task': task} for task in tasks]


def without_tasks(kinds: list[dict]) -> list[dict]:
    """What clients are sent."""
    return [{key: kind[key] for key in kind if key != 'task'} for kind in kinds]


def measure_vanilla(node: Node, kinds: list[dict], repeats: int = 3) -> None:
    """Adds 'vanilla_s' to each kind: the fastest unhurried response, as the client sees it."""
    from timebill_ros.bench.load_client import make_goal
    for number, kind in enumerate(kinds):
        goal = make_goal({'kind': number, 'strategy': int(Strategy.TRUNCATE), 'budget_s': 60.0}, kinds)
        goal.time_budget = duration(60.0)
        kind['vanilla_s'] = min(node.client.send(goal).answer(70.0).received_s for _ in range(repeats))


def schedule(kinds: list[dict], n: int, seconds: float, rng: random.Random) -> list[dict]:
    """Goals at random times over `seconds`: budgets log-uniform in vanilla times, some canceled, some malformed."""
    goals = []
    for at_s in sorted(rng.uniform(0.0, seconds) for _ in range(n)):
        kind = rng.randrange(len(kinds))
        budget_s = kinds[kind]['vanilla_s'] * math.exp(rng.uniform(math.log(SHORTEST), math.log(LONGEST)))
        spec = {'at_s': at_s, 'kind': kind, 'budget_s': budget_s, 'strategy': int(rng.choice(STRATEGIES)),
                'priority': rng.choice([0, 0, 0, 1, 5]), 'absolute': rng.random() < ABSOLUTE_SHARE}
        if rng.random() < MALFORMED_SHARE:
            fields, code = rng.choice(MALFORMED)
            spec.update(fields=fields, expected=int(code), absolute=False)
        elif rng.random() < CANCELED_SHARE:
            spec['cancel_after_s'] = rng.uniform(0.0, 1.5) * min(budget_s, kinds[kind]['vanilla_s'])
        goals.append(spec)
    return goals


def fault_plan(kills: int, hangs: int, start_s: float, seconds: float, rng: random.Random) -> list[tuple[float, str]]:
    """Spread over the first part of the time: the last worker lives long enough for its memory to be judged."""
    seconds *= FAULTS_SHARE
    kinds = ['kill'] * kills + ['hang'] * hangs
    rng.shuffle(kinds)
    room = seconds / (len(kinds) + 1)
    return [(start_s + room * (i + 0.5 + 0.5 * rng.random()), kind) for i, kind in enumerate(kinds)]


def write(path: Path, result: dict) -> None:
    """As JSON; NaN, which JSON lacks, becomes null."""
    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, (float, np.floating)):
            return float(value) if math.isfinite(value) else None
        return value
    write_whole(path, json.dumps(plain(result), indent=1) + '\n')
    print(f'written to {path}')


def to_record(row: dict) -> GoalRecord:
    return GoalRecord(**{key: row[key] for key in GoalRecord.__dataclass_fields__ if key in row and key not in (
        'strategy', 'expected')}, strategy=Strategy(row['strategy']), expected=ErrorCode(row['expected']))


def quantiles(values) -> dict:
    values = np.asarray([v for v in values if not math.isnan(v)], dtype=float)
    if not len(values):
        return {'n': 0}
    p50, p99, p999 = np.quantile(values, [0.5, 0.99, 0.999])
    return {'n': len(values), 'p50': p50, 'p99': p99, 'p99.9': p999, 'max': values.max()}


def slope(at_s, values) -> dict:
    """Least squares, units per hour, with a 95 % interval that allows for values that follow each other."""
    at_h, values = np.asarray(at_s, dtype=float) / 3600.0, np.asarray(values, dtype=float)
    if len(values) < 10:
        return {'n': len(values)}
    x = at_h - at_h.mean()
    b = float(x @ (values - values.mean()) / (x @ x))
    residual = values - values.mean() - b * x
    # Samples of one second are no independent ones: as many count as the first autocorrelation leaves.
    rho = float(np.clip(residual[1:] @ residual[:-1] / max(residual @ residual, 1e-12), 0.0, 0.99))
    effective = max(3.0, len(values) * (1 - rho) / (1 + rho))
    error = math.sqrt(float(residual @ residual) / (effective - 2) / float(x @ x) * len(values) / effective)
    return {'per_hour': b, 'interval': [b - 1.96 * error, b + 1.96 * error], 'first': values[0], 'last': values[-1],
            'n': len(values)}


def memory(rows: list[dict], start_s: float, warm_up_s: float) -> dict:
    """Slopes of the node's memory, files and threads, and of those of the worker that lived longest."""
    warm = [row for row in rows if row['at_s'] - start_s > warm_up_s and 'node_mb' in row]
    result = {f'node_{name}': slope([row['at_s'] for row in warm], [row[f'node_{name}'] for row in warm])
              for name in ('mb', 'files', 'threads')}
    beside = [row for row in rows if row['at_s'] - start_s > warm_up_s and 'empty_action_mb' in row]
    result['empty_action_mb'] = slope([row['at_s'] for row in beside], [row['empty_action_mb'] for row in beside])
    lives: dict[int, list[dict]] = {}
    for row in rows:
        if 'worker_mb' in row:
            lives.setdefault(row['worker'], []).append(row)
    longest = max(lives.values(), key=len, default=[])
    life = [row for row in longest if row['at_s'] - longest[0]['at_s'] > warm_up_s]
    for name in ('mb', 'files'):
        result[f'worker_{name}'] = slope([row['at_s'] for row in life], [row[f'worker_{name}'] for row in life])
    result['most_zombies'] = max((row['zombies'] for row in rows), default=0)
    return result


def counts(names) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def analyse(records: list[GoalRecord], empty: list[dict], faults: list, queue_size: int) -> dict:
    """Everything that load.json says of goals."""
    answered = [r for r in records if not r.is_lost]
    around = Circumstances([(f.at_s, f.back_s if not math.isnan(f.back_s) else math.inf) for f in faults],
                           overruns(records), queue_size, most_open(records))
    errors = [(r, sentence) for r in answered if (sentence := wrong(r, around))]
    valid = [r for r in answered if r.expected is ErrorCode.NONE]
    hard = [r for r in valid if r.strategy is not Strategy.SKIP_NEXT]
    finished = [r for r in valid if r.timing.get('decode_s', math.nan) == r.timing.get('decode_s')
                and r.timing.get('decode_s', math.nan) > 0 and not math.isnan(r.timing['time_to_first_token_s'])]
    cut = [r for r in hard if FinishReason(r.reason) is FinishReason.DEADLINE]
    empty = [e for e in empty if 'received_s' in e]
    acceptance = quantiles(r.accepted_s - r.sent_s for r in answered)
    delivery = quantiles(r.received_s - r.sent_s - r.timing['time_to_first_token_s'] - r.timing['decode_s']
                         for r in finished)
    empty_acceptance = quantiles(e['accepted_s'] - e['sent_s'] for e in empty)
    empty_whole = quantiles(e['received_s'] - e['sent_s'] for e in empty)
    promised = [r for r in valid if r.timing and Verdict(r.timing['verdict']).is_promise
                and r.code not in (ErrorCode.CANCELED,)]
    missed = [r for r in promised if not FinishReason(r.reason).is_natural or r.tardiness_s > 0]
    return {
        'goals': len(records), 'lost': len(records) - len(answered),
        'late': sum(r.tardiness_s > 0 for r in hard), 'wrong_code': len(errors),
        'late_codes': counts(ErrorCode(r.code).name for r in hard if r.tardiness_s > 0),
        'late_by_s': quantiles(r.tardiness_s for r in hard if r.tardiness_s > 0),
        'wrong': [sentence for _, sentence in errors[:20]], 'codes': counts(ErrorCode(r.code).name for r in answered),
        'malformed': sum(r.expected is not ErrorCode.NONE for r in records),
        'cancels_sent': sum(not math.isnan(r.canceled_s) for r in records),
        'skip_next_late': len(around.overruns), 'most_open': around.most_open,
        'on_time_share': sum(r.code == 0 and r.lateness_s <= 0 for r in valid) / max(1, len(valid)),
        'promised': len(promised), 'missed': len(missed),
        'client_lateness_s': {
            'goals': len(hard), 'over_20_ms': sum(r.lateness_s > 0.020 for r in hard),
            'over_100_ms': sum(r.lateness_s > 0.100 for r in hard), 'all': quantiles(r.lateness_s for r in hard),
            'cut_at_deadline': quantiles(r.lateness_s for r in cut)},
        'acceptance_s': {'timebill': acceptance, 'empty_action': empty_acceptance,
                         'p99_above': acceptance.get('p99', math.nan) - empty_acceptance.get('p99', math.nan)},
        'delivery_s': {'timebill': delivery, 'empty_action': empty_whole,
                       'p99_above': delivery.get('p99', math.nan) - empty_whole.get('p99', math.nan)},
    }


def run(out: Path | None, *, parameters: dict | None = None, kinds: list[dict] | None = None, n_goals: int = 10_000,
        n_clients: int = 4, minutes: float = 24.0, kills: int = 20, hangs: int = 10, seed: int = 1,
        show: bool = True, log: Path | None = None) -> dict:
    """The whole bench; the result, also written to `out` with a plot beside it. `log`: where the node's log goes."""
    rng = random.Random(seed)
    seconds = minutes * 60.0
    kinds = kinds or site_log_kinds(48, seed)
    parameters = {'queue_size': QUEUE_SIZE, 'max_overrun_s': MAX_OVERRUN_S, 'keep_state': False, **(parameters or {})}
    with Node(parameters, log) as node:
        measure_vanilla(node, kinds)
        # A budget below what ROS 2 itself takes says nothing: prompts whose shortest one would be that are left out.
        kinds = [kind for kind in kinds if kind['vanilla_s'] >= LEAST_VANILLA_S] or kinds
        longest_s = LONGEST * max(kind['vanilla_s'] for kind in kinds) + MAX_OVERRUN_S + 10.0
        jobs = [{'number': i, 'server': '/timebill', 'kinds': without_tasks(kinds), 'wait_s': longest_s,
                 'empty_every': EMPTY_EVERY, 'goals': schedule(kinds, n_goals // n_clients, seconds, rng)}
                for i in range(n_clients)]
        empty_server = subprocess.Popen([sys.executable, '-m', 'timebill_ros.bench.empty_action'],
                                        stdin=subprocess.PIPE)
        try:
            with ClientProcesses(jobs) as clients:
                start_s = time.monotonic()
                faults = Faults(node, fault_plan(kills, hangs, start_s, seconds, rng))
                sampler = Sampler(node, {'empty_action': empty_server.pid})
                threads = [threading.Thread(target=part.run, daemon=True) for part in (faults, sampler)]
                for thread in threads:
                    thread.start()
                clients.start()
                if show:
                    _progress(start_s, seconds)
                outputs = clients.results(seconds + longest_s + 60.0)
                for part in (faults, sampler):
                    part.stop.set()
                for thread in threads:
                    thread.join(5.0)
        finally:
            empty_server.terminate()
            empty_server.wait()
    records = [to_record(row) for output in outputs for row in output['goals']]
    result = {'environment': environment(), 'parameters': parameters, 'clients': n_clients, 'seconds': seconds,
              'offered_load': sum(kinds[spec['kind']]['vanilla_s'] for job in jobs for spec in job['goals']) / seconds,
              **analyse(records, [e for output in outputs for e in output['empty']], faults.done, QUEUE_SIZE),
              'kills': sum(fault.kind == 'kill' for fault in faults.done),
              'hangs': sum(fault.kind == 'hang' for fault in faults.done),
              'recovery_s': {kind: quantiles(f.back_s - f.at_s for f in faults.done if f.kind == kind)
                             for kind in ('kill', 'hang')},
              'not_recovered': sum(math.isnan(fault.back_s) for fault in faults.done),
              **memory(sampler.rows, start_s, min(WARM_UP_S, seconds / 4))}
    if out is not None:
        write(out, result)
        if plots := plots_if_installed():
            plots.load([r.lateness_s for r in records if not r.is_lost and r.strategy is not Strategy.SKIP_NEXT
                        and r.expected is ErrorCode.NONE], sampler.rows, start_s, out.with_suffix('.png'))
    return result


def summary(result: dict) -> str:
    """The figures that count, for people."""
    late, accept, deliver = (result[key] for key in ('client_lateness_s', 'acceptance_s', 'delivery_s'))
    node = result['node_mb']
    return '\n'.join([
        f'{result["goals"]} goals: {result["lost"]} lost, {result["wrong_code"]} with a wrong code, '
        f'{result["late"]} set after their deadline by the node',
        f'at the client {late["over_20_ms"]} of {late["goals"]} more than 20 ms late, {late["over_100_ms"]} more '
        'than 100 ms',
        f'acceptance p99 {1e3 * accept["timebill"]["p99"]:.1f} ms, of an empty action '
        f'{1e3 * accept["empty_action"]["p99"]:.1f} ms',
        f'from the end of decoding to the client, with the way of the goal: p99 {1e3 * deliver["timebill"]["p99"]:.1f} '
        f'ms; an empty action as a whole {1e3 * deliver["empty_action"]["p99"]:.1f} ms',
        f'worker killed {result["kills"]} times, hung {result["hangs"]} times',
        f'memory of the node {node.get("per_hour", math.nan):+.1f} MB an hour, 95 % interval '
        f'{node.get("interval")}', *result['wrong']])


def _progress(start_s: float, seconds: float) -> None:
    from rich.progress import Progress
    with Progress() as bar:
        task = bar.add_task('load', total=seconds)
        while (now := time.monotonic() - start_s) < seconds:
            bar.update(task, completed=now)
            time.sleep(1.0)
        bar.update(task, completed=seconds)
