"""`timebill bench utilisation`: what scheduling and admission are worth when more is asked than can be served.

Poisson arrivals at several offered loads, the same ones for every policy, through a real node over DDS. All goals are
of KILL: a late answer is worth nothing.
"""
from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from timebill_ros.bench.goal_checks import GoalRecord
from timebill_ros.bench.load import environment, measure_vanilla, site_log_kinds, to_record, write
from timebill_ros.bench.node_under_load import ClientProcesses, Node
from timebill_ros.request import ErrorCode, Strategy
from timebill_ros.training.site_log_scores import step_accuracy

LOADS = (0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5)
POLICIES = {
    'EDF with admission': {'scheduling': 'edf', 'drop_infeasible': 'kill'},
    'first come, first served': {'scheduling': 'fcfs', 'drop_infeasible': 'never'},
}
SHORTEST, LONGEST = 1.2, 20.0  # budgets, in vanilla times: some are urgent, some can wait
N_CLIENTS = 2


def arrivals(kinds: list[dict], load: float, seconds: float, rng: random.Random) -> list[dict]:
    """Goals of a Poisson process whose rate times the mean vanilla time is `load`."""
    rate = load / (sum(kind['vanilla_s'] for kind in kinds) / len(kinds))
    goals, at_s = [], rng.expovariate(rate)
    while at_s < seconds:
        kind = rng.randrange(len(kinds))
        goals.append({'at_s': at_s, 'kind': kind, 'strategy': int(Strategy.KILL),
                      'budget_s': math.exp(rng.uniform(math.log(SHORTEST), math.log(LONGEST))) *
                      kinds[kind]['vanilla_s']})
        at_s += rng.expovariate(rate)
    return goals


def mean_with_interval(values: list[float], seed: int = 0) -> dict:
    """Mean and its 95 % bootstrap interval."""
    values = np.asarray(values, dtype=float)
    if not len(values):
        return {'mean': 0.0, 'interval': [0.0, 0.0]}
    draws = np.random.default_rng(seed).choice(values, (1000, len(values))).mean(axis=1)
    return {'mean': values.mean(), 'interval': list(np.quantile(draws, [0.025, 0.975]))}


def is_on_time(record: GoalRecord) -> bool:
    return not record.is_lost and record.code == ErrorCode.NONE and record.tardiness_s == 0


def row_of(policy: str, load: float, goals: list[tuple[GoalRecord, float]]) -> dict:
    """One point: `goals` with the score of each answer."""
    codes: dict[str, int] = {}
    for record, _ in goals:
        name = 'LOST' if record.is_lost else ErrorCode(record.code).name
        codes[name] = codes.get(name, 0) + 1
    return {'policy': policy, 'offered_load': load, 'goals': len(goals), 'codes': codes,
            'on_time': mean_with_interval([is_on_time(record) for record, _ in goals]),
            'score': mean_with_interval([score if is_on_time(record) else 0.0 for record, score in goals]),
            'late_at_client': sum(record.lateness_s > 0 for record, _ in goals if is_on_time(record))}


def set_parameters(node: Node, values: dict) -> None:
    """RuntimeError with the node's reason where it refuses one."""
    service = node.client.node.create_client(SetParameters, '/timebill/set_parameters')
    service.wait_for_service(10.0)
    answer = node.client.call(service, SetParameters.Request(
        parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]), 10.0)
    node.client.node.destroy_client(service)
    for result in answer.results:
        if not result.successful:
            raise RuntimeError(result.reason)


def run(out: Path | None, *, parameters: dict | None = None, kinds: list[dict] | None = None, loads=LOADS,
        seconds: float = 30.0, seed: int = 1, show: bool = True) -> dict:
    """The whole bench; the result, also written to `out` with a plot beside it. Policies take turns at each load."""
    from rich.progress import track
    kinds = kinds or site_log_kinds(24, seed)
    parameters = {'keep_state': False, **(parameters or {})}
    rows = []
    with Node(parameters) as node:
        measure_vanilla(node, kinds)
        sent_kinds = [{key: kind[key] for key in kind if key != 'task'} for kind in kinds]
        points = [(load, policy) for load in loads for policy in POLICIES]
        for load, policy in track(points, 'load', disable=not show):
            set_parameters(node, POLICIES[policy])
            goals = arrivals(kinds, load, seconds, random.Random(f'{seed} {load}'))
            jobs = [{'number': i, 'server': '/timebill', 'kinds': sent_kinds, 'wait_s': 20.0, 'empty_every': 0,
                     'goals': goals[i::N_CLIENTS]} for i in range(N_CLIENTS)]
            with ClientProcesses(jobs) as clients:
                clients.start()
                answers = [row for output in clients.results(seconds + 60.0) for row in output['goals']]
            rows.append(row_of(policy, load, [
                (to_record(row), step_accuracy(kinds[row['kind']]['task'], row.get('text', ''))
                 if 'task' in kinds[row['kind']] else 1.0) for row in answers]))
    result = {'environment': environment(), 'parameters': parameters, 'policies': POLICIES, 'seconds': seconds,
              'mean_vanilla_s': sum(kind['vanilla_s'] for kind in kinds) / len(kinds), 'rows': rows}
    if out is not None:
        from timebill_ros import plots
        write(out, result)
        plots.utilisation(rows, out.with_suffix('.png'))
    return result
