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

"""Which eviction, weights and cap are chosen: a table of cases, and what every choice must keep to."""
import random

import pytest

from timebill_ros.codes import Verdict
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.planning import solver
from timebill_ros.planning.knobs import Option, choose
from timebill_ros.planning.quality_table import QualityTable
from timebill_ros.timing.step_time import StepTime

FULL = Option('float32', StepTime(p=1e-5, q=0.01))  # 20 ms a step over 1,000 entries, 10.5 ms over 50
INT8 = Option('int8', StepTime(p=1e-5, q=0.004))
CUT = ((0.0, 0.0), (1.0, 1.0))  # half an answer is worth half
STEEP = QualityTable({'float32': ((0.0, 1.0), (0.5, 0.8), (0.95, 0.2)),
                      'int8': ((0.0, 0.9), (0.5, 0.7), (0.95, 0.1))}, CUT)
FLAT = QualityTable({'float32': ((0.0, 1.0), (0.95, 0.98)), 'int8': ((0.0, 0.5), (0.95, 0.4))}, CUT)
LENGTHS = LengthDistribution(10, [0.0, 0.6, 0.0, 0.0, 0.0, 0.4])  # 20 tokens or 60


def chosen(table, time_left_s, options=(FULL, INT8), **fields):
    values = dict(n_x=1000, n_min=50, eviction_s=0.002, predicted=20, pessimistic=60, n_max=100)
    return choose(options, table, LENGTHS, time_left_s=time_left_s, **{**values, **fields})


# time left -> verdict, variant, entries kept and cap, by table
CASES = [
    # Without a table: the paper's rule, on the model's own weights whatever else is loaded.
    (None, 2.0, Verdict.FITS, 'float32', 1000, 100),
    (None, 1.0, Verdict.FITS_WITH_EVICTION, 'float32', 661, 100),
    (None, 0.5, Verdict.AT_RISK, 'float32', 1000, 100),
    (None, 0.1, Verdict.INFEASIBLE, 'float32', 50, 100),
    # Everything fits: full weights, whole cache.
    (STEEP, 2.0, Verdict.FITS, 'float32', 1000, 100),
    # Full weights would have to evict a third, for a quality of 0.86. int8 has 0.9 with the whole cache.
    (STEEP, 1.0, Verdict.FITS, 'int8', 1000, 100),
    (FLAT, 1.0, Verdict.FITS_WITH_EVICTION, 'float32', 661, 100),
    # Only int8 can keep the promise, whatever its quality.
    (FLAT, 0.45, Verdict.FITS_WITH_EVICTION, 'int8', 330, 100),
    # Nothing can keep it. Where eviction costs little quality, evict and finish more of the answer. Where it costs
    # much, do not evict down to n_min, as the paper would.
    (FLAT, 0.25, Verdict.AT_RISK, 'float32', 50, 100),
    (STEEP, 0.1, Verdict.AT_RISK, 'int8', 500, 100),
    (STEEP, 0.05, Verdict.INFEASIBLE, 'int8', 500, 100),
]


@pytest.mark.parametrize(('table', 'time_left_s', 'verdict', 'variant', 'n_keep', 'cap'), CASES)
def test_the_choice(table, time_left_s, verdict, variant, n_keep, cap):
    plan = chosen(table, time_left_s)
    assert (plan.verdict, plan.variant, plan.length_cap) == (verdict, variant, cap)
    assert plan.n_keep == pytest.approx(n_keep, abs=2)


def test_where_a_late_answer_is_worth_nothing_it_is_capped_before():
    plan = chosen(STEEP, 0.1, may_cap=True)
    assert plan.length_cap == solver.longest_fit(INT8.steps, 500, 0.1 - 0.002, 100) < 20
    assert chosen(STEEP, 2.0, may_cap=True).length_cap == 100, 'a promise needs no cap'
    assert chosen(None, 0.1, may_cap=True).length_cap == 100, 'nor has the paper one'
    assert chosen(STEEP, -0.1, may_cap=True).length_cap == 100, 'and with no time at all there is nothing to cap'


def test_a_variant_that_was_not_measured_is_not_trusted():
    only_full = QualityTable({'float32': STEEP.variants['float32']}, CUT)
    assert chosen(only_full, 1.0).variant == 'float32'
    assert chosen(only_full, 0.1).variant == 'float32'


@pytest.mark.parametrize('seed', range(200))
def test_every_choice_is_consistent(seed):
    rng = random.Random(seed)
    n_x = rng.randint(1, 3000)
    table = rng.choice([None, STEEP, FLAT])
    fields = dict(n_x=n_x, n_min=rng.randint(1, n_x), predicted=rng.randint(1, 100), pessimistic=rng.randint(1, 200),
                  n_max=rng.randint(1, 150), eviction_s=rng.choice([0.0, 0.01]))
    left = rng.uniform(-0.1, 3.0)
    plan = chosen(table, left, may_cap=rng.random() < 0.5, **fields)
    option = {'float32': FULL, 'int8': INT8}[plan.variant]
    assert fields['n_min'] <= plan.n_keep <= n_x and 1 <= plan.length_cap <= fields['n_max']
    assert plan.eviction_ratio == pytest.approx(1 - plan.n_keep / n_x)
    cost = fields['eviction_s'] if plan.n_keep < n_x else 0.0
    needed = cost + option.steps.decode(plan.n_keep, plan.pessimistic_tokens)
    assert plan.decode_wcet_s == pytest.approx(needed)
    if plan.verdict.is_promise:
        assert needed <= left + 1e-9 and plan.length_cap == fields['n_max']
    # Further weights to choose from never turn a promise into none.
    alone = chosen(table, left, options=(FULL,), **fields)
    assert plan.verdict <= alone.verdict


def evaluations(monkeypatch, time_left_s, longest):
    """Return how often one choice works out the time of a response, with 21 eviction ratios and two sets of weights."""
    curve = tuple((i / 100, 1 - i / 100) for i in range(0, 96, 5))
    table = QualityTable({'float32': curve, 'int8': curve}, CUT)
    counted, decode = [], StepTime.decode
    with monkeypatch.context() as patch:
        patch.setattr(StepTime, 'decode', lambda *arguments: counted.append(1) or decode(*arguments))
        choose((FULL, INT8), table, LENGTHS, n_x=4000, n_min=200, time_left_s=time_left_s, eviction_s=0.002,
               predicted=100, pessimistic=longest, n_max=longest)
    return len(counted)


@pytest.mark.parametrize('time_left_s', [i / 10 for i in range(8)])
def test_the_work_of_one_choice_is_bounded_and_grows_with_the_logarithm_of_the_length_only(time_left_s, monkeypatch):
    """What is counted does not depend on the machine; `timebill bench decode` has the time of a call."""
    assert evaluations(monkeypatch, time_left_s, 512) < 1000
    assert evaluations(monkeypatch, time_left_s, 64 * 512) < 1600
