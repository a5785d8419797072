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

"""What is said of goals and of memory, on records and values made by hand."""
import numpy as np
import pytest

from timebill_ros.bench import load_analysis
from timebill_ros.bench.faults import Fault
from timebill_ros.bench.goal_checks import GoalRecord
from timebill_ros.codes import ErrorCode, Strategy


@pytest.mark.parametrize(('per_hour', 'noise'), [(0.0, 0.0), (0.0, 0.5), (30.0, 0.5), (-5.0, 0.1)])
def test_slopes_and_their_intervals(per_hour, noise):
    at_s = np.arange(1200.0)
    values = 80.0 + per_hour * at_s / 3600 + np.random.default_rng(0).normal(0, noise, 1200)
    found = load_analysis.slope(at_s, values)
    low, high = found['interval']
    assert low - 1e-6 <= per_hour <= high + 1e-6 and found['per_hour'] == pytest.approx(per_hour, abs=0.5)


def test_values_that_follow_each_other_widen_the_interval():
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(0, 0.05, 600))
    narrow, wide = (load_analysis.slope(np.arange(600.0), values)['interval']
                    for values in (rng.permutation(walk), walk))
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
    found = load_analysis.analyse(records, [{'sent_s': 0.0, 'accepted_s': 0.005, 'received_s': 0.015}], [fault], 32)
    assert (found['goals'], found['lost'], found['late'], found['wrong_code']) == (4, 1, 1, 0)
    assert found['codes'] == {'NONE': 2, 'WORKER_LOST': 1}
    assert found['client_lateness_s']['over_20_ms'] == 1 and found['client_lateness_s']['over_100_ms'] == 0
    assert (found['promised'], found['missed']) == (2, 1)
    assert found['delivery_s']['timebill']['p50'] == pytest.approx((0.02 + 0.55) / 2)
    assert found['delivery_s']['empty_action']['p50'] == pytest.approx(0.015)
    without = load_analysis.analyse(records, [], [], 32)
    assert without['wrong_code'] == 1 and 'while there was a worker' in without['wrong'][0]
