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

"""`timebill bench load`: deadlines held and goals lost under many clients, cancels, nonsense and faults.

A real node over DDS, and clients in processes of their own. Beside it runs an action server that does nothing: it says
what ROS 2 itself takes on this machine under this load.
"""
from __future__ import annotations

import math
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import fmean

from timebill_ros.bench.client_processes import ClientProcesses
from timebill_ros.bench.faults import Faults, fault_plan
from timebill_ros.bench.host import environment, write
from timebill_ros.bench.host_pauses import HostPauses
from timebill_ros.bench.load_analysis import analyse, memory, quantiles, to_record
from timebill_ros.bench.load_goals import LONGEST, measure_vanilla, schedule, site_log_kinds, without_tasks
from timebill_ros.bench.node_under_load import Node
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.bench.resource_sampler import Sampler
from timebill_ros.codes import ErrorCode, Strategy

MAX_OVERRUN_S = 1.0
LEAST_VANILLA_S = 0.15
EMPTY_EVERY = 5  # goals for each goal to the empty action
WARM_UP_S = 60.0  # left out of memory slopes: caches fill
QUEUE_SIZE = 32
NODE_PRIORITY = 1  # the cores are full of the bench's own clients; where it is not permitted, the node goes on without


def run(out: Path | None, *, parameters: dict | None = None, kinds: list[dict] | None = None, n_goals: int = 10_000,
        n_clients: int = 4, minutes: float = 24.0, offered_load: float = 0.0, kills: int = 20, hangs: int = 10,
        seed: int = 1, show: bool = True, log: Path | None = None) -> dict:
    """Run the whole bench and return its result, which is also written to `out` with a plot beside it.

    parameters:    of the node, besides the bench's own
    kinds:         prompts, see load_goals.py; site-log tasks unless given
    offered_load:  goals arrive so fast that their unhurried times are so much of the time; 0: within `minutes`
    log:           where the node's log goes
    """
    rng = random.Random(seed)
    kinds = kinds or site_log_kinds(48, seed)
    parameters = {'queue_size': QUEUE_SIZE, 'max_overrun_s': MAX_OVERRUN_S, 'keep_state': False,
                  'node_realtime_priority': NODE_PRIORITY, **(parameters or {})}
    with Node(parameters, log) as node:
        measure_vanilla(node, kinds)
        # A budget shorter than what ROS 2 itself takes says nothing about the node, so prompts that are answered too
        # quickly are left out.
        kinds = [kind for kind in kinds if kind['vanilla_s'] >= LEAST_VANILLA_S] or kinds
        seconds = minutes * 60.0 if not offered_load else \
            n_goals * fmean(kind['vanilla_s'] for kind in kinds) / offered_load
        longest_s = LONGEST * max(kind['vanilla_s'] for kind in kinds) + MAX_OVERRUN_S + 10.0
        jobs = [{'number': i, 'server': '/timebill', 'kinds': without_tasks(kinds), 'wait_s': longest_s,
                 'empty_every': EMPTY_EVERY, 'goals': schedule(kinds, n_goals // n_clients, seconds, rng)}
                for i in range(n_clients)]
        empty_server = subprocess.Popen([sys.executable, '-m', 'timebill_ros.bench.empty_action',
                                         str(parameters['node_realtime_priority'])], stdin=subprocess.PIPE)
        try:
            with ClientProcesses(jobs) as clients, HostPauses() as host:
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
              **analyse(records, [e for output in outputs for e in output['empty']], faults.done, QUEUE_SIZE,
                        host.pauses),
              'host_pauses': {'at_real_time': host.at_real_time,
                              **quantiles(end - start for start, end in host.pauses)},
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
    """Return the figures that count, as text for people."""
    late, accept, deliver = (result[key] for key in ('client_lateness_s', 'acceptance_s', 'delivery_s'))
    node = result['node_mb']
    return '\n'.join([
        f'{result["goals"]} goals: {result["lost"]} lost, {result["wrong_code"]} with a wrong code, '
        f'{result["late"]} set after their deadline by the node',
        f'{result["late_over_5_ms"]} of them more than 5 ms, {result["late_over_5_ms_outside_pauses"]} outside '
        f'{result["host_pauses"]["n"]} pauses of the machine',
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
