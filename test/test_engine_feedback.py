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

"""What the engine tells the tracker about a request: what was measured, and what the profile says of the same work."""
import dataclasses

import pytest
from engine_bench import ANSWER, N_X, Bench
from mock_model import TIMES

from timebill_ros.codes import ErrorCode, FinishReason, Strategy, Verdict
from timebill_ros.engine import Engine
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.planning.tracker import Tracker
from timebill_ros.request import Sampling


def told(bench):
    seen = []
    bench.engine.tracker.observe = seen.append
    return seen


@pytest.mark.parametrize('slowness', [1.0, 1.4])
@pytest.mark.parametrize(('budget_s', 'verdict'), [(10.0, Verdict.FITS), (0.70, Verdict.FITS_WITH_EVICTION)])
def test_decoding_is_timed_from_the_plan_to_the_end_and_set_against_the_same_work(slowness, budget_s, verdict):
    bench = Bench(predictions={}, slowness=slowness)
    seen = told(bench)
    timing = bench.run(budget_s + (slowness - 1) * TIMES.prefill(N_X)).timing
    lesson, = seen
    assert timing.verdict is verdict and lesson.ended == lesson.kept == (timing.generated_tokens > len(ANSWER))
    work_s = TIMES.steps.decode(timing.kept_tokens, timing.generated_tokens)
    work_s += TIMES.eviction(N_X) if verdict is Verdict.FITS_WITH_EVICTION else 0.0
    assert lesson.decode_profiled_s == pytest.approx(work_s) and lesson.decode_s == pytest.approx(slowness * work_s)
    assert lesson.prefill_profiled_s == pytest.approx(TIMES.prefill(N_X))
    assert lesson.prefill_s == pytest.approx(slowness * TIMES.prefill(N_X))
    assert (lesson.generated_tokens, lesson.max_tokens) == (timing.generated_tokens, 256)


def test_prefill_teaches_also_where_the_goal_is_dropped_after_it():
    bench = Bench(predictions={}, slowness=1.2)
    bench.engine.drop_infeasible = 'all'
    outcome = bench.run(0.25)
    assert outcome.timing.verdict is Verdict.INFEASIBLE and outcome.timing.generated_tokens == 0
    assert bench.engine.tracker.prefill.state()[-1][-1] == pytest.approx(1.2)


def test_prefill_teaches_also_where_the_deadline_cuts_it():
    """Otherwise a device that is slower than any budget would never be known to be."""
    bench = Bench(predictions={}, slowness=20.0)
    for _ in range(2):
        assert bench.run(0.3).finish_reason is not FinishReason.EOS and 'step' not in bench.model.calls
    assert bench.engine.tracker.prefill_factor > 2.0
    assert bench.run(0.2).error_code is ErrorCode.INFEASIBLE


def test_no_goal_is_refused_for_a_prefill_that_is_as_quick_as_one_of_the_last():
    bench = Bench(predictions={})
    for slowness in (2.0, 1.0, 2.0):
        bench.model.slowness = slowness
        bench.run(100.0)
    assert bench.engine.tracker.prefill_factor == pytest.approx(2.0)
    bench.model.slowness = 1.0
    outcome = bench.run(1.9 * TIMES.prefill(N_X), strategy=Strategy.TRUNCATE)
    assert not outcome.error_code and outcome.timing.generated_tokens > 0


@pytest.mark.parametrize('goal', [
    dict(strategy=Strategy.KILL), dict(n_x=3500), dict(strategy=Strategy.KILL, n_x=3500), dict(n_x=50)])
def test_stalls_do_not_refuse_the_goals_that_come_after_them(goal):
    """Six goals on a worker that is stopped and continued, then goals of twice the time that they take."""
    n_x = goal.get('n_x', N_X)
    budget_s = 2 * (TIMES.prefill(n_x) + TIMES.steps.decode(n_x, len(ANSWER) + 1))
    if n_x > 3000:
        budget_s = 2 * TIMES.prefill(n_x)  # mostly reading
    bench = Bench(predictions={}, slowness=15.0)
    bench.engine.drop_infeasible = 'kill'
    for _ in range(6):
        bench.run(100.0, **goal)
    assert bench.engine.tracker.timing_factor == pytest.approx(15.0)
    bench.model.slowness = 1.0
    codes = [bench.run(budget_s, **goal).error_code for _ in range(90)]
    assert codes.count(ErrorCode.INFEASIBLE) <= 5 and ErrorCode.INFEASIBLE not in codes[5:]


def test_a_refused_goal_that_nothing_learned_refuses_makes_nothing_less_sure():
    bench = Bench(predictions={}, slowness=2.0)
    bench.engine.drop_infeasible = 'kill'
    for _ in range(6):
        bench.run(100.0, strategy=Strategy.KILL)
    for budget_s in (0.1, 0.3):  # as profiled, not even the prompt could be read; the predicted answer would not fit
        for _ in range(20):
            assert bench.run(budget_s, strategy=Strategy.KILL).error_code is ErrorCode.INFEASIBLE
    assert bench.engine.tracker.timing_factor == pytest.approx(2.0)
    assert bench.engine.tracker.prefill_factor == pytest.approx(2.0)


def sampling_bench(**draws):
    """A bench whose profile knows what draws take, and whose steps take as much longer as `bench.draw_s` says."""
    bench = Bench(predictions={}, on_step=lambda n: bench.model._work(bench.draw_s))
    times = dataclasses.replace(TIMES, draws={'greedy': 0.001, **draws})
    bench.engine = Engine(bench.model, bench.predictions, times, Tracker('fixed', k=2.0), prefill_chunk_tokens=100,
                          clock=bench.clock)
    return bench


def run_sampled(bench, budget_s=10.0):
    """Run one goal at a temperature so low that it answers as a greedy one does."""
    return bench.run(budget_s, sampling=Sampling(temperature=1e-4, top_p=0.9))


def test_what_drawing_takes_is_in_estimates_plans_and_lessons():
    bench = sampling_bench(top_p=0.011)
    estimate = {kind: bench.engine.estimate(bench.request(10.0, sampling=sampling))[0]
                for kind, sampling in (('greedy', Sampling()), ('top_p', Sampling(temperature=1e-4, top_p=0.9)))}
    drawn_s = 0.01 * (estimate['top_p'].predicted_tokens - 1)
    assert estimate['top_p'].decode_expected_s == pytest.approx(estimate['greedy'].decode_expected_s + drawn_s)
    for budget_s in (10.0, 0.95):
        bench.draw_s = 0.01
        outcome = run_sampled(bench, budget_s)
        assert outcome.timing.verdict.is_promise and outcome.finish_reason is FinishReason.EOS
        sampled_kept = outcome.timing.kept_tokens
        bench.draw_s = 0.0
        assert bench.run(budget_s).timing.kept_tokens >= sampled_kept
    assert sampled_kept < N_X, 'a sampled goal of the tighter budget must evict more'
    assert bench.engine.tracker.bounds('top_p').timing_factor == pytest.approx(1.0)
    assert bench.engine.tracker.bounds('greedy').timing_factor == pytest.approx(1.0)


def test_greedy_and_sampled_goals_do_not_spoil_each_others_timing_factors():
    """The profile foretells nothing of this kind's draws, which take twice as long as a step."""
    bench = sampling_bench()
    for _ in range(12):
        bench.draw_s = 0.04
        run_sampled(bench)
        bench.draw_s = 0.0
        bench.run(10.0)
    factor = bench.engine.tracker.bounds('top_p').timing_factor
    assert factor == pytest.approx(3.0, rel=0.05)
    assert bench.engine.tracker.bounds('greedy').timing_factor == pytest.approx(1.0)
    bench.draw_s = 0.0
    assert bench.run(0.95).timing.verdict is Verdict.FITS, 'as before the sampled ones'
    bench.draw_s = 0.04
    assert run_sampled(bench, 0.95).timing.verdict is not Verdict.FITS


@pytest.mark.parametrize(('budget_s', 'canceled', 'slowness', 'kept'), [
    (10.0, False, 1.0, True), (0.70, False, 1.4, False), (10.0, True, 1.0, None), (0.50, False, 1.0, None)],
    ids=['kept', 'missed', 'canceled', 'not promised'])
def test_what_became_of_a_promise(budget_s, canceled, slowness, kept):
    bench = Bench(predictions={}, slowness=slowness,
                  on_step=lambda i: setattr(bench.control, 'canceled', canceled and i >= 4))
    seen = told(bench)
    outcome = bench.run(budget_s + (slowness - 1) * TIMES.prefill(N_X))
    assert seen[0].kept is kept
    assert outcome.timing.verdict.is_promise == (budget_s != 0.50)


@pytest.mark.parametrize(('left_s', 'kept'), [(0.04, False), (0.2, None)])
def test_a_promise_is_missed_where_the_node_ends_a_goal_that_stalls(left_s, kept):
    """It does so half of the delivery margin before the deadline; a cancel before that margin is the client's."""
    def stalls(i):
        if i == 4:
            bench.clock.now, bench.control.canceled = bench.control.deadline.at_s - left_s, True

    bench = Bench(predictions={}, on_step=stalls)
    seen = told(bench)
    outcome = bench.run(10.0, delivery_margin_s=0.1)
    assert outcome.timing.verdict.is_promise and outcome.finish_reason is FinishReason.CANCELED
    assert seen[0].kept is kept and not seen[0].ended


def test_a_promise_is_missed_by_a_whole_answer_that_comes_late():
    """SKIP_NEXT lets it go on after the deadline."""
    bench = Bench(predictions={}, slowness=1.4)
    seen = told(bench)
    outcome = bench.run(0.70 + 0.4 * TIMES.prefill(N_X), strategy=Strategy.SKIP_NEXT, max_overrun_s=5.0)
    assert outcome.timing.verdict.is_promise and outcome.finish_reason is FinishReason.EOS and bench.lateness_s > 0
    assert seen[0].ended and seen[0].kept is False


def test_an_answer_shows_the_level_after_it_is_out_whether_it_was_promised_or_not():
    bench = Bench(predictions={'distribution': LengthDistribution(10, [0.0, 0.0, 0.0, 0.999, 0.001])})
    bench.engine.tracker = Tracker(scores=[0.1] * 80 + [50.0] * 20)
    needed_s = TIMES.prefill(N_X) + TIMES.steps.decode(N_X, len(ANSWER) + 1)
    outcome = bench.run(1.6 * needed_s)
    assert outcome.finish_reason is FinishReason.EOS and outcome.timing.verdict is Verdict.AT_RISK
    assert bench.engine.tracker.shown.state() == []
    bench.engine.tracker.settle()
    (_, _, _, (level, in_time)), = bench.engine.tracker.shown.state()
    assert in_time and level > bench.engine.tracker.level.value
    bench.model.slowness = 3.0
    assert bench.run(1.6 * needed_s).finish_reason is FinishReason.DEADLINE
    bench.engine.tracker.settle()
    assert [seen[3][1] for seen in bench.engine.tracker.shown.state()][1:] in ([], [False])


def test_a_goal_that_the_client_takes_back_shows_nothing_of_the_level():
    def canceled(n):
        bench.control.canceled = True

    bench = Bench(predictions={}, on_step=canceled)
    bench.engine.tracker = Tracker(scores=[0.1] * 80 + [50.0] * 20)
    assert bench.run().finish_reason is FinishReason.CANCELED
    bench.engine.tracker.settle()
    assert bench.engine.tracker.shown.state() == []
