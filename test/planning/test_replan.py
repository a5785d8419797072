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

"""Plans made again while decoding: on a device that slows down, for an answer that grows longer than predicted."""
from dataclasses import replace
from types import SimpleNamespace

import pytest
from engine_bench import N_X, Bench
from mock_model import TIMES

from timebill_ros.codes import ErrorCode, FinishReason, Strategy, Verdict
from timebill_ros.deadline import Deadline
from timebill_ros.inference.control import Control
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.planning import paper_rule, solver
from timebill_ros.planning.quality_rule import QualityRule
from timebill_ros.planning.quality_table import QualityTable
from timebill_ros.planning.replan import Replanner
from timebill_ros.planning.tracker import Tracker
from timebill_ros.request import Plan, Timing
from timebill_ros.timing.step_time import StepTime

LONG = bytes(97 + i % 26 for i in range(80))  # 80 tokens, then the end of text
TIGHT = 1.65  # 81 tokens take 1.57 s with the whole cache, prefill 0.11 s


class SlowingBench(Bench):
    """A model whose device slows down by `slow` after `at` steps."""

    def __init__(self, *, slow=1.0, at=10, replan_tokens=16, predicted=81, **options):
        super().__init__(predictions=dict(length=predicted), answer=LONG, on_step=self._on_step, factor=1.0, **options)
        self.engine.replan_tokens = replan_tokens
        self.slow, self.at, self.evicted = slow, at, []
        self.model.on_evict = self.evicted.append

    def _on_step(self, n):
        if n == self.at:
            self.model.slowness = self.slow


def test_a_device_that_slows_down_is_evicted_for_and_the_answer_ends_in_time():
    still = SlowingBench(slow=1.6, replan_tokens=0)
    cut = still.run(2.0)
    assert cut.finish_reason is FinishReason.DEADLINE and cut.timing.verdict.is_promise and still.evicted == []
    bench = SlowingBench(slow=1.6)
    outcome = bench.run(2.0)
    assert outcome.finish_reason is FinishReason.EOS and bench.lateness_s <= 0
    assert outcome.text == LONG.decode() and outcome.timing.verdict is Verdict.FITS, 'the promise is the first plan'
    assert bench.evicted and bench.evicted == sorted(bench.evicted, reverse=True) and bench.evicted[-1] >= 50
    assert outcome.timing.kept_tokens == bench.evicted[-1]
    assert outcome.timing.eviction_ratio == pytest.approx(1 - bench.evicted[-1] / N_X)
    assert outcome.timing.eviction_s > 0
    plan, timing = bench.control.revised
    assert plan.verdict is Verdict.FITS_WITH_EVICTION and plan.n_keep == bench.evicted[-1]
    assert timing.generated_tokens % 16 == 0 and timing.verdict is plan.verdict
    assert bench.model.positions == list(range(N_X, N_X + len(bench.model.positions))), 'positions go on'


def test_an_answer_longer_than_predicted_is_evicted_for():
    bench = SlowingBench(predicted=20, replan_tokens=16)
    outcome = bench.run(1.45)
    assert outcome.finish_reason is FinishReason.DEADLINE or outcome.timing.kept_tokens < N_X
    assert bench.control.revised is not None and bench.control.revised[0].pessimistic_tokens > 20


def test_a_look_that_knows_the_length_better_evicts_sooner_and_the_answer_ends_in_time():
    def evicts_after(length):
        bench = SlowingBench(predicted=20, replan_tokens=16)
        looks = []
        if length:
            bench.engine.lengths.while_decoding = lambda expected, model: lambda n: (
                looks.append(n), LengthDistribution.point(length))[1]
        outcome = bench.run(1.45)
        calls = bench.model.calls
        return outcome, calls[:calls.index('evict')].count('step') + 1 if 'evict' in calls else None, looks

    outcome, n, looks = evicts_after(81)
    assert (n, outcome.finish_reason, looks[:2]) == (16, FinishReason.EOS, [16, 32])
    assert outcome.timing.predicted_tokens == 20, 'the first plan is what is told'
    _, without, _ = evicts_after(None)
    assert without is None or without > 16


def test_never_below_the_floor_and_where_that_does_not_help_the_cache_is_left_alone_and_it_is_said():
    bench = SlowingBench(slow=5.0, at=1, replan_tokens=8)
    outcome = bench.run(2.0)
    assert outcome.finish_reason is FinishReason.DEADLINE and bench.lateness_s <= 1e-9
    assert bench.evicted == [], 'cut anyway, it had better see all it can'
    plan, timing = bench.control.revised
    assert plan.verdict is Verdict.INFEASIBLE and timing.wcet_s > 2.0
    assert outcome.timing.verdict is Verdict.FITS
    limited = SlowingBench(slow=1.6)
    limited.run(2.0, max_eviction_ratio=0.3)
    assert all(n_keep >= 700 for n_keep in limited.evicted)


@pytest.mark.parametrize(('drop', 'code'), [('never', ErrorCode.DEADLINE_MISSED), ('kill', ErrorCode.INFEASIBLE)])
def test_a_goal_that_becomes_infeasible_while_it_is_decoded_ends_early_where_asked(drop, code):
    bench = SlowingBench(slow=5.0, at=1, replan_tokens=8)
    bench.engine.drop_infeasible = drop
    seen = []
    bench.engine.tracker.observe = seen.append
    outcome = bench.run(2.0, strategy=Strategy.KILL)
    assert (outcome.error_code, outcome.text) == (code, '')
    assert outcome.timing.verdict is Verdict.FITS and seen[0].kept is False, 'a missed promise'
    assert (bench.lateness_s < -0.5) == (drop == 'kill')


@pytest.mark.parametrize('slow', [1.5, 3.0, 5.0])
def test_by_quality_an_answer_that_would_be_lost_is_capped_on_a_device_that_slows_down(slow):
    bench = SlowingBench(slow=slow, at=1, replan_tokens=8)
    bench.engine.drop_infeasible = 'kill'
    cliff = QualityTable({'float32': ((0.0, 1.0), (0.05, 0.1), (0.95, 0.0))}, ((0.0, 0.0), (1.0, 1.0)))
    bench.engine.planner.rule = QualityRule(cliff, 0.9, 50)
    outcome = bench.run(2.0, strategy=Strategy.KILL)
    assert (outcome.error_code, outcome.finish_reason) == (ErrorCode.NONE, FinishReason.CAPPED)
    assert outcome.text and LONG.decode().startswith(outcome.text) and bench.lateness_s <= 0 and not bench.evicted
    assert outcome.timing.verdict is Verdict.FITS, 'the promise is the first plan'


def test_a_device_that_keeps_its_times_is_left_alone():
    bench = SlowingBench()
    outcome = bench.run(2.0)
    assert outcome.finish_reason is FinishReason.EOS and bench.evicted == [] and bench.control.revised is None


def test_with_a_quality_table_the_cache_of_an_answer_that_will_be_cut_is_left_as_it_was_chosen():
    def table(*curve):
        return QualityTable({'float32': curve}, ((0.0, 0.0), (1.0, 1.0)))
    bench = SlowingBench(predicted=40, slow=1.5, replan_tokens=8)
    bench.engine.tracker = Tracker('fixed', k=3.0)
    bench.engine.planner.rule = QualityRule(table((0.0, 1.0), (0.05, 0.1), (0.95, 0.0)), 0.5, 50)
    outcome = bench.run(1.1)
    assert not outcome.timing.verdict.is_promise and outcome.finish_reason is FinishReason.DEADLINE
    assert bench.evicted == [] and outcome.timing.kept_tokens == N_X
    paper = SlowingBench(predicted=40, slow=1.5, replan_tokens=8)
    paper.engine.tracker = Tracker('fixed', k=3.0)
    paper.run(1.1)
    assert paper.evicted, 'without one it would have been evicted'
    promised = SlowingBench(slow=1.3)
    promised.engine.planner.rule = QualityRule(table((0.0, 1.0), (0.95, 0.1)), 0.2, 50)
    outcome = promised.run(2.0)
    assert outcome.timing.verdict.is_promise and outcome.finish_reason is FinishReason.EOS and promised.evicted, \
        'a promise is still kept'


@pytest.mark.parametrize('slow', [1.0, 1.2, 1.6, 5.0])
@pytest.mark.parametrize('budget_s', [1.3, TIGHT, 2.0])
@pytest.mark.parametrize('predicted', [20, 81])
def test_the_short_way_where_a_promise_still_holds_decides_as_the_whole_plan(slow, budget_s, predicted, monkeypatch):
    def run():
        bench = SlowingBench(slow=slow, predicted=predicted, replan_tokens=8)
        outcome = bench.run(budget_s)
        return outcome, bench.evicted, bench.control.revised

    short = run()
    monkeypatch.setattr(paper_rule, 'solver', SimpleNamespace(fits=lambda *_: False, solve=solver.solve))
    assert run() == short


def test_single_slow_steps_cost_no_cache_entries():
    bench = SlowingBench(replan_tokens=4)

    def hiccup(n):
        bench.clock.now += 0.1 if n % 16 == 3 else 0.0  # right before the plan is made again
    bench.model.on_step = hiccup
    assert bench.run(2.6).finish_reason is FinishReason.EOS and bench.evicted == []


def test_what_a_later_eviction_costs_is_part_of_what_was_estimated():
    """The timing factor is relative to the profile's time for the request as it went, evictions included."""
    bench = SlowingBench(slow=1.6, at=1)
    bench.run(2.0)
    assert bench.evicted
    ratio = bench.engine.tracker.steps.state()['greedy'][-1][-1]
    assert ratio == pytest.approx(1.6, rel=1e-6), 'every eviction once, every step over the cache that it saw'


def test_the_timing_factor_makes_the_next_plans_longer_and_the_status_says_so():
    bench = SlowingBench(slow=1.5, at=1)
    for _ in range(6):
        outcome = bench.run(10.0)
    assert bench.engine.tracker.timing_factor == pytest.approx(1.5, rel=0.03)
    assert bench.plans[0].timing_factor == pytest.approx(1.5, rel=0.03)
    slow = TIMES.steps.scaled(1.5).decode(N_X, 81)
    assert bench.plans[0].decode_wcet_s == pytest.approx(slow, rel=0.03)
    assert outcome.timing.wcet_s == pytest.approx(outcome.timing.prefill_s + slow, rel=0.05)
    plan, *_ = bench.engine.estimate(bench.request(10.0))
    assert plan.decode_wcet_s == pytest.approx(slow, rel=0.03)


@pytest.mark.parametrize('strategy', [Strategy.KILL, Strategy.TRUNCATE])
def test_every_budget_is_kept_with_plans_made_again(strategy):
    for hundredths in range(30, 250, 7):
        for slow in (1.0, 1.5, 3.0):
            bench = SlowingBench(slow=slow, replan_tokens=5)
            outcome = bench.run(hundredths / 100, strategy=strategy)
            assert bench.lateness_s <= 0.021 * slow
            assert outcome.timing.kept_tokens >= 50


def test_the_worst_case_that_is_told_leaves_out_the_time_for_which_others_ran():
    plan = Plan(Verdict.FITS, 10, 10, 0.0, 20, 5, 8, 9, decode_wcet_s=2.0, decode_expected_s=1.0)
    planner = SimpleNamespace(times_of=lambda *kind: SimpleNamespace(steps=StepTime(0.0, 0.01)),
                              revise=lambda plan, *known: replace(plan, decode_wcet_s=3.0))
    known = SimpleNamespace(look_tokens=8, sampling='greedy', bounds=SimpleNamespace(timing_factor=1.0))
    control = Control(Deadline(100.0, lambda: 20.0))
    look = Replanner(None, planner, known, plan=plan, timing=Timing(prompt_tokens=10, kept_tokens=10, paused_s=12.0),
                     control=control, started_s=5.0, evictions=SimpleNamespace(most=0))
    assert look(8, 17, 0.01) == 17
    assert control.revised[1].wcet_s == 20.0 - 5.0 - 12.0 + 3.0
