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

"""The demonstration's goals: what counts as a broken promise, what a row holds, how budgets are spread."""
import math
from types import SimpleNamespace

import pytest

from timebill_ros.action import Generate
from timebill_ros.cli import demo_goals
from timebill_ros.client import Answer
from timebill_ros.codes import FinishReason, Strategy, Verdict
from timebill_ros.srv import EstimateTime
from timebill_ros.tasks import site_log


def make_row(**changes) -> dict:
    task = site_log.generate(3, split='test', n_tokens=60)
    result = Generate.Result(text=task.answer, finish_reason=int(FinishReason.EOS))
    result.timing.verdict, result.timing.prefill_s, result.timing.decode_s = int(Verdict.FITS), 0.05, 0.2
    result.timing.eviction_ratio = math.nan
    row = demo_goals.row_of(task, 'generous', 'log 1', 1.0, Strategy.KILL, Answer(result, 4, 0.01, 0.3))
    return {**row, **changes}


@pytest.mark.parametrize(('verdict', 'reason', 'node_tardiness_s', 'broken'), [
    ('FITS', 'EOS', 0.0, False), ('FITS', 'LENGTH', 0.0, False), ('FITS', 'DEADLINE', 0.0, True),
    ('FITS', 'EOS', 0.01, True), ('FITS_WITH_EVICTION', 'CAPPED', 0.0, True), ('AT_RISK', 'DEADLINE', 0.0, False),
    ('INFEASIBLE', 'ERROR', 0.0, False), ('UNKNOWN', 'DEADLINE', 0.0, False),
])
def test_broken_promise(verdict, reason, node_tardiness_s, broken):
    row = make_row(verdict=verdict, finish_reason=reason, node_tardiness_s=node_tardiness_s)
    assert demo_goals.is_broken_promise(row) is broken


def test_row_tells_what_the_client_saw():
    row = make_row()
    assert (row['budget_s'], row['response_time_s'], row['tardiness_s']) == (1.0, 0.3, 0.0)
    assert row['step_accuracy'] == 1.0 and row['overrun_strategy'] == 'KILL' and row['finish_reason'] == 'EOS'
    assert row['eviction_ratio'] is None  # NaN is not JSON


def test_budgets_run_from_generous_to_hopeless():
    def estimate(goal, budget_s):  # a node with 0.1 s of prefill, 1 s of decoding, 0.8 s after the largest eviction
        whole, least = (0.1, 0.1) if goal.max_new_tokens == 1 else (1.1, 0.9)
        return EstimateTime.Response(wcet_without_eviction_s=whole, wcet_with_eviction_s=least, predicted_tokens=100,
                                     pessimistic_tokens=500)
    series = demo_goals.budgets(SimpleNamespace(estimate=estimate), Generate.Goal(max_new_tokens=512), margin_s=0.0)
    seconds = [budget_s for _, budget_s in series]
    assert seconds == sorted(seconds, reverse=True) and len(seconds) >= 8
    by_name = dict(series)
    assert by_name['just enough'] > 1.1
    assert all(0.9 < budget_s < 1.1 for name, budget_s in series if name == 'needs eviction')
    assert 0.1 + 0.8 * 100 / 500 < by_name['at risk'] < 0.9
    assert 0.1 < by_name['too short'] < 0.1 + 0.8 * 100 / 500
    assert by_name['hopeless'] < 0.1
