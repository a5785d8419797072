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

"""The load bench, short: clients, cancels, nonsense, a killed and a hung worker at once, and nothing is lost."""
import json
import os

import pytest
from scripted_model import parameters

from timebill_ros.bench import load
from timebill_ros.bench.process_state import n_zombies

pytestmark = pytest.mark.slow


def kinds():
    return [{'prompt': 'w1 w2 w3', 'max_new_tokens': n} for n in (150, 300, 450)]


@pytest.fixture(scope='module')
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp('load') / 'load.json'
    load.run(out, parameters=parameters(), kinds=kinds(), n_goals=240, n_clients=2, minutes=0.4, kills=2, hangs=1,
             show=False)
    assert out.with_suffix('.png').stat().st_size > 10_000
    return json.loads(out.read_text())


def test_no_goal_is_lost_and_none_ends_with_a_wrong_code(result):
    assert (result['goals'], result['lost'], result['wrong_code'], result['wrong']) == (240, 0, 0, [])
    assert sum(result['codes'].values()) == 240


def test_what_was_to_happen_did(result):
    assert (result['kills'], result['hangs'], result['not_recovered']) == (2, 1, 0)
    assert result['malformed'] > 0 and result['cancels_sent'] > 0
    assert {'NONE', 'INVALID_GOAL', 'WORKER_LOST'} <= set(result['codes'])
    assert result['acceptance_s']['empty_action']['n'] >= 40
    assert result['delivery_s']['timebill']['n'] > 10


def test_results_are_not_late_beyond_what_a_busy_machine_explains(result):
    """No figure: that is the bench's matter. A node that waits for a hung worker would be seconds late."""
    assert result['late'] <= 5
    assert result['client_lateness_s']['all']['max'] < 1.0


def test_nothing_is_left_running_and_no_child_unreaped(result):
    assert result['most_zombies'] <= 1 and n_zombies(os.getpid()) == 0
    assert result['node_files']['last'] <= result['node_files']['first'] + 3
