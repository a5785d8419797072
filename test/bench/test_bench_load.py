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
import math
import os
import random

import numpy as np
import pytest
from node_process import parameters

from timebill_ros.bench import load
from timebill_ros.bench.goal_checks import GoalRecord
from timebill_ros.bench.node_under_load import Fault, n_zombies
from timebill_ros.request import ErrorCode, Strategy


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


def test_a_schedule_is_mixed_as_asked():
    rng = random.Random(0)
    some = [{'vanilla_s': 0.2}, {'vanilla_s': 0.4}]
    goals = load.schedule(some, 4000, 100.0, rng)
    assert [goal['at_s'] for goal in goals] == sorted(goal['at_s'] for goal in goals) and goals[-1]['at_s'] < 100.0
    ratios = [goal['budget_s'] / some[goal['kind']]['vanilla_s'] for goal in goals]
    assert 0.2 <= min(ratios) < 0.21 and 2.9 < max(ratios) <= 3.0
    assert np.median(ratios) == pytest.approx(math.sqrt(0.2 * 3.0), rel=0.1)
    share = {name: sum(name in goal for goal in goals) / 4000 for name in ('cancel_after_s', 'fields')}
    assert share['cancel_after_s'] == pytest.approx(0.1, abs=0.02) and share['fields'] == pytest.approx(0.02, abs=0.01)
    assert {goal['strategy'] for goal in goals} == {1, 2, 3}


def test_faults_are_spread_over_the_time():
    plan = load.fault_plan(3, 2, 50.0, 60.0, random.Random(0))
    assert sorted(kind for _, kind in plan) == ['hang', 'hang', 'kill', 'kill', 'kill']
    times = [at for at, _ in plan]
    assert times == sorted(times) and 50.0 < times[0] and times[-1] < 50.0 + 0.65 * 60.0


@pytest.mark.parametrize(('per_hour', 'noise'), [(0.0, 0.0), (0.0, 0.5), (30.0, 0.5), (-5.0, 0.1)])
def test_slopes_and_their_intervals(per_hour, noise):
    at_s = np.arange(1200.0)
    values = 80.0 + per_hour * at_s / 3600 + np.random.default_rng(0).normal(0, noise, 1200)
    found = load.slope(at_s, values)
    low, high = found['interval']
    assert low - 1e-6 <= per_hour <= high + 1e-6 and found['per_hour'] == pytest.approx(per_hour, abs=0.5)


def test_values_that_follow_each_other_widen_the_interval():
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(0, 0.05, 600))
    narrow, wide = (load.slope(np.arange(600.0), values)['interval'] for values in (rng.permutation(walk), walk))
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])


def test_analysing_records():
    good = dict(budget_s=1.0, strategy=Strategy.TRUNCATE, status=4, reason=1, text='x')
    timing = {'tardiness_s': 0.0, 'verdict': 1, 'decode_s': 0.3, 'time_to_first_token_s': 0.2}
    records = [
        GoalRecord(sent_s=0.0, accepted_s=0.01, received_s=0.52, timing=timing, **good),
        GoalRecord(sent_s=1.0, accepted_s=1.01, received_s=2.05, timing={**timing, 'tardiness_s': 0.01}, **good),
        GoalRecord(sent_s=2.0, accepted_s=2.01, **{**good, 'text': ''}),  # lost
        GoalRecord(sent_s=3.0, accepted_s=3.01, received_s=3.5, budget_s=1.0, strategy=Strategy.KILL, status=6,
                   code=int(ErrorCode.WORKER_LOST), message='gone', reason=8),
    ]
    fault = Fault('kill', 3.2, 3.3, 6.0)
    found = load.analyse(records, [{'sent_s': 0.0, 'accepted_s': 0.005, 'received_s': 0.015}], [fault], 32)
    assert (found['goals'], found['lost'], found['late'], found['wrong_code']) == (4, 1, 1, 0)
    assert found['codes'] == {'NONE': 2, 'WORKER_LOST': 1}
    assert found['client_lateness_s']['over_20_ms'] == 1 and found['client_lateness_s']['over_100_ms'] == 0
    assert (found['promised'], found['missed']) == (2, 1)
    assert found['delivery_s']['timebill']['p50'] == pytest.approx((0.02 + 0.55) / 2)
    assert found['delivery_s']['empty_action']['p50'] == pytest.approx(0.015)
    without = load.analyse(records, [], [], 32)
    assert without['wrong_code'] == 1 and 'while there was a worker' in without['wrong'][0]
