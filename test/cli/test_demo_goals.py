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

"""The rows of the demonstration: what the client saw, and what counts as a broken promise."""
import math

import pytest

from timebill_ros.action import Generate
from timebill_ros.cli import demo_goals
from timebill_ros.client import Answer
from timebill_ros.codes import FinishReason, Strategy, Verdict


def make_row(**changes) -> dict:
    result = Generate.Result(text='take mug', finish_reason=int(FinishReason.EOS))
    result.timing.verdict, result.timing.prefill_s, result.timing.decode_s = int(Verdict.FITS), 0.05, 0.2
    result.timing.eviction_ratio = math.nan
    row = demo_goals.row_of(Answer(result, 4, 0.01, 0.3), label='log 1', kind='generous', instruction='bring mug',
                            budget_s=1.0, strategy=Strategy.KILL, score=1.0, reference='take mug')
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
    assert row['score'] == 1.0 and row['overrun_strategy'] == 'KILL' and row['finish_reason'] == 'EOS'
    assert row['eviction_ratio'] is None  # NaN is not JSON
