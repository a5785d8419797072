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

"""The scenario, whichever simulator it runs in: what is asked, what is answered, and what must hold.

A simulator offers what `CartSimulator` names. The node is real, and its answers come from a script.
"""
from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from cart_planner import STOP_M, CartPlanner, Decision
from node_client import wait_until
from node_process import NodeProcess

# Every third answer is longer than predicted, and too long for any deadline here.
LONG = 40 * 'drive on '
THREE = f'  - {{text: drive on, uses: 2}}\n  - {{text: {LONG}, predicted_tokens: 3, token_s: 0.3, uses: 1}}\n'
SCRIPT = 'format: 1\ntimes: {prompt_s: 0.0, prompt_token_s: 0.0, token_s: 0.02}\nanswers:\n' + 100 * THREE
SLACK_S = 1.0  # real seconds that a busy machine may take for a decision without an answer


class CartSimulator(Protocol):
    """What a simulator offers while it runs. Times are in simulated seconds."""

    closest_m: float  # the cart's least distance to the wall

    @property
    def time_s(self) -> float: ...

    def set_factor(self, factor: float) -> None:
        """Let `factor` simulated seconds pass in a real one from now on."""

    def pause(self, paused: bool = True) -> None:
        """Stop simulated time, or let it go on."""

    def reset(self) -> None:
        """Begin again at time 0, with the cart at its start."""


def write_script(folder: Path) -> str:
    path = folder / 'answers.yaml'
    path.write_text(SCRIPT)
    return str(path)


def namespace_of(node: NodeProcess) -> str:
    return node.server.rpartition('/')[0]


def planner_of(node: NodeProcess, every_s: float, within_s: float) -> CartPlanner:
    return CartPlanner(namespace_of(node), every_s=every_s, within_s=within_s)


def judge(simulator: CartSimulator, planner: CartPlanner, factor: float) -> None:
    decisions = list(planner.decisions)
    assert simulator.closest_m > STOP_M - 2.0, 'the cart is at the wall'
    for one in decisions:
        assert not one.drives or one.asked_s <= one.acted_s <= one.due_s, 'a late action'
        assert one.acted_s <= one.due_s + SLACK_S * factor, 'a decision that waited for longer than its deadline'


def driven(planner: CartPlanner) -> int:
    return sum(one.drives for one in planner.decisions)


def since_the_jump(planner: CartPlanner) -> list[Decision]:
    """Return the decisions since simulated time has jumped back; none where it has not."""
    decisions = list(planner.decisions)
    jumps = [i for i in range(1, len(decisions)) if decisions[i].asked_s < decisions[i - 1].asked_s]
    return decisions[jumps[-1]:] if jumps else []


def answers_come_or_the_cart_stops(simulator: CartSimulator, node: NodeProcess, factor: float, every_s: float,
                                   within_s: float) -> None:
    with planner_of(node, every_s, within_s) as planner:
        wait_until(lambda: len(planner.decisions) >= 5 and driven(planner) >= 2)
        judge(simulator, planner, factor)
        assert any(not one.drives for one in planner.decisions), 'every third answer takes longer than its deadline'


def pause_pace_and_reset(simulator: CartSimulator, node: NodeProcess) -> None:
    """The simulator runs at factor 1 before this."""
    with planner_of(node, 1.0, 0.8) as planner:
        wait_until(lambda: driven(planner) >= 1)
        simulator.pause()
        stood_s, before = simulator.time_s, len(planner.decisions)
        time.sleep(0.5)
        assert simulator.time_s == stood_s and len(planner.decisions) <= before + 1
        simulator.pause(False)
        for factor in (0.5, 2.0):
            simulator.set_factor(factor)
            n = driven(planner)
            wait_until(lambda n=n: driven(planner) >= n + 1)
        simulator.reset()
        wait_until(lambda: any(one.drives for one in since_the_jump(planner)))
        judge(simulator, planner, 2.0)
