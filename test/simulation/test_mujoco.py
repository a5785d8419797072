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

"""The scenario in MuJoCo: a cart drives at a wall, and its planner must get an answer in simulated time or stop.

Simulated time runs slower and faster than real time, stands still, jumps back and changes its pace. The node is real,
and its answers come from a script.
"""
from __future__ import annotations

import signal
import time

import pytest
from cart_planner import STOP_M, CartPlanner
from node_client import wait_until
from node_process import NodeProcess
from simulator import Simulator

pytest.importorskip('mujoco', reason='the extra simulation (MuJoCo) is not installed')
from mujoco_world import MuJoCoWorld  # noqa: E402

# Every third answer is longer than predicted, and too long for any deadline here.
LONG = 40 * 'drive on '
THREE = f'  - {{text: drive on, uses: 2}}\n  - {{text: {LONG}, predicted_tokens: 3, token_s: 0.3, uses: 1}}\n'
SCRIPT = 'format: 1\ntimes: {prompt_s: 0.0, prompt_token_s: 0.0, token_s: 0.02}\nanswers:\n' + 100 * THREE
SLACK_S = 1.0  # real seconds that a busy machine may take for a decision without an answer


@pytest.fixture(scope='module')
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp('cart') / 'answers.yaml'
    path.write_text(SCRIPT)
    return str(path)


@pytest.fixture(scope='module')
def node(script):
    with NodeProcess(worker='scripted', script=script, use_sim_time=True) as node:
        yield node.start()


def cart(node: NodeProcess, factor: float) -> Simulator:
    return Simulator(MuJoCoWorld(), factor, node.server.rpartition('/')[0])


def planner_of(node: NodeProcess, every_s: float, within_s: float) -> CartPlanner:
    return CartPlanner(node.server.rpartition('/')[0], every_s=every_s, within_s=within_s)


def judge(simulator: Simulator, planner: CartPlanner, factor: float) -> None:
    decisions = list(planner.decisions)
    assert simulator.closest_m > STOP_M - 2.0, 'the cart is at the wall'
    for one in decisions:
        assert not one.drives or one.asked_s <= one.acted_s <= one.due_s, 'a late action'
        assert one.acted_s <= one.due_s + SLACK_S * factor, 'a decision that waited for longer than its deadline'


def driven(planner: CartPlanner) -> int:
    return sum(one.drives for one in planner.decisions)


@pytest.mark.parametrize(('factor', 'every_s', 'within_s'), [
    (0.3, 0.4, 0.3), (1.0, 1.0, 0.8), (3.0, 3.0, 2.4), pytest.param(0.05, 0.2, 0.1, marks=pytest.mark.slow)])
def test_answers_come_in_simulated_time_or_the_cart_stops(node, factor, every_s, within_s):
    with cart(node, factor) as simulator, planner_of(node, every_s, within_s) as planner:
        wait_until(lambda: len(planner.decisions) >= 5 and driven(planner) >= 2)
        judge(simulator, planner, factor)
        assert any(not one.drives for one in planner.decisions), 'every third answer takes longer than its deadline'


def test_a_pause_a_change_of_pace_and_a_reset(node):
    with cart(node, 1.0) as simulator, planner_of(node, 1.0, 0.8) as planner:
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
        n = len(planner.decisions)
        simulator.reset()
        wait_until(lambda: any(one.drives and one.asked_s < stood_s for one in planner.decisions[n:]))
        judge(simulator, planner, 2.0)


def test_ctrl_c_ends_the_answers_and_stops_the_cart(script):
    with NodeProcess(worker='scripted', script=script, use_sim_time=True) as node, cart(node, 1.0) as simulator:
        node.start()
        with planner_of(node, 0.6, 0.5) as planner:
            wait_until(lambda: driven(planner) >= 1)
            assert node.stop(signal.SIGINT) == 0
            n = len(planner.decisions)
            wait_until(lambda: len(planner.decisions) >= n + 2)
            assert not planner.decisions[-1].drives and planner.decisions[-1].why
            judge(simulator, planner, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize('repeat', range(5))
@pytest.mark.parametrize('factor', [0.3, 1.0, 3.0])
def test_again_and_again(node, factor, repeat):
    with cart(node, factor) as simulator, planner_of(node, 1.5 * factor, 1.2 * factor) as planner:
        wait_until(lambda: len(planner.decisions) >= 6 and driven(planner) >= 3)
        judge(simulator, planner, factor)
