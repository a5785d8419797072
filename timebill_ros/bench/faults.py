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

"""Workers killed and stopped on purpose, while a load bench runs."""
from __future__ import annotations

import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field

from timebill_ros.bench.node_under_load import Node

RECOVERY_TIMEOUT_S = 90.0
FAULTS_SHARE = 0.65  # of a bench's time, from its start


def fault_plan(kills: int, hangs: int, start_s: float, seconds: float, rng: random.Random) -> list[tuple[float, str]]:
    """Return (monotonic instant, 'kill' or 'hang') of each fault, ascending, the kinds shuffled.

    They are spread over the first FAULTS_SHARE of the time: the last worker lives long enough for its memory to be
    judged.
    """
    seconds *= FAULTS_SHARE
    kinds = ['kill'] * kills + ['hang'] * hangs
    rng.shuffle(kinds)
    room = seconds / (len(kinds) + 1)
    return [(start_s + room * (i + 0.5 + 0.5 * rng.random()), kind) for i, kind in enumerate(kinds)]


@dataclass
class Fault:
    """A worker that was killed or stopped, and when the node served again. Monotonic seconds."""

    kind: str
    at_s: float
    told_s: float = float('nan')  # when the status topic said that the node is degraded
    back_s: float = float('nan')


@dataclass
class Faults:
    """Kills and stops the worker at the planned instants, but not before the node has recovered from the last fault."""

    node: Node
    plan: list[tuple[float, str]]  # (monotonic instant, 'kill' or 'hang'), ascending
    done: list[Fault] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Carry out the plan until its end or until `stop` is set; for a thread."""
        for at_s, kind in self.plan:
            if self.stop.wait(max(0.0, at_s - time.monotonic())):
                return
            pid = self.node.worker_pid()
            if pid is None:
                continue
            fault = Fault(kind, time.monotonic())
            self.done.append(fault)
            os.kill(pid, signal.SIGKILL if kind == 'kill' else signal.SIGSTOP)
            until = fault.at_s + RECOVERY_TIMEOUT_S
            while time.monotonic() < until and not self.stop.is_set():
                told = [when for when, degraded in self.node.health if when > fault.at_s and degraded]
                back = [when for when, degraded in self.node.health if told and when > told[0] and not degraded]
                if back:
                    fault.told_s, fault.back_s = told[0], back[0]
                    break
                time.sleep(0.05)
