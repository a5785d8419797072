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

"""The utilisation bench: its arrivals and intervals, and one small point of it on a real node."""
import json
import random

import pytest
from scripted_model import parameters

from timebill_ros.bench import utilisation
from timebill_ros.bench.goal_checks import GoalRecord
from timebill_ros.codes import ErrorCode, Strategy


@pytest.mark.parametrize('load', [0.5, 1.5])
@pytest.mark.parametrize(('budgets', 'shortest', 'longest'), [('tight', 1.0, 4.0), ('mixed', 1.2, 20.0)])
def test_arrivals_offer_the_load(load, budgets, shortest, longest):
    kinds = [{'vanilla_s': 0.1}, {'vanilla_s': 0.3}]
    goals = utilisation.arrivals(kinds, load, budgets, 500.0, random.Random(1))
    offered = sum(kinds[goal['kind']]['vanilla_s'] for goal in goals) / 500.0
    assert offered == pytest.approx(load, rel=0.1)
    ratios = [goal['budget_s'] / kinds[goal['kind']]['vanilla_s'] for goal in goals]
    assert shortest - 1e-9 <= min(ratios) < 1.1 * shortest and 0.9 * longest < max(ratios) <= longest + 1e-9
    assert {goal['strategy'] for goal in goals} == {int(Strategy.KILL)}
    assert goals == utilisation.arrivals(kinds, load, budgets, 500.0, random.Random(1)), 'the same for every policy'


def test_a_mean_and_its_interval():
    found = utilisation.mean_with_interval([0.0, 1.0] * 200)
    low, high = found['interval']
    assert found['mean'] == 0.5 and 0.42 < low < 0.47 and 0.53 < high < 0.58
    assert utilisation.mean_with_interval([])['mean'] == 0.0


def test_a_late_answer_scores_nothing():
    good = dict(sent_s=0.0, budget_s=1.0, strategy=Strategy.KILL, received_s=0.9, status=4, text='x', reason=1)
    goals = [(GoalRecord(**good), 0.8), (GoalRecord(**good, timing={'tardiness_s': 0.1}), 0.9),
             (GoalRecord(**{**good, 'status': 6, 'code': int(ErrorCode.DEADLINE_MISSED)}), 0.7),
             (GoalRecord(0.0, 1.0, Strategy.KILL), 0.0)]
    row = utilisation.row_of('a policy', 0.5, 'tight', goals)
    assert row['on_time']['mean'] == 0.25 and row['score']['mean'] == pytest.approx(0.2)
    assert row['codes'] == {'NONE': 2, 'DEADLINE_MISSED': 1, 'LOST': 1}


def test_policies_are_compared_goal_by_goal():
    """The baseline loses every second goal, and the better policy all of those but one in ten.

    Goals differ much and the policies little, so the interval of the difference must be the narrower one.
    """
    kept = GoalRecord(0.0, 1.0, Strategy.KILL, received_s=0.9, status=4, text='x', reason=1)
    lost = GoalRecord(0.0, 1.0, Strategy.KILL)
    baseline = [(kept, 0.5) if i % 2 else (lost, 0.0) for i in range(400)]
    better = [(kept, 0.5) if i % 2 or i % 20 == 0 else (lost, 0.0) for i in range(400)]
    found = utilisation.above(better, baseline)
    assert found['on_time']['mean'] == pytest.approx(0.05) and found['score']['mean'] == pytest.approx(0.025)
    assert 0.02 < found['on_time']['interval'][0] and found['on_time']['interval'][1] < 0.08
    assert utilisation.above(baseline, better)['on_time']['mean'] == pytest.approx(-0.05)
    with pytest.raises(ValueError):
        utilisation.above(better[1:], baseline)


def test_each_policy_is_equally_often_at_each_place():
    orders = [utilisation.in_turn(turn) for turn in range(2 * len(utilisation.POLICIES))]
    for places in zip(*orders, strict=True):
        assert {name: places.count(name) for name in utilisation.POLICIES} == dict.fromkeys(utilisation.POLICIES, 2)


@pytest.mark.slow
def test_one_small_point_of_every_policy(tmp_path):
    out = tmp_path / 'utilisation.json'
    utilisation.run(out, parameters=parameters(), kinds=[{'prompt': 'w1 w2', 'max_new_tokens': 100}], loads=[0.5],
                    budgets=['mixed'], seconds=2.0, show=False)
    result = json.loads(out.read_text())
    assert [row['policy'] for row in result['rows']] == list(utilisation.POLICIES)
    assert result['rows'][-1]['policy'] == result['baseline']
    assert result['rows'][-1]['above_baseline']['on_time'] == {'mean': 0.0, 'interval': [0.0, 0.0]}
    for row in result['rows']:
        assert row['goals'] > 3 and 'LOST' not in row['codes'] and row['score']['mean'] == row['on_time']['mean']
    assert len({row['goals'] for row in result['rows']}) == 1
    assert out.with_suffix('.png').stat().st_size > 10_000
