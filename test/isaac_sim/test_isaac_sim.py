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

"""The scenario of test/simulation in Isaac Sim: the node, its planner and these tests run outside of its process.

Each test runs on a stand-in for Isaac Sim, and in Isaac Sim where it is there: docs/simulation.md says how.
"""
from __future__ import annotations

import ast
import itertools
import subprocess
import sys
import time

import pytest
import scenario
from isaac_process import HERE, IsaacProcess, fake_environment, isaac_environment, isaac_python
from node_client import wait_until
from node_process import NodeProcess

REAL = pytest.param('isaac sim', marks=[pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.skipif(
    not isaac_python(), reason='Isaac Sim is not here: TIMEBILL_ISAAC_PYTHON does not name its python.sh, and this '
                               'Python has no module isaacsim')])
BY_HAND_S = 0.5  # what is on its way when a command is given
_number = itertools.count(1)


@pytest.fixture(params=['stand-in', REAL])
def start(request):
    """Return what starts a simulator, given a namespace and a factor."""
    def started(namespace: str = '', factor: float = 1.0) -> IsaacProcess:
        python, environment = (sys.executable, fake_environment()) if request.param == 'stand-in' else \
            (isaac_python(), isaac_environment())
        return IsaacProcess(python, environment, namespace or f'/isaac_{next(_number)}', factor)
    return started


@pytest.fixture(scope='module')
def node(tmp_path_factory):
    script = scenario.write_script(tmp_path_factory.mktemp('cart'))
    with NodeProcess(worker='scripted', script=script, use_sim_time=True) as node:
        yield node.start()


def test_nothing_comes_before_play_and_a_stop_begins_at_0_again(start):
    with start() as isaac:
        assert not isaac.clock and not isaac.positions, 'something came before play'
        played_s = time.monotonic()
        isaac.play()
        assert isaac.clock[0] < time.monotonic() - played_s + BY_HAND_S
        isaac.set_factor(50.0)
        wait_until(lambda: isaac.time_s > 30.0)
        isaac.set_factor(1.0)
        assert isaac.clock == sorted(isaac.clock)
        isaac.pause()
        n, stood_s = len(isaac.clock), isaac.time_s
        isaac.pause(False)
        wait_until(lambda: len(isaac.clock) > n + 5)
        assert stood_s < isaac.clock[n] < stood_s + BY_HAND_S
        reset_s = time.monotonic()
        isaac.reset()
        wait_until(lambda: isaac.time_s < stood_s)
        assert isaac.time_s < time.monotonic() - reset_s + BY_HAND_S


def test_the_cart_drives_as_it_is_told_and_stops_at_the_wall(start):
    with start(factor=20.0) as isaac:
        isaac.play()
        isaac.drive(2.0)
        wait_until(lambda: isaac.positions and isaac.positions[-1] > 4.0)
        isaac.drive(0.0)
        wait_until(lambda: len(set(isaac.positions[-5:])) == 1)
        assert 4.0 < isaac.positions[-1] < 30.0
        isaac.drive(5.0)
        wait_until(lambda: isaac.closest_m < 0.2)
        n = len(isaac.positions)
        wait_until(lambda: len(isaac.positions) > n + 20)
        assert isaac.closest_m > -0.1, 'the cart is in the wall'


@pytest.mark.slow
@pytest.mark.parametrize(('factor', 'every_s', 'within_s'), [(0.3, 0.4, 0.3), (1.0, 1.0, 0.8), (3.0, 3.0, 2.4)])
def test_answers_come_in_simulated_time_or_the_cart_stops(start, node, factor, every_s, within_s):
    with start(scenario.namespace_of(node), factor) as isaac:
        isaac.play()
        scenario.answers_come_or_the_cart_stops(isaac, node, factor, every_s, within_s)


@pytest.mark.slow
def test_a_pause_a_change_of_pace_and_a_reset(start, node):
    with start(scenario.namespace_of(node)) as isaac:
        isaac.play()
        scenario.pause_pace_and_reset(isaac, node)


def test_a_bridge_that_is_missing_is_told():
    ended = subprocess.run([sys.executable, HERE / 'cart_in_isaac.py'], stdin=subprocess.DEVNULL, capture_output=True,
                           env=fake_environment(FAKE_ISAAC_WITHOUT='isaacsim.ros2.bridge'), text=True, timeout=60)
    assert ended.returncode == 1
    assert 'cart: failed: the extension isaacsim.ros2.bridge of Isaac Sim could not be enabled: source ROS 2' in \
        ended.stdout


def test_only_one_file_takes_from_isaac_sim():
    taken = {'isaacsim', 'omni', 'pxr', 'carb'}
    for path in [*HERE.glob('*.py'), *(HERE.parent / 'simulation').glob('*.py')]:
        names = [name for statement in ast.walk(ast.parse(path.read_text()))
                 for name in ([alias.name for alias in statement.names] if isinstance(statement, ast.Import) else
                              [statement.module or ''] if isinstance(statement, ast.ImportFrom) else [])]
        found = {name.split('.')[0] for name in names} & taken
        assert bool(found) == (path.name == 'isaac_api.py'), f'{path.name} imports {found}'
