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

"""Every plan that is made, first or while decoding, keeps to the invariants of request.Plan."""
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_quality_rule import CLIFF, FLAT, FULL, INT8, STEEP, chosen
from test_replan import SlowingBench
from test_solver import CASES

from timebill_ros.codes import ErrorCode, Strategy, Verdict
from timebill_ros.length.pessimistic_length import FixedFactor
from timebill_ros.planning.paper_rule import PaperRule
from timebill_ros.planning.quality_rule import QualityRule
from timebill_ros.planning.situation import Bounds
from timebill_ros.planning.solver import solve
from timebill_ros.planning.tracker import Tracker
from timebill_ros.request import to_dict


def assert_consistent(made, n_x):
    """What is true of every plan, written down a second time, independent of Plan's own checks."""
    assert made.n_x == n_x and 1 <= made.n_keep <= n_x
    assert made.eviction_ratio == pytest.approx(1 - made.n_keep / n_x)
    assert 1 <= made.predicted_tokens <= made.pessimistic_tokens
    assert made.length_cap >= 1 and made.fitting_tokens >= 0 and made.timing_factor > 0
    assert 0 <= made.decode_expected_s <= made.decode_wcet_s * (1 + 1e-9)
    assert {Verdict.FITS: made.n_keep == n_x, Verdict.FITS_WITH_EVICTION: made.n_keep < n_x}.get(made.verdict, True)
    assert made.verdict.is_promise == (made.pessimistic_tokens <= made.fitting_tokens)
    assert not made.verdict.is_promise or made.pessimistic_tokens <= made.length_cap
    assert made.verdict is not Verdict.INFEASIBLE or made.fitting_tokens < made.predicted_tokens
    assert repr(type(made).from_dict(to_dict(made))) == repr(made), 'the node takes what the worker sends'


@settings(max_examples=500, derandomize=True, deadline=None)
@given(CASES)
def test_of_the_solver(case):
    assert_consistent(solve(**case), case['n_x'])


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.integers(0, 2 ** 32), st.sampled_from([STEEP, FLAT, CLIFF]), st.booleans(), st.floats(-0.1, 3.0))
def test_of_the_rule_by_quality(seed, table, may_cap, left_s):
    rng = random.Random(seed)
    n_x = rng.randint(1, 3000)
    bounds = Bounds(FixedFactor(rng.choice([1.0, 3.0])), 1.0, rng.choice([1.0, 1.2, 3.0]), rng.choice([0.0, 0.02]))
    made = chosen(table, left_s, options=rng.choice([(FULL,), (FULL, INT8), (INT8, FULL)]), may_cap=may_cap, n_x=n_x,
                  n_min=rng.randint(1, n_x), n_max=rng.randint(1, 150), bounds=bounds, n_goal=rng.choice([0, 170]),
                  look_tokens=rng.choice([0, 8]))
    assert_consistent(made, n_x)


RULES = st.sampled_from([PaperRule(), *(QualityRule(table, 0.5, 50) for table in (STEEP, FLAT, CLIFF))])


class NotingBench(SlowingBench):
    """Keeps every plan that is made again, not only the latest."""

    def run(self, *args, **fields):
        self.revised = []
        return super().run(*args, **fields)

    def _on_step(self, n):
        super()._on_step(n)
        if self.control.revised is not None and self.control.revised not in self.revised:
            self.revised.append(self.control.revised)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(budget_s=st.floats(0.2, 2.5), slow=st.floats(0.5, 6.0), at=st.integers(1, 60), again=st.integers(1, 40),
       predicted=st.integers(1, 120), factor=st.sampled_from([1.0, 1.5, 5.0]), adaptive=st.booleans(),
       rule=RULES, strategy=st.sampled_from([Strategy.KILL, Strategy.TRUNCATE]),
       max_new_tokens=st.integers(1, 120), ratio=st.sampled_from([0.0, 0.5, 0.95]),
       drop=st.sampled_from(['kill', 'all']))
def test_of_an_engine_whose_device_slows_down(budget_s, slow, at, again, predicted, factor, adaptive, rule, strategy,
                                              max_new_tokens, ratio, drop):
    bench = NotingBench(slow=slow, at=at, predicted=predicted, replan_tokens=again)
    bench.engine.tracker = Tracker('adaptive', scores=[0.1 * i for i in range(100)]) if adaptive else \
        Tracker('fixed', k=factor)
    bench.engine.planner.rule, bench.engine.drop_infeasible = rule, drop
    outcome = bench.run(budget_s, strategy=strategy, max_new_tokens=max_new_tokens, max_eviction_ratio=ratio)
    assert outcome.error_code is not ErrorCode.UNKNOWN, outcome.error_msg
    outcome.timing.check()
    for made in bench.plans:
        assert_consistent(made, 1000)
    for made, timing in bench.revised:
        assert_consistent(made, 1000)
        timing.check()
        assert timing.kept_tokens == made.n_keep and timing.generated_tokens <= made.pessimistic_tokens
