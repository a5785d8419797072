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

"""One client of `timebill bench load` and `utilisation`: it sends goals on a schedule, whatever became of earlier ones.

A process of its own: `python -m timebill_ros.bench.load_client` takes a job as JSON on standard input, and gives
records as JSON on standard output. The loop is open: a slow node gets as many goals as a quick one. Instants
(monotonic) are taken in the callbacks.
"""
from __future__ import annotations

import json
import math
import sys
import threading
import time

import rclpy
from builtin_interfaces.msg import Time
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from timebill_ros.action import Generate
from timebill_ros.bench import empty_action
from timebill_ros.client import chat, duration
from timebill_ros.msg import SamplingConfig

DISCOVERY_S = 30.0


def make_goal(spec: dict, kinds: list[dict]) -> Generate.Goal:
    """Return the goal that `spec` describes: a prompt of `kinds`, a budget, a strategy.

    `fields` of `spec` replace the goal's fields that they name, for malformed goals.
    """
    kind = kinds[spec['kind']]
    goal = Generate.Goal(prompt=kind.get('prompt', ''), messages=chat(*kind.get('messages', [])),
                         max_new_tokens=kind.get('max_new_tokens', 0), overrun_strategy=spec['strategy'],
                         priority=spec.get('priority', 0))
    if spec.get('absolute'):
        at_s = time.time() + spec['budget_s']
        goal.deadline = Time(sec=int(at_s), nanosec=int(at_s % 1 * 1e9))
    else:
        goal.time_budget = duration(spec['budget_s'])
    for name, value in spec.get('fields', {}).items():
        if name == 'time_budget':
            value = duration(value)
        elif name == 'messages':
            value = chat(*value)
        elif name == 'sampling':
            value = SamplingConfig(**{key: math.nan if item == 'nan' else item for key, item in value.items()})
        elif name == 'prompt' and isinstance(value, int):
            value = 'w' * value
        elif value == 'nan':
            value = math.nan
        setattr(goal, name, value)
    return goal


class LoadClient:
    """Sends what `job` says, and keeps a record of each goal.

    number, server:  of this client, and the node's name
    goals, kinds:    see load_goals.py; `at_s` of a goal counts from the common start
    wait_s:          how long to wait for results after the last goal
    empty_every:     goals for each goal to the empty action; 0: none
    """

    def __init__(self, job: dict):
        self.job = job
        self.records: list[dict] = []
        self.empty: list[dict] = []
        self._open = 0
        self._lock = threading.Lock()
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node(f'load_client_{job["number"]}')
        deep = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
        options = dict(goal_service_qos_profile=deep, result_service_qos_profile=deep, cancel_service_qos_profile=deep)
        self.actions = ActionClient(self.node, Generate, f'{job["server"]}/generate', **options)
        self.empties = ActionClient(self.node, Generate, empty_action.NAME, **options)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._closed = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._closed:
            self._executor.spin_once(timeout_sec=0.5)

    def run(self) -> None:
        """Wait for the start, send all goals, and wait for their ends."""
        every = self.job['empty_every']
        if not self.actions.wait_for_server(DISCOVERY_S) or every and not self.empties.wait_for_server(DISCOVERY_S):
            raise RuntimeError('the servers were not found')
        print('ready', file=sys.stderr, flush=True)
        if not sys.stdin.readline():  # a line once all clients are ready; nothing where the bench has ended
            raise RuntimeError('the bench ended before its start')
        cancels: list[tuple[float, dict]] = []
        start_s = time.monotonic() + 0.2
        for number, spec in enumerate(self.job['goals']):
            self._wait_until(start_s + spec['at_s'], cancels)
            self._send(spec, cancels)
            if every and number % every == 0:
                self._send_empty()
        last_s = time.monotonic() + self.job['wait_s']
        while (self._open or cancels) and time.monotonic() < last_s:
            self._wait_until(time.monotonic() + 0.05, cancels)

    def _wait_until(self, at_s: float, cancels: list[tuple[float, dict]]) -> None:
        while True:
            due = min([at_s, *(cancel_s for cancel_s, _ in cancels)])
            time.sleep(max(0.0, due - time.monotonic()))
            for entry in [entry for entry in cancels if entry[0] <= due]:
                cancels.remove(entry)
                self._cancel(entry[1])
            if due >= at_s:
                return

    def _send(self, spec: dict, cancels: list) -> None:
        goal = make_goal(spec, self.job['kinds'])
        record = {**{key: spec[key] for key in ('kind', 'budget_s', 'strategy')}, 'expected': spec.get('expected', 0),
                  'n_feedback': 0}
        self.records.append(record)
        with self._lock:
            self._open += 1
        record['sent_s'] = time.monotonic()

        def count(_):
            record['n_feedback'] += 1

        def send():
            self.actions.send_goal_async(goal, feedback_callback=count).add_done_callback(
                lambda future: self._on_accepted(record, future))

        self._executor.create_task(send)  # on its thread: see client.py
        if 'cancel_after_s' in spec:
            cancels.append((record['sent_s'] + spec['cancel_after_s'], record))

    def _on_accepted(self, record: dict, future) -> None:
        record['accepted_s'] = time.monotonic()
        handle = future.result()
        if not handle.accepted:
            record['rejected'] = True
            self._close_one()
            return
        record['handle'] = handle
        handle.get_result_async().add_done_callback(lambda future: self._on_result(record, future))

    def _on_result(self, record: dict, future) -> None:
        record['received_s'] = time.monotonic()
        response = future.result()
        result, timing = response.result, response.result.timing
        record.update(status=response.status, code=result.error_code, message=result.error_msg[:300],
                      reason=result.finish_reason, text=result.text,
                      timing={name: getattr(timing, name) for name in timing.get_fields_and_field_types()})
        self._close_one()

    def _close_one(self) -> None:
        with self._lock:
            self._open -= 1

    def _cancel(self, record: dict) -> None:
        if 'handle' in record:  # a goal that is not accepted yet cannot be canceled
            record['canceled_s'] = time.monotonic()
            self._executor.create_task(record['handle'].cancel_goal_async)

    def _send_empty(self) -> None:
        record = {'sent_s': time.monotonic()}
        self.empty.append(record)

        def accepted(future):
            record['accepted_s'] = time.monotonic()
            future.result().get_result_async().add_done_callback(
                lambda _: record.update(received_s=time.monotonic()))

        self._executor.create_task(lambda: self.empties.send_goal_async(
            Generate.Goal(prompt='empty')).add_done_callback(accepted))

    def close(self) -> None:
        self._closed = True
        self._thread.join(2.0)


def main() -> int:
    """Read a job, run it and write its records."""
    client = LoadClient(json.loads(sys.stdin.readline()))
    client.run()
    for record in client.records:
        record.pop('handle', None)
    client.close()
    json.dump({'goals': client.records, 'empty': client.empty}, sys.stdout)
    sys.stdout.flush()
    return 0


if __name__ == '__main__':
    sys.exit(main())
