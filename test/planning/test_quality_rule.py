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

"""Which eviction, weights, cap and instant are chosen by quality: a table of cases, and what every choice keeps to."""
import random
from dataclasses import replace

import pytest

from timebill_ros.codes import Verdict
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.pessimistic_length import FixedFactor
from timebill_ros.planning.expected_quality import Outlook, Stand, Way
from timebill_ros.planning.quality_rule import LEAST_GROWTH, QualityRule
from timebill_ros.planning.quality_table import QualityTable
from timebill_ros.planning.situation import Bounds, Option, Progress, Situation
from timebill_ros.timing.step_time import StepTime

FULL = Option('float32', StepTime(p=1e-5, q=0.01))  # 20 ms a step over 1,000 entries, 10.5 ms over 50
INT8 = Option('int8', StepTime(p=1e-5, q=0.004))
CUT = ((0.0, 0.0), (1.0, 1.0))  # half an answer is worth half
STEEP = QualityTable({'float32': ((0.0, 1.0), (0.5, 0.8), (0.95, 0.2)),
                      'int8': ((0.0, 0.9), (0.5, 0.7), (0.95, 0.1))}, CUT)
FLAT = QualityTable({'float32': ((0.0, 1.0), (0.95, 0.98)), 'int8': ((0.0, 0.5), (0.95, 0.4))}, CUT)
CLIFF = QualityTable({'float32': ((0.0, 1.0), (0.1, 0.05), (0.95, 0.0))}, CUT)  # as on real weights
LENGTHS = LengthDistribution(10, [0.0, 0.6, 0.0, 0.0, 0.0, 0.4])  # 20 tokens or 60
EVICTION_S = 0.002
WHOLE = 1000


def situation(**fields):
    values = dict(distribution=LENGTHS, n_x=1000, n_min=50, n_max=100, bounds=Bounds(FixedFactor(3.0)))
    return Situation(**{**values, **fields})


def chosen(table, time_left_s, options=(FULL, INT8), min_kept=50, **fields):
    return QualityRule(table, min_kept=min_kept).first(options, situation(**fields), time_left_s, EVICTION_S)


# table, time left -> verdict, variant, entries kept
CASES = [
    # Everything fits: full weights, whole cache.
    (STEEP, 2.0, Verdict.FITS, 'float32', WHOLE),
    (CLIFF, 2.0, Verdict.FITS, 'float32', WHOLE),
    # Full weights would have to evict a third, for a quality of 0.86. int8 has 0.9 with the whole cache.
    (STEEP, 1.0, Verdict.FITS, 'int8', WHOLE),
    (FLAT, 1.0, Verdict.FITS_WITH_EVICTION, 'float32', 661),
    # int8 alone can keep the promise, at half of the quality: so it is not given.
    (FLAT, 0.45, Verdict.AT_RISK, 'float32', 50),
    # Eviction costs nearly everything: no promise, and the answer stays whole.
    (CLIFF, 1.0, Verdict.AT_RISK, 'float32', WHOLE),
    (CLIFF, 0.1, Verdict.INFEASIBLE, 'float32', WHOLE),
    # Nothing can keep a promise. Where eviction costs little quality, evict and finish more of the answer. Where it
    # costs much, do not evict down to n_min, as the paper would.
    (FLAT, 0.25, Verdict.AT_RISK, 'float32', 50),
    (STEEP, 0.1, Verdict.AT_RISK, 'int8', 500),
    (STEEP, 0.05, Verdict.INFEASIBLE, 'int8', 500),
]


@pytest.mark.parametrize(('table', 'time_left_s', 'verdict', 'variant', 'n_keep'), CASES)
def test_the_choice(table, time_left_s, verdict, variant, n_keep):
    options = (FULL, INT8) if 'int8' in table.variants else (FULL,)
    plan = chosen(table, time_left_s, options)
    assert (plan.verdict, plan.variant, plan.length_cap, plan.evict_after) == (verdict, variant, 100, 0)
    assert plan.n_keep == pytest.approx(n_keep, abs=2)


@pytest.mark.parametrize('promise_quality', [0.0, 0.5, 0.86, 0.9, 1.0])
def test_a_promise_costs_no_more_than_the_stated_share_of_quality(promise_quality):
    """Evicting a third would leave 0.86; the whole cache, cut at 51 tokens of 60, leaves 0.94 on average."""
    rule = QualityRule(STEEP, promise_quality, 50)
    plan = rule.first((FULL,), situation(), 1.0, EVICTION_S)
    assert (plan.verdict is Verdict.FITS_WITH_EVICTION) == (0.864 / 0.94 >= promise_quality)
    assert plan.verdict.is_promise or plan.n_keep == WHOLE


@pytest.mark.parametrize(('min_kept', 'n_min', 'n_x', 'floor'), [
    (128, 50, 1000, 128), (128, 300, 1000, 300), (128, 5, 100, 100), (1, 50, 1000, 50), (128, 2, 37, 37)])
@pytest.mark.parametrize('time_left_s', [0.0, 0.01, 0.1, 0.3, 0.6])
def test_nothing_is_evicted_below_the_floor_even_where_it_is_free(min_kept, n_min, n_x, floor, time_left_s):
    free = QualityTable({'float32': ((0.0, 1.0), (0.99, 1.0))}, CUT)
    plan = chosen(free, time_left_s, (FULL,), min_kept, n_min=n_min, n_x=n_x)
    assert floor <= plan.n_keep <= n_x
    if n_x == floor:
        assert not plan.eviction_ratio and plan.verdict is not Verdict.FITS_WITH_EVICTION


def test_an_eviction_that_gains_hardly_any_token_is_not_made():
    slow = Option('float32', StepTime(p=1e-8, q=0.01))  # the cache is a thousandth of a step
    free = QualityTable({'float32': ((0.0, 1.0), (0.99, 1.0))}, CUT)
    for time_left_s in (0.05, 0.1, 0.3, 0.59):
        assert chosen(free, time_left_s, (slow,)).n_keep == WHOLE


def test_where_a_late_answer_is_worth_nothing_it_is_capped_before():
    plan = chosen(STEEP, 0.1, may_cap=True)
    assert 0 < plan.length_cap == plan.fitting_tokens < 20
    assert chosen(STEEP, 2.0, may_cap=True).length_cap == 100, 'a promise needs no cap'
    assert chosen(STEEP, -0.1, may_cap=True).length_cap == 100, 'and with no time at all there is nothing to cap'


@pytest.mark.parametrize('time_left_s', [0.05, 0.1, 0.2, 0.33, 0.5])
def test_a_cap_is_weighed_as_the_cut_that_it_is(time_left_s):
    """Not as a loss, for the avoidance of which most of the cache would go."""
    cut, capped = (chosen(STEEP, time_left_s, (FULL,), may_cap=may_cap) for may_cap in (False, True))
    assert cut.n_keep == capped.n_keep and capped.length_cap == cut.fitting_tokens < 100


@pytest.mark.parametrize(('table', 'time_left_s', 'verdict'), [
    (STEEP, 0.1, Verdict.AT_RISK),  # four tokens of twenty or sixty
    (STEEP, 0.001, Verdict.INFEASIBLE),  # one
    (STEEP, -0.1, Verdict.INFEASIBLE),
    (CLIFF, 0.1, Verdict.AT_RISK),
])
def test_a_goal_is_not_given_up_where_a_cap_saves_a_text_worth_having(table, time_left_s, verdict):
    assert chosen(table, time_left_s, (FULL,), may_cap=True).verdict is verdict
    if verdict is Verdict.AT_RISK:
        assert chosen(CLIFF, time_left_s, (FULL,)).verdict is Verdict.INFEASIBLE


@pytest.mark.parametrize(('time_left_s', 'may_cap', 'cap'), [
    (0.45, True, 53),  # 21 more tokens, and the next look comes after 32
    (0.9, True, 100),  # 42: the next look can say so
    (0.45, False, 100),  # the guard cuts it
    (0.001, True, 32),  # no further token; never below those that came
])
def test_on_a_slower_device_an_answer_that_would_be_lost_is_capped_at_the_last_look_before(time_left_s, may_cap, cap):
    rule, known = QualityRule(CLIFF, min_kept=50), situation(may_cap=may_cap, look_tokens=32)
    plan = rule.first((FULL,), known, 2.1, EVICTION_S)
    assert plan.verdict is Verdict.FITS and plan.length_cap == 100
    revised = rule.revise(plan, FULL, known, Progress(32, 1031, 1000, 1.0), time_left_s, EVICTION_S)
    assert revised.n_keep == WHOLE and revised.length_cap == pytest.approx(cap, abs=1)


@pytest.mark.parametrize(('n', 'time_left_s', 'cap'), [
    (4, 0.9, 'as planned'),  # the next look comes before it
    (13, 0.7, 47),  # 34 more tokens fit, where two could be promised first
    (13, 0.001, 13),  # steps took as long as was feared
    (13, 2.5, 100)])  # it fits now
def test_a_cap_rises_where_steps_took_no_longer_than_expected(n, time_left_s, cap):
    cautious = Bounds(FixedFactor(3.0), time_bound=3.0, reserve_s=0.1)
    known = situation(may_cap=True, look_tokens=8, bounds=cautious)
    rule = QualityRule(CLIFF, min_kept=50)
    plan = rule.first((FULL,), known, 1.0, EVICTION_S)
    assert plan.verdict is Verdict.AT_RISK and plan.length_cap == pytest.approx(15, abs=1)
    # What is known of times by now: they are as profiled.
    later = replace(known, bounds=replace(cautious, time_bound=1.0, reserve_s=0.0))
    revised = rule.revise(plan, FULL, later, Progress(n, 1000 + n - 1, 1000, 1.0), time_left_s, EVICTION_S)
    assert revised.length_cap == (plan.length_cap if cap == 'as planned' else pytest.approx(cap, abs=1))


def test_a_variant_that_was_not_measured_is_not_trusted_but_the_models_own_weights_are():
    only_full = QualityTable({'float32': STEEP.variants['float32']}, CUT)
    assert chosen(only_full, 1.0).variant == 'float32'
    assert chosen(only_full, 0.1).variant == 'float32'
    own = Option('int4', INT8.steps)
    assert chosen(only_full, 2.0, (own,)).verdict is Verdict.FITS
    other = Option('bfloat16', INT8.steps)
    assert chosen(only_full, 0.1, (own,)).n_keep == chosen(only_full, 0.1, (other,)).n_keep < 1000


def test_a_mere_prior_refuses_nothing():
    assert chosen(CLIFF, 0.1, (FULL,)).verdict is Verdict.INFEASIBLE
    assert chosen(CLIFF, 0.1, (FULL,), lengths_known=False).verdict is Verdict.AT_RISK
    assert chosen(CLIFF, -0.1, (FULL,), lengths_known=False).verdict is Verdict.INFEASIBLE, 'not even one token'


@pytest.mark.parametrize('n', [28, 64, 200, 496])
def test_an_answer_whose_expected_length_just_fits_is_at_risk(n):
    """The lengths that choices reach are about right, and may say one token less."""
    plan = chosen(CLIFF, FULL.steps.decode(WHOLE, n), (FULL,), distribution=LengthDistribution.point(n), n_min=WHOLE,
                  n_max=1024)
    assert (plan.verdict, plan.fitting_tokens) == (Verdict.AT_RISK, n)


# -- later evictions ---------------------------------------------------------------------------------------------------

SHORT_OR_LONG = LengthDistribution(10, [0.0, 0.9, *[0.0] * 7, 0.1])  # 20 tokens, rarely 100


def test_an_eviction_waits_where_most_answers_end_before_it_is_needed():
    """100 tokens take 2.03 s over the whole cache, so that some must be evicted for the promise of all 100."""
    fields = dict(distribution=SHORT_OR_LONG, bounds=Bounds(FixedFactor(5.0)))
    now, later = (chosen(STEEP, 1.85, (FULL,), look_tokens=look, **fields) for look in (0, 32))
    assert now.verdict is later.verdict is Verdict.FITS_WITH_EVICTION
    assert now.evict_after == 0 and later.evict_after == 32
    assert later.n_keep < now.n_keep < WHOLE, 'what waits evicts more in the end'


def test_a_plan_that_waits_keeps_its_promise_in_the_worst_case():
    fields = dict(distribution=SHORT_OR_LONG, bounds=Bounds(FixedFactor(5.0), time_bound=1.1, reserve_s=0.01))
    plan = chosen(FLAT, 1.9, (FULL,), look_tokens=32, **fields)
    assert plan.verdict is Verdict.FITS_WITH_EVICTION and plan.evict_after >= 32
    steps, after = FULL.steps.scaled(1.1), plan.evict_after
    needed_s = 0.01 + steps.decode(1000, after) + 1.1 * EVICTION_S + sum(
        steps(plan.n_keep + i - 1) for i in range(after, 100))
    assert plan.decode_wcet_s == pytest.approx(needed_s) and needed_s <= 1.9


def test_an_eviction_that_waited_comes_where_the_answer_goes_on_and_is_forgotten_where_time_suffices():
    rule = QualityRule(STEEP, min_kept=50)
    known = situation(distribution=SHORT_OR_LONG, bounds=Bounds(FixedFactor(5.0)), look_tokens=32)
    plan = rule.first((FULL,), known, 1.85, EVICTION_S)
    left_s = 1.85 - FULL.steps.decode(1000, 32)
    goes_on = rule.revise(plan, FULL, known, Progress(32, 1031, 1000, 1.0), left_s, EVICTION_S)
    assert goes_on.verdict is Verdict.FITS_WITH_EVICTION and goes_on.n_keep < 1000
    if not goes_on.evict_after:
        assert goes_on.n_keep == pytest.approx(plan.n_keep, abs=20)
    quick = rule.revise(plan, FULL, known, Progress(32, 1031, 1000, 1.0), 1.8, EVICTION_S)
    assert (quick.verdict, quick.n_keep, quick.evict_after) == (Verdict.FITS, 1000, 0)


RESTORE_S = 0.004


@pytest.mark.parametrize(('table', 'left_s', 'n', 'n_keep'), [
    (STEEP, 2.0, 10, WHOLE),  # 51 more tokens over the whole cache take 1.03 s
    (STEEP, 0.97, 10, (800, 810)),  # over 806 entries 0.92 s, and a twentieth to spare
    (STEEP, 0.93, 10, (725, 735)),
    (STEEP, 0.84, 10, 500),  # too few would come back: an eighth of what is gone must
    (STEEP, 0.77, 10, 500),  # and here none can
    (FLAT, 2.0, 10, 500),  # they are worth nothing
    (STEEP, 2.0, 58, 500),  # what is still to be written is not worth it
])
def test_entries_come_back_where_the_time_for_the_longest_suffices_and_they_are_worth_it(table, left_s, n, n_keep):
    rule, known = QualityRule(table, min_kept=50), situation(look_tokens=8)
    plan = rule.first((FULL,), known, 0.9, EVICTION_S)
    plan = replace(plan, verdict=Verdict.FITS_WITH_EVICTION, n_keep=500, eviction_ratio=0.5, evict_after=0,
                   pessimistic_tokens=60, fitting_tokens=60, decode_wcet_s=1.0)
    now = Progress(n, 500 + n - 1, 500, 1.0, most=WHOLE)
    revised = rule.revise(plan, FULL, known, now, left_s, EVICTION_S, RESTORE_S)
    assert n_keep[0] < revised.n_keep < n_keep[1] if isinstance(n_keep, tuple) else revised.n_keep == n_keep
    assert revised.verdict is (Verdict.FITS if n_keep == WHOLE else Verdict.FITS_WITH_EVICTION)
    assert revised.length_cap == plan.length_cap and revised.evict_after == 0
    stays = rule.revise(plan, FULL, known, now._replace(most=0), left_s, EVICTION_S)
    assert stays is plan, 'what is not held stays gone'
    dear = rule.revise(plan, FULL, known, now, left_s, EVICTION_S, 2.0)
    assert dear.n_keep == 500, 'nor does anything come back that takes too long'


def test_a_look_that_changes_nothing_returns_the_same_plan():
    rule = QualityRule(CLIFF, min_kept=50)
    known = situation(look_tokens=8)
    plan = rule.first((FULL,), known, 0.9, EVICTION_S)
    assert (plan.verdict, plan.n_keep) == (Verdict.AT_RISK, WHOLE)
    left_s = 0.9 - FULL.steps.decode(1000, 8)
    assert rule.revise(plan, FULL, known, Progress(8, 1007, 1000, 1.0), left_s, EVICTION_S) is plan


# -- every choice ------------------------------------------------------------------------------------------------------

def some(seed):
    """(table, situation, time left, plan) of a random case."""
    rng = random.Random(seed)
    n_x = rng.randint(1, 3000)
    weights = [rng.random() for _ in range(rng.randint(1, 12))]
    known = situation(
        n_x=n_x, n_min=rng.randint(1, n_x), n_max=rng.randint(1, 150), look_tokens=rng.choice([0, 8, 32]),
        distribution=LengthDistribution(rng.randint(1, 20), [w / sum(weights) for w in weights]),
        bounds=Bounds(FixedFactor(rng.choice([1.0, 2.0, 5.0])), time_bound=rng.choice([1.0, 1.2]),
                      reserve_s=rng.choice([0.0, 0.01])),
        n_goal=rng.choice([0, 200]), may_cap=rng.random() < 0.5, lengths_known=rng.random() < 0.8)
    table, left_s = rng.choice([STEEP, FLAT, CLIFF]), rng.uniform(-0.1, 3.0)
    rule = QualityRule(table, rng.choice([0.5, 0.9, 1.0]), rng.choice([1, 50, 128]))
    return rng, rule, known, left_s, rule.first((FULL, INT8), known, left_s, EVICTION_S)


@pytest.mark.parametrize('seed', range(300))
def test_every_choice_is_consistent(seed):
    _, rule, known, left_s, plan = some(seed)
    option = {'float32': FULL, 'int8': INT8}[plan.variant]
    floor = min(max(known.n_min, rule.min_kept), known.n_x)
    assert floor <= plan.n_keep <= known.n_x and 1 <= plan.length_cap <= known.n_max
    assert plan.eviction_ratio == pytest.approx(1 - plan.n_keep / known.n_x)
    assert not plan.evict_after or plan.n_keep < known.n_x and known.look_tokens
    if plan.verdict.is_promise:
        assert plan.decode_wcet_s <= left_s + 1e-9 and plan.length_cap == known.n_max
        assert plan.pessimistic_tokens <= known.n_max
    if plan.n_keep < known.n_x:
        stand = Stand(known.n_x, known.n_x, EVICTION_S)
        stay, gone = (stand.longest_fit(option.steps, way, left_s, known.n_max)
                      for way in (Way(known.n_x), Way(plan.n_keep, plan.evict_after)))
        assert gone >= LEAST_GROWTH * stay - 1 or plan.verdict.is_promise


@pytest.mark.parametrize('seed', range(300))
def test_no_plan_is_worth_less_than_the_share_for_a_promise_of_leaving_the_cache_alone(seed):
    _, rule, known, left_s, plan = some(seed)
    option, stand = {'float32': FULL, 'int8': INT8}[plan.variant], Stand(known.n_x, known.n_x, EVICTION_S)
    outlook = Outlook(known.distribution, 0, longest=known.longest, cut=CUT)

    def worth(option, way):
        fit = stand.longest_fit(option.steps, way, left_s, known.n_max)
        return outlook.quality([way], [fit], stand, lambda n: rule.table.of(option.variant, 1 - n / known.n_x))[0]

    least = worth(FULL, Way(known.n_x)) * (rule.promise_quality if plan.verdict.is_promise else 1.0)
    if not known.may_cap:  # there the times are those that promises are made for
        assert worth(option, Way(plan.n_keep, plan.evict_after)) >= 0.95 * least  # lengths on the grid are rounded


@pytest.mark.parametrize('seed', range(300))
def test_every_revision_is_consistent(seed):
    rng, rule, known, _, plan = some(seed)
    option = {'float32': FULL, 'int8': INT8}[plan.variant]
    known = replace(known, n_max=plan.length_cap)
    if known.n_max < 3:
        return
    n = rng.randint(2, known.n_max - 1)
    waits = plan.evict_after > n
    n_keep = known.n_x if waits else plan.n_keep
    now = Progress(n, n_keep + n - 1, n_keep, 1.0)
    left_s = rng.uniform(-0.1, 2.0)
    revised = rule.revise(plan, option, known, now, left_s, EVICTION_S)
    floor = min(max(known.n_min, rule.min_kept), n_keep)
    assert revised is plan or floor <= revised.n_keep <= n_keep
    assert revised.variant == plan.variant and n <= revised.length_cap <= plan.length_cap
    assert revised.length_cap == plan.length_cap or known.may_cap and revised.length_cap <= n + known.look_tokens
    if revised is not plan and revised.verdict.is_promise:
        assert revised.decode_wcet_s <= left_s + 1e-9
    again = rule.revise(revised, option, known, now, left_s, EVICTION_S)
    if revised.evict_after > n or revised.n_keep == n_keep:
        assert again is revised, 'nothing happened, so a second look finds nothing new'


def test_a_choice_works_out_a_bounded_number_of_times(monkeypatch):
    """What is counted does not depend on the machine."""
    counted, decode = [], StepTime.decode
    monkeypatch.setattr(StepTime, 'decode', lambda *arguments: counted.append(1) or decode(*arguments))
    for longest, most in ((512, 1500), (64 * 512, 3000)):
        counted.clear()
        lengths = LengthDistribution(longest // 64, [1 / 64] * 64)
        chosen(STEEP, 0.7, distribution=lengths, n_x=4000, n_max=longest, look_tokens=32)
        assert len(counted) < most
