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

"""Promises on reused prompts: what counts as missed, and the share that is said."""
from types import SimpleNamespace

import pytest

from timebill_ros.bench import prefix_promises
from timebill_ros.bench.prefix_goals import Goal, turn
from timebill_ros.codes import ErrorCode, FinishReason, Verdict
from timebill_ros.request import Outcome, Timing
from timebill_ros.timing.execution_time import ExecutionTimes

REFUSED = dict(verdict=None, took_s=0.1, reason=FinishReason.ERROR, code=ErrorCode.INFEASIBLE)
GOAL = Goal([turn('user', 'x')], 8)


class Engine:
    """In the place of an engine: a clock that moves by what a goal takes, and an outcome that is given."""

    def __init__(self, *, verdict, took_s, reason=FinishReason.EOS, wcet_s=1.0, code=ErrorCode.NONE):
        self.now, self.took_s, self.code, self.reason = 100.0, took_s, code, reason
        self.verdict, self.wcet_s = verdict, wcet_s
        self.times = ExecutionTimes(a=0, b=0.001, c=0, p=0, q=0.1)
        self.tracker = SimpleNamespace(prefill_factor=1.0, timing_factor=1.0, settle=lambda: None)
        self.model = SimpleNamespace(prefixes=SimpleNamespace(known=lambda ids: 32))

    def clock(self):
        return self.now

    def run(self, request, control):
        self.budget_s = request.deadline_s - request.release_s
        if self.verdict is not None:
            control.on_plan(SimpleNamespace(verdict=self.verdict), SimpleNamespace(wcet_s=self.wcet_s))
        self.now += self.took_s
        timing = Timing(prompt_tokens=100, reused_tokens=32, prefill_s=0.05, eviction_s=0.0, decode_s=self.took_s)
        if self.code is not ErrorCode.NONE:
            return Outcome(self.code, 'a sentence', '', self.reason, timing)
        return Outcome(ErrorCode.NONE, '', 'text', self.reason, timing)


@pytest.fixture
def one(monkeypatch):
    monkeypatch.setattr(prefix_promises, 'ids_of', lambda engine, messages: list(range(100)))

    def run(**facts):
        return prefix_promises.one(Engine(**facts), GOAL, 1.0)

    return run


@pytest.mark.parametrize(('facts', 'promised', 'missed'), [
    (dict(verdict=Verdict.FITS, took_s=0.5), True, False),
    (dict(verdict=Verdict.FITS_WITH_EVICTION, took_s=2.0), True, True),  # late
    (dict(verdict=Verdict.FITS, took_s=0.5, reason=FinishReason.DEADLINE), True, True),  # cut
    (dict(verdict=Verdict.FITS, took_s=0.5, reason=FinishReason.CAPPED), True, True),
    (dict(verdict=Verdict.FITS, took_s=0.5, reason=FinishReason.DEADLINE, code=ErrorCode.DEADLINE_MISSED), True, True),
    (dict(verdict=Verdict.AT_RISK, took_s=2.0), False, False),
    (REFUSED, False, False)])
def test_a_promise_is_kept_by_a_natural_end_in_time(one, facts, promised, missed):
    row = one(**facts)
    assert (row['promised'], row['missed'], row['beyond_wcet']) == (promised, missed, promised and facts['took_s'] > 1)
    assert row['budget_s'] == pytest.approx(0.1 + 7 * 0.1), 'nothing was measured of known beginnings'


def test_what_is_said_of_all(one):
    rows = [one(verdict=Verdict.FITS, took_s=seconds) for seconds in (0.1, 0.2, 0.3, 2.0)]
    rows += [one(verdict=Verdict.AT_RISK, took_s=0.1), one(**REFUSED)]
    found = prefix_promises.summary(rows)
    assert (found['goals'], found['promised'], found['missed'], found['beyond_wcet']) == (6, 4, 1, 1)
    assert found['missed_share'] == 0.25 and found['interval'][0] < 0.25 < found['interval'][1]
    assert found['reused_share'] == pytest.approx(0.32) and found['late_s'] == pytest.approx(1.2)
    assert found['prefill_over_estimate'] == pytest.approx(0.5)
    nothing = prefix_promises.summary([one(**REFUSED)])
    assert nothing['promised'] == 0 == nothing['missed_share'] and nothing['prefill_over_estimate'] is None
