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

"""`timebill bench utilisation`: what scheduling and admission are worth when more is asked than can be served.

Goals arrive as a Poisson process at several offered loads, at the same instants for every policy, and go through a
real node over DDS. All of them are of KILL: a late answer is worth nothing. What a policy is worth depends on the
budgets: where all are tight, their order matters little. So there are two mixes of budgets, and both are reported.
"""
from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from timebill_ros.bench.client_processes import ClientProcesses
from timebill_ros.bench.goal_checks import GoalRecord
from timebill_ros.bench.host import environment, write
from timebill_ros.bench.load_analysis import counts, to_record
from timebill_ros.bench.load_goals import measure_vanilla, site_log_kinds, without_tasks
from timebill_ros.bench.node_under_load import Node
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.codes import ErrorCode, Strategy
from timebill_ros.tasks.site_log_scores import step_accuracy

LOADS = (0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5)
POLICIES = {
    'EDF with admission': {'scheduling': 'edf', 'drop_infeasible': 'all'},
    'first come, first served, with admission': {'scheduling': 'fcfs', 'drop_infeasible': 'all'},
    'first come, first served': {'scheduling': 'fcfs', 'drop_infeasible': 'never'},
}
BASELINE = 'first come, first served'
# Budgets in vanilla times (see load_goals.py). In 'mixed' some goals are urgent and some can wait.
BUDGETS = {
    'tight': lambda rng: rng.uniform(1.0, 4.0),
    'mixed': lambda rng: math.exp(rng.uniform(math.log(1.2), math.log(20.0))),
}
N_CLIENTS = 2


def arrivals(kinds: list[dict], load: float, budgets: str, seconds: float, rng: random.Random) -> list[dict]:
    """Return goals of a Poisson process whose rate times the mean vanilla time is `load`.

    `budgets` is a key of BUDGETS.
    """
    rate = load / (sum(kind['vanilla_s'] for kind in kinds) / len(kinds))
    goals, at_s = [], rng.expovariate(rate)
    while at_s < seconds:
        kind = rng.randrange(len(kinds))
        goals.append({'at_s': at_s, 'kind': kind, 'strategy': int(Strategy.KILL),
                      'budget_s': BUDGETS[budgets](rng) * kinds[kind]['vanilla_s']})
        at_s += rng.expovariate(rate)
    return goals


def mean_with_interval(values: list[float], seed: int = 0) -> dict:
    """Return the mean and its 95 % bootstrap interval."""
    values = np.asarray(values, dtype=float)
    if not len(values):
        return {'mean': 0.0, 'interval': [0.0, 0.0]}
    draws = np.random.default_rng(seed).choice(values, (1000, len(values))).mean(axis=1)
    return {'mean': values.mean(), 'interval': list(np.quantile(draws, [0.025, 0.975]))}


def is_on_time(record: GoalRecord) -> bool:
    """Return whether a goal succeeded by its deadline, as the node measured it."""
    return not record.is_lost and record.code == ErrorCode.NONE and record.tardiness_s == 0


def values_of(goals: list[tuple[GoalRecord, float]]) -> list[float]:
    """Return what each answer is worth: its score, or 0 where it is not on time."""
    return [score if is_on_time(record) else 0.0 for record, score in goals]


def above(goals: list[tuple[GoalRecord, float]], baseline: list[tuple[GoalRecord, float]]) -> dict:
    """Return by how much one policy is above another on the same arrivals.

    Differences are taken goal by goal, so that the differences between goals do not widen these intervals.
    """
    pairs = list(zip(goals, baseline, strict=True))
    return {'on_time': mean_with_interval([is_on_time(one[0]) - is_on_time(other[0]) for one, other in pairs]),
            'score': mean_with_interval(list(np.subtract(values_of(goals), values_of(baseline))))}


def row_of(policy: str, load: float, budgets: str, goals: list[tuple[GoalRecord, float]]) -> dict:
    """Return one point; `goals` are pairs (record, score of the answer)."""
    codes = counts('LOST' if record.is_lost else ErrorCode(record.code).name for record, _ in goals)
    return {'policy': policy, 'offered_load': load, 'budgets': budgets, 'goals': len(goals), 'codes': codes,
            'on_time': mean_with_interval([is_on_time(record) for record, _ in goals]),
            'score': mean_with_interval(values_of(goals)),
            'late_at_client': sum(record.lateness_s > 0 for record, _ in goals if is_on_time(record))}


def set_parameters(node: Node, values: dict) -> None:
    """Set parameters of the node; RuntimeError with the node's reason where it refuses one."""
    service = node.client.node.create_client(SetParameters, '/timebill/set_parameters')
    service.wait_for_service(10.0)
    answer = node.client.call(service, SetParameters.Request(
        parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]), 10.0)
    node.client.node.destroy_client(service)
    for result in answer.results:
        if not result.successful:
            raise RuntimeError(result.reason)


def in_turn(turn: int) -> list[str]:
    """Return the policies in the order of this turn; each is first in every third turn.

    The order matters because the node has learned from the goals of the policy before.
    """
    names = list(POLICIES)
    first = turn % len(names)
    return names[first:] + names[:first]


def measure(node: Node, kinds: list[dict], goals: list[dict], seconds: float) -> list[tuple[GoalRecord, float]]:
    """Send the goals and return what became of each, with the score of its answer.

    The order depends on `goals` only, so that policies can be compared goal by goal.
    """
    jobs = [{'number': i, 'server': '/timebill', 'kinds': without_tasks(kinds), 'wait_s': 20.0, 'empty_every': 0,
             'goals': goals[i::N_CLIENTS]} for i in range(N_CLIENTS)]
    with ClientProcesses(jobs) as clients:
        clients.start()
        answers = [row for output in clients.results(seconds + 60.0) for row in output['goals']]
    return [(to_record(row), step_accuracy(kinds[row['kind']]['task'], row.get('text', ''))
             if 'task' in kinds[row['kind']] else 1.0) for row in answers]


def run(out: Path | None, *, parameters: dict | None = None, kinds: list[dict] | None = None, loads=LOADS,
        budgets=tuple(BUDGETS), seconds: float = 30.0, seed: int = 1, show: bool = True) -> dict:
    """Run the whole bench and return its result, which is also written to `out` with a plot beside it.

    Policies take turns at each load.
    """
    from rich.progress import track
    kinds = kinds or site_log_kinds(24, seed)
    parameters = {'keep_state': False, **(parameters or {})}
    rows = []
    with Node(parameters) as node:
        measure_vanilla(node, kinds)
        points = [(load, mix) for load in loads for mix in budgets]
        for turn, (load, mix) in enumerate(track(points, 'load', disable=not show)):
            goals = arrivals(kinds, load, mix, seconds, random.Random(f'{seed} {load}'))
            answers = {}
            for policy in in_turn(turn):
                set_parameters(node, POLICIES[policy])
                answers[policy] = measure(node, kinds, goals, seconds)
            rows += [{**row_of(policy, load, mix, answers[policy]),
                      'above_baseline': above(answers[policy], answers[BASELINE])} for policy in POLICIES]
    result = {'environment': environment(), 'parameters': parameters, 'policies': POLICIES, 'baseline': BASELINE,
              'seconds': seconds, 'mean_vanilla_s': sum(kind['vanilla_s'] for kind in kinds) / len(kinds),
              'rows': rows}
    if out is not None:
        write(out, result)
        if plots := plots_if_installed():
            plots.utilisation(rows, out.with_suffix('.png'))
    return result
