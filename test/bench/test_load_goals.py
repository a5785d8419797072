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

"""Schedules of goals: their times, budgets and shares."""
import math
import random

import numpy as np
import pytest

from timebill_ros.bench import load_goals


def test_a_schedule_is_mixed_as_asked():
    rng = random.Random(0)
    some = [{'vanilla_s': 0.2}, {'vanilla_s': 0.4}]
    goals = load_goals.schedule(some, 4000, 100.0, rng)
    assert [goal['at_s'] for goal in goals] == sorted(goal['at_s'] for goal in goals) and goals[-1]['at_s'] < 100.0
    ratios = [goal['budget_s'] / some[goal['kind']]['vanilla_s'] for goal in goals]
    assert 0.2 <= min(ratios) < 0.21 and 2.9 < max(ratios) <= 3.0
    assert np.median(ratios) == pytest.approx(math.sqrt(0.2 * 3.0), rel=0.1)
    share = {name: sum(name in goal for goal in goals) / 4000 for name in ('cancel_after_s', 'fields')}
    assert share['cancel_after_s'] == pytest.approx(0.1, abs=0.02) and share['fields'] == pytest.approx(0.02, abs=0.01)
    assert {goal['strategy'] for goal in goals} == {1, 2, 3}
