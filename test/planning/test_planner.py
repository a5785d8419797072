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

"""The entry to planning on plain data: first plans, estimates, and plans made again, with no engine or model."""
import math
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_quality_rule import CLIFF, FLAT, STEEP

from timebill_ros.codes import Verdict
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.pessimistic_length import Adaptive, Conformal, FixedFactor
from timebill_ros.length.promise_level import PromiseLevel
from timebill_ros.planning import paper_rule, quality_rule, solver
from timebill_ros.planning.paper_rule import PaperRule
from timebill_ros.planning.planner import FirstPlan, Planner
from timebill_ros.planning.quality_rule import QualityRule
from timebill_ros.planning.situation import Bounds, Progress, Situation
from timebill_ros.timing.execution_time import ExecutionTimes

# A step takes 20 ms over 1,000 entries and 10.5 ms over 50; in int8, 14 ms and 4.5 ms. Evicting 1,000 takes 2 ms.
TIMES = ExecutionTimes(a=0, b=0, c=0, p=1e-5, q=0.01, e_1=1e-6, e_0=1e-3, r_1=1e-6, r_0=1e-3,
                       variants={'int8': {'p': 1e-5, 'q': 0.004, 'bend': 0.0, 'knee': 0}})
FLOAT32, INT8 = TIMES.steps, TIMES.of_variant('int8').steps
LENGTHS = LengthDistribution(10, [0.0, 0.6, 0.0, 0.0, 0.0, 0.4])  # 20 tokens or 60
TIGHT = 1.0  # 60 tokens take 1.2 s over the whole cache, and 0.66 s over 50 entries
SCORES = [0.05 * i for i in range(100)]
POLICIES = [FixedFactor(1.0), FixedFactor(3.0), Conformal(SCORES, 0.1), Adaptive(SCORES, PromiseLevel(0.2))]


def planner_of(rule=None, variants=('float32', 'int8')):
    return Planner(TIMES, variants, rule)


def known(*, bounds=None, **fields):
    values = dict(distribution=LENGTHS, n_x=1000, n_min=50, n_max=60, bounds=bounds or Bounds(FixedFactor(3.0)))
    return Situation(**{**values, **fields})


def some_situation(rng):
    n_x = rng.choice([1, 40, 1000, rng.randint(1, 3000)])
    n_buckets = rng.randint(1, 8)
    weights = [rng.random() + 1e-3 for _ in range(n_buckets)]
    return Situation(
        LengthDistribution(rng.randint(1, 20), [weight / sum(weights) for weight in weights]), n_x,
        rng.randint(1, n_x), rng.randint(1, 150),
        Bounds(rng.choice(POLICIES), rng.choice([1.0, 0.7, 2.5]), rng.choice([1.0, 1.2, 3.0]), rng.choice([0.0, 0.02])),
        may_cap=rng.random() < 0.5)


SITUATIONS = st.integers(0, 2 ** 32).map(lambda seed: some_situation(random.Random(seed)))
BY_STEEP, BY_FLAT = QualityRule(STEEP, min_kept=50), QualityRule(FLAT, min_kept=1)
RULES = st.sampled_from([PaperRule(), BY_STEEP, BY_FLAT])
SECONDS = st.floats(-0.2, 4.0)
often = settings(max_examples=300, derandomize=True, deadline=None)


# -- the first plan --------------------------------------------------------------------------------------------------

@often
@given(SITUATIONS, SECONDS)
def test_by_the_papers_rule_a_plan_is_the_solvers_with_the_bounds_applied(situation, left_s):
    bounds, lengths = situation.bounds, situation.distribution
    solved = solver.solve(
        steps=FLOAT32.scaled(bounds.timing_factor), n_x=situation.n_x, n_min=situation.n_min, n_max=situation.n_max,
        time_left_s=left_s, eviction_s=TIMES.eviction(situation.n_x) * bounds.timing_factor,
        predicted=lengths.median(), pessimistic=bounds.length.pessimistic(lengths, situation.n_max),
        caution=bounds.time_bound, reserve_s=bounds.reserve_s)
    assert planner_of().plan(situation, left_s) == replace(
        solved, variant='float32', timing_factor=bounds.timing_factor, decode_planned_s=solved.decode_wcet_s)


@often
@given(SITUATIONS, RULES, SECONDS, st.integers(0, 2 ** 32))
def test_the_worst_case_that_is_told_is_that_of_other_bounds_and_of_a_promise_the_time_left(situation, rule, left_s,
                                                                                            seed):
    rng, one, bounds = random.Random(seed), planner_of(rule), situation.bounds
    told = Bounds(rng.choice(POLICIES), bounds.timing_factor, bounds.time_bound * rng.choice([0.9, 1.0, 1.5]),
                  bounds.reserve_s * rng.choice([0.5, 1.0, 2.0]))
    plain, plan = one.plan(situation, left_s), one.plan(replace(situation, bounds=replace(bounds, told=told)), left_s)
    assert replace(plan, decode_wcet_s=plain.decode_wcet_s) == plain, 'what is chosen is the same'
    assert plain.decode_planned_s == plain.decode_wcet_s == plan.decode_planned_s
    n_w = told.length.pessimistic(situation.distribution, situation.longest, 0, situation.n_x)
    if plan.n_keep == situation.n_x:
        steps = one.times_of(plan.variant).steps.scaled(bounds.timing_factor * told.time_bound)
        needed_s = told.reserve_s + steps.decode(plan.n_keep, min(n_w, situation.n_max))
        assert plan.decode_wcet_s == pytest.approx(max(plain.decode_wcet_s, min(
            needed_s, left_s if plan.verdict.is_promise else math.inf)))
    assert plan.decode_wcet_s >= plain.decode_wcet_s
    assert not plan.verdict.is_promise or plan.decode_wcet_s <= left_s + 1e-9
    if n_w > plan.pessimistic_tokens and told.time_bound > bounds.time_bound and not plan.verdict.is_promise:
        assert plan.decode_wcet_s > plain.decode_wcet_s or plan.pessimistic_tokens >= situation.n_max


@pytest.mark.parametrize('verdict, worst_s', [(Verdict.FITS, 1.5), (Verdict.FITS_WITH_EVICTION, 1.5),
                                              (Verdict.AT_RISK, 4.0), (Verdict.INFEASIBLE, 4.0)])
def test_the_worst_case_of_a_promised_goal_stays_within_the_time_left_when_it_is_planned_again(verdict, worst_s):
    first = FirstPlan(SimpleNamespace(verdict=verdict), 5.0, None)
    assert first.worst_s(SimpleNamespace(decode_wcet_s=4.0), 1.5) == worst_s
    assert first.worst_s(SimpleNamespace(decode_wcet_s=1.0), 1.5) == 1.0


@often
@given(SITUATIONS, RULES, SECONDS)
def test_a_device_that_is_slower_by_a_factor_is_planned_for_as_one_with_less_time(situation, rule, left_s):
    bounds = situation.bounds
    slow = planner_of(rule).plan(situation, left_s)
    as_profiled = replace(situation, bounds=replace(bounds, timing_factor=1.0,
                                                    reserve_s=bounds.reserve_s / bounds.timing_factor))
    quick = planner_of(rule).plan(as_profiled, left_s / bounds.timing_factor)
    assert slow.timing_factor == bounds.timing_factor
    assert abs(slow.fitting_tokens - quick.fitting_tokens) <= 1 or slow.n_keep != quick.n_keep  # they are rounded


@often
@given(SITUATIONS, RULES, SECONDS)
def test_where_nothing_may_be_evicted_nothing_is(situation, rule, left_s):
    """As in an estimate's second plan, and for models whose cache cannot be evicted."""
    plan = planner_of(rule).plan(replace(situation, n_min=situation.n_x), left_s)
    assert plan.n_keep == situation.n_x and plan.eviction_ratio == 0.0
    assert plan.verdict is not Verdict.FITS_WITH_EVICTION


@often
@given(SITUATIONS, RULES, SECONDS)
def test_a_permitted_eviction_never_makes_a_promise_impossible(situation, rule, left_s):
    """Evicting on the better weights may be worth more than FITS on others, but both are promises."""
    whole = planner_of(rule).plan(replace(situation, n_min=situation.n_x), left_s)
    plan = planner_of(rule).plan(situation, left_s)
    assert plan.verdict <= max(whole.verdict, Verdict.FITS_WITH_EVICTION)


@often
@given(SITUATIONS, RULES, SECONDS, st.integers(0, 300))
def test_no_length_is_promised_that_the_context_would_cut(situation, rule, left_s, more):
    """The goal's own limit lies `more` tokens beyond the last one that can come; a cut there is no natural end."""
    cut = replace(situation, n_goal=situation.n_max + more)
    plan = planner_of(rule).plan(cut, left_s)
    assert not plan.verdict.is_promise or cut.pessimistic() <= plan.pessimistic_tokens <= cut.n_max
    assert plan.length_cap <= cut.n_max
    if cut.pessimistic() <= cut.n_max:
        uncut = planner_of(rule).plan(situation, left_s)
        assert plan == replace(uncut, quality=plan.quality), 'the context is no obstacle'  # but to lengths less likely
    else:
        assert plan.pessimistic_tokens > cut.n_max >= plan.fitting_tokens


def test_an_answer_that_grows_into_the_end_of_the_context_loses_its_promise():
    bounds = Bounds(FixedFactor(2.0))
    situation = known(bounds=bounds, n_max=50, n_goal=500)
    plan = planner_of().plan(situation, 100.0)
    assert (plan.verdict, plan.pessimistic_tokens) == (Verdict.FITS, 40)
    revised = planner_of().revise(plan, situation, Progress(45, 1044, 1000, 1.0), 100.0)
    assert (revised.verdict, revised.pessimistic_tokens, revised.n_keep) == (Verdict.AT_RISK, 500, 1000)


@pytest.mark.parametrize(('bounds', 'verdict'), [
    ({}, Verdict.FITS),  # 60 tokens over 1,000 entries take 1.20 s, of 1.25 s
    ({'timing_factor': 1.1}, Verdict.FITS_WITH_EVICTION),
    ({'time_bound': 1.1}, Verdict.FITS_WITH_EVICTION),
    ({'reserve_s': 0.1}, Verdict.FITS_WITH_EVICTION),
    ({'timing_factor': 2.5}, Verdict.AT_RISK),
    ({'time_bound': 2.5}, Verdict.AT_RISK),
    ({'timing_factor': 10.0}, Verdict.INFEASIBLE),
    ({'time_bound': 10.0}, Verdict.AT_RISK),  # caution is for promises: the predicted length fits, as expected
])
def test_each_bound_makes_a_promise_harder(bounds, verdict):
    plan = planner_of(variants=['float32']).plan(known(bounds=Bounds(FixedFactor(3.0), **bounds)), 1.25)
    assert plan.verdict is verdict and plan.timing_factor == bounds.get('timing_factor', 1.0)


# -- weights ---------------------------------------------------------------------------------------------------------

def test_times_without_a_variant_are_those_of_the_models_own_weights():
    by_name = planner_of(variants=['int8', 'float32'])
    assert by_name.times_of('') == by_name.times_of('int8') == TIMES.of_variant('int8')
    assert by_name.times_of('float32') == planner_of().times_of('') == TIMES
    with pytest.raises(KeyError):
        by_name.times_of('int4')


def test_a_plan_is_made_again_for_the_weights_that_it_decodes_with():
    """After 10 tokens, 51 more take 0.73 s in int8 and 1.03 s in float32."""
    both, now = planner_of(BY_STEEP), Progress(10, 1009, 1000, 1.0)
    plan = both.plan(known(), TIGHT)
    assert (plan.variant, plan.verdict) == ('int8', Verdict.FITS)
    assert both.revise(plan, known(), now, 0.75) is plan
    for variant in ('float32', ''):
        other = replace(plan, variant=variant)
        revised = both.revise(other, known(), now, 0.75)
        assert revised.variant == variant and revised.verdict is Verdict.FITS_WITH_EVICTION


# -- plans made again ------------------------------------------------------------------------------------------------

def some_progress(rng, situation, plan):
    """A request that was decoded up to some token of its plan, after which its device may be slower."""
    n = rng.randint(2, max(2, min(plan.length_cap, situation.n_max) - 1))
    return Progress(n, plan.n_keep + n - 1, plan.n_keep, plan.timing_factor * rng.choice([1.0, 1.0, 1.3, 4.0]))


def some_revision(seed, situation, rule, left_s):
    """(planner, first plan, what is known, progress, plan made again with some time left); None: nothing to revise."""
    rng, both = random.Random(seed), planner_of(rule)
    plan = both.plan(situation, left_s)
    if plan.length_cap < 3:
        return None
    situation = replace(situation, n_max=plan.length_cap)  # as the engine does: a cap stays
    now = some_progress(rng, situation, plan)
    steps = both.times_of(plan.variant).steps.scaled(now.factor)
    near_s = steps.decode(now.n_kv, rng.randint(1, situation.n_max - now.n + 1))
    now_left_s = rng.choice([near_s, near_s * rng.uniform(0.8, 1.2), rng.uniform(-0.1, 2.0)])
    return both, plan, situation, now, now_left_s, both.revise(plan, situation, now, now_left_s)


SEEDS = st.integers(0, 2 ** 32)


@often
@given(SEEDS, SITUATIONS, RULES, SECONDS)
def test_no_entry_comes_back_and_none_is_evicted_below_the_floor(seed, situation, rule, left_s):
    case = some_revision(seed, situation, rule, left_s)
    if case is not None:
        _, plan, situation, now, _, revised = case
        assert situation.n_min <= revised.n_keep <= now.n_keep == plan.n_keep
        assert revised.n_x == situation.n_x and revised.variant == plan.variant
        lower = situation.may_cap and isinstance(rule, QualityRule)  # on a slower device
        assert revised.length_cap == plan.length_cap or lower and now.n <= revised.length_cap < plan.length_cap


@often
@given(SEEDS, SITUATIONS, SECONDS)
def test_by_the_papers_rule_an_infeasible_rest_leaves_the_cache_alone(seed, situation, left_s):
    case = some_revision(seed, situation, PaperRule(), left_s)
    if case is not None:
        _, _, _, now, _, revised = case
        assert revised.verdict is not Verdict.INFEASIBLE or revised.n_keep == now.n_keep


@often
@given(SEEDS, SITUATIONS, RULES, SECONDS)
def test_a_promise_that_still_holds_is_returned_as_the_same_object(seed, situation, rule, left_s):
    case = some_revision(seed, situation, rule, left_s)
    if case is not None:
        both, plan, situation, now, left_s, revised = case
        bounds = situation.bounds
        steps = both.times_of(plan.variant).steps.scaled(now.factor * bounds.time_bound)
        n_w = bounds.length.pessimistic(situation.distribution, situation.n_max, now.n)
        holds = solver.fits(steps, now.n_kv, n_w - now.n + 1, left_s - bounds.reserve_s)
        assert not (holds and plan.verdict.is_promise) or revised is plan
        # The other way round: a promise is made again only where it holds.
        assert not revised.verdict.is_promise or holds or revised.n_keep < now.n_keep


@often
@given(SEEDS, SITUATIONS, RULES, SECONDS)
def test_a_plan_made_again_at_once_stays(seed, situation, rule, left_s):
    """Where nothing was to be evicted, the second look finds nothing new."""
    case = some_revision(seed, situation, rule, left_s)
    if case is not None:
        both, _, situation, now, left_s, revised = case
        if revised.n_keep == now.n_keep:
            assert both.revise(revised, situation, now, left_s) is revised


@pytest.mark.parametrize(('rule', 'module'), [(PaperRule(), paper_rule), (BY_STEEP, quality_rule)])
def test_while_the_promise_holds_nothing_more_is_computed(rule, module, monkeypatch):
    one = planner_of(rule)
    plan = one.plan(known(), 1.5)
    assert plan.verdict is Verdict.FITS
    monkeypatch.setattr(module, 'solver', SimpleNamespace(fits=solver.fits))  # no `solve`
    monkeypatch.setattr(quality_rule, '_Case', None)
    assert one.revise(plan, known(), Progress(10, 1009, 1000, 1.0), 1.3) is plan


@pytest.mark.parametrize(('factor', 'verdict', 'n_keep'), [
    (1.0, Verdict.FITS, 1000),
    (1.3, Verdict.FITS_WITH_EVICTION, 808),  # 50 steps over 817 entries and more take 0.92 s, times 1.3
    (2.0, Verdict.FITS_WITH_EVICTION, 162),
    (3.0, Verdict.AT_RISK, 1000),  # the 10 steps to N_hat fit over the whole cache, and N_W fits over none
    (20.0, Verdict.INFEASIBLE, 1000),
])
def test_the_slower_the_device_the_more_is_evicted_and_in_vain_nothing(factor, verdict, n_keep):
    """A promise of 60 tokens, of which 10 have come, with 1.2 s left."""
    one = planner_of(variants=['float32'])
    plan = one.plan(known(), 1.5)
    revised = one.revise(plan, known(), Progress(10, 1009, 1000, factor), 1.2)
    assert (revised.verdict, revised.n_keep) == (verdict, n_keep)
    assert (revised is plan) == (verdict is Verdict.FITS)
    if verdict is Verdict.FITS_WITH_EVICTION:
        rest_s = FLOAT32.decode(revised.n_keep + 9, 51) * factor + TIMES.eviction(1009) * factor
        assert revised.decode_wcet_s == pytest.approx(rest_s) and rest_s <= 1.2
        assert (revised.timing_factor, revised.pessimistic_tokens) == (factor, 60)


def test_evictions_follow_each_other_down_to_the_floor():
    """A device that gets slower and slower: each plan keeps no more than the one before, and at least n_min."""
    one, situation = planner_of(variants=['float32']), known(n_min=300)
    plan = one.plan(situation, 1.5)
    kept, left_s, seen = plan.n_keep, 1.3, []
    for n in range(5, 60, 5):
        factor = 1.0 + n / 25
        plan = one.revise(plan, situation, Progress(n, kept + n - 1, kept, factor), left_s)
        assert 300 <= plan.n_keep <= kept
        kept = plan.n_keep
        seen.append((plan.verdict, kept))
        left_s -= FLOAT32(kept + n) * factor * 5 / 2
    assert len({n_keep for _, n_keep in seen}) > 3


@pytest.mark.parametrize(('rule', 'n_keep'), [(None, 494), (QualityRule(CLIFF, min_kept=50), 1000)])
def test_an_answer_that_will_be_cut_is_evicted_for_where_that_is_worth_it_and_by_the_papers_rule(rule, n_keep):
    """N_hat is 60 once 20 tokens have come, and N_W is 100: of these, only N_hat fits into 0.6 s, with eviction."""
    one, situation = planner_of(rule, variants=['float32']), known(n_max=100, bounds=Bounds(FixedFactor(5.0)))
    plan = one.plan(situation, 0.9)
    assert (plan.verdict, plan.n_keep) == (Verdict.AT_RISK, 1000)
    revised = one.revise(plan, situation, Progress(21, 1020, 1000, 1.0), 0.6)
    assert (revised.verdict, revised.n_keep) == (Verdict.AT_RISK, n_keep)


def test_an_answer_that_grows_beyond_its_prediction_is_planned_longer():
    one = planner_of(variants=['float32'])
    situation = known(bounds=Bounds(FixedFactor(1.0)))
    plan = one.plan(situation, 0.6)
    assert (plan.predicted_tokens, plan.pessimistic_tokens, plan.verdict) == (20, 20, Verdict.FITS)
    assert one.revise(plan, situation, Progress(10, 1009, 1000, 1.0), 0.4) is plan
    longer = one.revise(plan, situation, Progress(20, 1019, 1000, 1.0), 0.4)
    assert (longer.predicted_tokens, longer.pessimistic_tokens, longer.verdict) == (60, 60, Verdict.INFEASIBLE)
    assert 20 <= longer.fitting_tokens < 60, 'counted from the start of the answer'
