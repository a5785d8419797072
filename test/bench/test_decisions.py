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

"""Decisions are worked out again as they were, and tell whether others would have had the same effect."""
import math
from dataclasses import replace

import pytest
from mock_model import TIMES, FakeClock, MockModel, MockPredictions

from timebill_ros.bench.decisions import Decision, WatchedPlanner, _factor
from timebill_ros.bench.live_answers import LiveAnswer, answer_live
from timebill_ros.codes import Strategy, Verdict
from timebill_ros.engine import Engine
from timebill_ros.planning.paper_rule import PaperRule
from timebill_ros.planning.planner import Planner
from timebill_ros.planning.quality_rule import QualityRule
from timebill_ros.planning.quality_table import QualityTable
from timebill_ros.planning.situation import Progress, Situation
from timebill_ros.planning.tracker import Tracker
from timebill_ros.tasks.scored_task import ScoredTask

TASK = ScoredTask('1', 'family', [{'role': 'user', 'content': 'x' * 1000}], 100, lambda text: {'score': len(text) / 30})
UNHURRIED_S = TIMES.prefill(1000) + TIMES.steps.decode(1000, 31)
KILL, TRUNCATE, SKIP_NEXT = Strategy.KILL, Strategy.TRUNCATE, Strategy.SKIP_NEXT
TABLE = QualityTable({'float32': ((0.0, 0.17), (0.25, 0.145), (0.5, 0.145), (0.75, 0.086), (0.95, 0.033))},
                     ((0.0, 0.0), (0.1, 0.1), (0.3, 0.27), (0.5, 0.33), (0.8, 0.4), (0.9, 0.87), (1.0, 1.0)))
RULES = {'paper': PaperRule, 'quality': lambda: QualityRule(TABLE)}


class Model(MockModel):
    """It answers its script again for every prompt."""

    def reset(self):
        self.calls.clear()
        super().reset()


def engine_of(rule='paper', *, tracker=None, length=30, **options):
    clock = FakeClock()
    return Engine(Model(clock), MockPredictions(clock, length), TIMES, tracker or Tracker('fixed', k=1.2),
                  rule=RULES[rule](), prefill_chunk_tokens=100, replan_tokens=8, clock=clock, **options)


def run(budget_s, strategy, engine=None, **options):
    return answer_live(engine or engine_of(**options), TASK, budget_s=budget_s, strategy=strategy, margin_s=0.03)


@pytest.mark.parametrize('rule', RULES)
def test_decisions_come_out_again_though_the_rule_for_lengths_has_learned_since(rule):
    tracker = Tracker('adaptive', scores=[i / 20 for i in range(40)])
    engine = engine_of(rule, tracker=tracker)
    for _ in range(3):
        made = run(1.4 * UNHURRIED_S, TRUNCATE, engine).decisions
        plans = made.again(later_s=0.0, may_cap=False)
        assert len(made.made) > 3 and plans == [decision.plan for decision in made.made]
        assert [decision.before is None for decision in made.made] == [True] + [False] * (len(plans) - 1)


def test_where_they_do_not_come_out_again_nothing_is_said():
    made = run(1.4 * UNHURRIED_S, TRUNCATE).decisions
    made.length = Tracker('fixed', k=5.0).length
    assert made.again(later_s=0.0, may_cap=False) is None


@pytest.mark.parametrize('rule', RULES)
def test_with_other_time_they_are_the_same_or_not(rule):
    made = run(3.0 * UNHURRIED_S, TRUNCATE, rule=rule).decisions
    later = made.again(later_s=1.0, may_cap=True)
    assert later is not None and later[0].verdict.is_promise
    little = -2.6 * UNHURRIED_S
    assert made.again(later_s=little, may_cap=True) is None, 'it would be evicted from, or capped'
    cut = made.again(later_s=little, may_cap=False)
    assert (cut is None) is (rule == 'paper'), 'by quality it keeps the whole cache, and is cut'
    assert rule == 'paper' or cut[0].verdict is Verdict.INFEASIBLE


def test_a_plan_that_stays_evicts_nothing_and_one_that_is_made_again_does():
    """As in Replanner; and an eviction that waits has no effect yet."""
    plain = Planner(TIMES, ['float32'])
    watched = WatchedPlanner(plain)
    made = watched.begin(Tracker('fixed', k=1.0).length)
    known = Situation(MockPredictions(FakeClock(), 30).marginal(), 1000, 50, 100, Tracker('fixed', k=1.0).bounds())
    plan = watched.plan(known, 10.0)
    assert watched.revise(plan, known, Progress(8, 1007, 1000, 1.0), 9.0) is plan
    first, stays = made.made
    assert first.effect == stays.effect == (100, 'float32', 0)
    evicting = replace(plan, verdict=Verdict.FITS_WITH_EVICTION, n_keep=500, eviction_ratio=0.5)
    assert replace(first, plan=evicting).effect == replace(stays, plan=evicting).effect == (100, 'float32', 500)
    assert replace(stays, plan=evicting, before=evicting).effect == (100, 'float32', 0)
    waiting = replace(evicting, evict_after=9)
    assert replace(first, plan=waiting).effect == replace(stays, plan=waiting).effect == (100, 'float32', 0)
    assert watched.times_of('') is plain.times_of('')


def test_what_the_last_steps_took_is_known_unless_a_slower_plan_hides_it():
    known = Situation(MockPredictions(FakeClock(), 30).marginal(), 1000, 50, 100, Tracker('fixed', k=1.0).bounds())
    plan = Planner(TIMES, ['float32']).plan(known, 10.0)
    for made_with, measured, other, factor in ((1.0, 1.0, 1.0, 1.0), (1.0, 1.5, 1.2, 1.5), (1.0, 1.0, 1.2, 1.2),
                                               (1.4, 1.5, 1.2, 1.5), (1.4, 1.4, 1.2, None)):
        before = replace(plan, timing_factor=made_with)
        made = Decision(plan, known, 1.0, before, Progress(8, 1007, 1000, measured))
        assert _factor(made, replace(plan, timing_factor=other)) == factor


# -- what a run says of other cases -----------------------------------------------------------------------------------

@pytest.mark.parametrize('rule', RULES)
@pytest.mark.parametrize('strategy', [TRUNCATE, KILL, SKIP_NEXT])
def test_a_whole_answer_holds_with_more_time_under_every_strategy(rule, strategy):
    found = run(3.0 * UNHURRIED_S, strategy, rule=rule)
    for other in (TRUNCATE, KILL, SKIP_NEXT):
        shared = found.under(other, 5.0 * UNHURRIED_S)
        alone = run(5.0 * UNHURRIED_S, other, rule=rule).answer
        assert shared == replace(alone, late_s=shared.late_s) and shared.late_s == pytest.approx(alone.late_s)


def test_a_whole_answer_holds_with_less_time_as_long_as_no_check_would_end_it():
    found = run(3.0 * UNHURRIED_S, TRUNCATE)
    near = 1.25 * UNHURRIED_S
    shared = found.under(KILL, near)
    assert shared == replace(run(near, KILL).answer, late_s=shared.late_s)
    assert found.under(TRUNCATE, UNHURRIED_S) is None and run(UNHURRIED_S, TRUNCATE).answer != found.answer


def test_a_cut_answer_is_lost_under_kill_at_the_same_budget_and_says_nothing_of_others():
    budget = 0.6 * UNHURRIED_S  # enough for what is predicted, before the plan is looked at again
    found = run(budget, TRUNCATE, length=10)
    assert not found.answer.ended and found.answer.text
    shared, alone = found.under(KILL, budget), run(budget, KILL, length=10).answer
    assert shared is not None and shared == replace(alone, late_s=shared.late_s) and shared.error == 'DEADLINE_MISSED'
    assert found.under(KILL, 2 * budget) is None and found.under(SKIP_NEXT, budget) is None
    assert run(budget, KILL, length=10).under(TRUNCATE, budget) is None, 'its text is gone'


def test_a_goal_that_would_be_refused_before_it_is_read_is_not_taken_as_answered():
    engine = engine_of()
    def be_slow():
        for _ in range(20):
            engine.tracker.prefill.observe(12 * TIMES.prefill(1000), TIMES.prefill(1000))

    be_slow()
    near = 1.25 * UNHURRIED_S
    found = run(3.0 * UNHURRIED_S, TRUNCATE, engine)
    be_slow()  # it was quick, and no goal is refused for a prefill that is slower than one of the last
    assert found.answer.ended and found.prefill_estimated_s > near
    assert found.under(TRUNCATE, near) is None and run(near, TRUNCATE, engine).answer.error == 'INFEASIBLE'


def test_a_goal_that_a_plan_would_drop_is_not_taken_as_answered():
    """Under TRUNCATE an answer without hope goes on; drop_infeasible ends it under KILL."""
    budget = 0.5 * UNHURRIED_S
    found = run(budget, TRUNCATE, drop_infeasible='kill')
    assert found.decisions.made[0].plan.verdict.name == 'INFEASIBLE'
    assert found.under(KILL, budget) is None
    assert run(budget, KILL, drop_infeasible='kill').answer.error == 'INFEASIBLE'


def test_the_longest_step_that_the_guard_may_expect_is_known():
    found = run(3.0 * UNHURRIED_S, TRUNCATE)
    assert TIMES.step(1030) <= found.guard_s < 10 * TIMES.step(1030) and math.isfinite(found.prefill_s)
    assert isinstance(found.answer, LiveAnswer)
