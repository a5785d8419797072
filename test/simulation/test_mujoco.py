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

Simulated time runs slower and faster than real time, stands still, jumps back and changes its pace.
"""
from __future__ import annotations

import signal

import pytest
import scenario
from node_client import wait_until
from node_process import NodeProcess
from simulator import Simulator

pytest.importorskip('mujoco', reason='the extra simulation (MuJoCo) is not installed')
from mujoco_world import MuJoCoWorld  # noqa: E402


@pytest.fixture(scope='module')
def script(tmp_path_factory):
    return scenario.write_script(tmp_path_factory.mktemp('cart'))


@pytest.fixture(scope='module')
def node(script):
    with NodeProcess(worker='scripted', script=script, use_sim_time=True) as node:
        yield node.start()


def cart(node: NodeProcess, factor: float) -> Simulator:
    return Simulator(MuJoCoWorld(), factor, scenario.namespace_of(node))


@pytest.mark.parametrize(('factor', 'every_s', 'within_s'), [
    (0.3, 0.4, 0.3), (1.0, 1.0, 0.8), (3.0, 3.0, 2.4), pytest.param(0.05, 0.2, 0.1, marks=pytest.mark.slow)])
def test_answers_come_in_simulated_time_or_the_cart_stops(node, factor, every_s, within_s):
    with cart(node, factor) as simulator:
        scenario.answers_come_or_the_cart_stops(simulator, node, factor, every_s, within_s)


def test_a_pause_a_change_of_pace_and_a_reset(node):
    with cart(node, 1.0) as simulator:
        scenario.pause_pace_and_reset(simulator, node)


def test_ctrl_c_ends_the_answers_and_stops_the_cart(script):
    with NodeProcess(worker='scripted', script=script, use_sim_time=True) as node, cart(node, 1.0) as simulator:
        node.start()
        with scenario.planner_of(node, 0.6, 0.5) as planner:
            wait_until(lambda: scenario.driven(planner) >= 1)
            assert node.stop(signal.SIGINT) == 0
            n = len(planner.decisions)
            wait_until(lambda: len(planner.decisions) >= n + 2)
            assert not planner.decisions[-1].drives and planner.decisions[-1].why
            scenario.judge(simulator, planner, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize('repeat', range(5))
@pytest.mark.parametrize('factor', [0.3, 1.0, 3.0])
def test_again_and_again(node, factor, repeat):
    with cart(node, factor) as simulator, scenario.planner_of(node, 1.5 * factor, 1.2 * factor) as planner:
        wait_until(lambda: len(planner.decisions) >= 6 and scenario.driven(planner) >= 3)
        scenario.judge(simulator, planner, factor)
