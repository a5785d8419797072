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

"""Entries that were evicted come back while a request is decoded, where its time turns out to suffice for them."""
from dataclasses import replace
from types import SimpleNamespace

import pytest
from engine_bench import N_X, Bench
from mock_model import TIMES, FakeClock
from test_engine_giving_way import Interrupted, engine_of, request  # noqa: F401 - a fixture

from timebill_ros.codes import ErrorCode, FinishReason, Verdict
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.snapshot import Snapshot
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.planning.paper_rule import PaperRule
from timebill_ros.planning.planner import Planner
from timebill_ros.planning.quality_rule import QualityRule
from timebill_ros.planning.quality_table import QualityTable
from timebill_ros.planning.tracker import Tracker
from timebill_ros.timing.execution_time import ExecutionTimes

LONG = bytes(97 + i % 26 for i in range(160))  # 160 tokens, then the end of text
LINE = QualityTable({'float32': ((0.0, 1.0), (1.0, 0.0))}, ((0.0, 0.0), (1.0, 1.0)))  # quality is what is kept
CONCAVE = QualityTable({'float32': ((0.0, 1.0), (0.5, 0.9), (1.0, 0.0))}, ((0.0, 0.0), (1.0, 1.0)))
RETURNING = replace(TIMES, r_1=1e-6, r_0=1e-3)  # all 1,000 entries come back in 2 ms


class Store:
    """In the place of a PrefixStore that knows nothing: it holds prompts, and bringing entries back takes its time."""

    turns = None

    def __init__(self, model):
        self.model, self.holds = model, []
        self.known = self.take = self.put = lambda ids: 0

    def hold(self, ids):
        self.holds.append(held := SimpleNamespace(stays=True, scores=[]))
        return held

    def let_go(self, held):
        self.holds.remove(held)

    def bring_back(self, held, n_keep, n_prompt):
        assert held in self.holds and n_prompt < n_keep <= N_X
        model = self.model
        model.n_kv += n_keep - n_prompt
        model.kept.append(n_keep)
        model.clock.now += model.slowness * RETURNING.restore(model.n_kv)


class ReturningBench(Bench):
    """A model whose evictions are reversible, on a device that is `slow` times as slow from step `at` to `until`."""

    def __init__(self, times=RETURNING, rule=None, slow=1.0, at=1, until=100, predicted=161, stored=True, **options):
        super().__init__(predictions=dict(length=predicted), answer=LONG, on_step=self._on_step, factor=1.0, **options)
        engine, model = self.engine, self.model
        engine.times, engine.planner = times, Planner(times, ['float32'], rule or QualityRule(CONCAVE, 0.3, 50))
        engine.replan_tokens = 16
        self.speeds, model.kept, self.read = {at: slow, until: 1.0}, [], []
        model.prefixes = Store(model) if stored else None
        evict = model.evict
        model.evict = lambda n_keep, told=None: (model.kept.append(n_keep), evict(n_keep))
        model.snapshot = lambda states: Snapshot([], {}, model.n_prompt)
        model.restore = lambda beside: setattr(model, 'n_prompt', beside.n_prompt)

    def _on_step(self, n):
        self.model.slowness = self.speeds.get(n, self.model.slowness)
        self.read.append(self.model.n_prompt)  # entries of the prompt that this token was written over

    @property
    def score(self):
        """The quality of the text: of each of its tokens, that of what it was written over."""
        return sum(CONCAVE.of('float32', 1 - n / N_X) for n in self.read) / len(LONG)


TIGHT, SLOW = 3.9, 1.4  # seconds; 161 tokens take 3.33 s over the whole cache, prefill 0.11 s


def shorter_after(n_then, *, first, then):
    """What a look expects of the whole length, before and after `n_then` tokens."""
    return lambda expected, model: lambda n: LengthDistribution.point(first if n < n_then else then)


def test_after_a_slow_time_entries_come_back_and_the_promise_is_kept():
    plain, bench = ReturningBench(TIMES, slow=SLOW), ReturningBench(slow=SLOW)
    in_place, outcome = plain.run(TIGHT), bench.run(TIGHT)
    for each, made in ((in_place, plain), (outcome, bench)):
        assert each.finish_reason is FinishReason.EOS and made.lateness_s <= 0 and each.timing.verdict is Verdict.FITS
        assert each.text == LONG.decode() and made.model.positions == list(range(N_X, N_X + 160))
    evicted, back = plain.model.kept, bench.model.kept
    assert evicted and evicted == sorted(evicted, reverse=True), 'nothing comes back without its cost in the profile'
    assert back[0] == evicted[0] and max(back[1:]) > back[0]
    assert bench.score > plain.score
    assert outcome.timing.kept_tokens == back[-1] and outcome.timing.eviction_s > in_place.timing.eviction_s > 0
    plan, told = bench.control.revised
    assert plan.n_keep == told.kept_tokens == back[-1] and not bench.model.prefixes.holds


def test_what_bringing_back_costs_is_part_of_what_was_estimated():
    """Were it not, the device would seem slower than it is."""
    bench = ReturningBench(slow=2.0, until=1000)
    bench.engine.lengths.while_decoding = shorter_after(40, first=250, then=161)
    bench.run(8.0, max_new_tokens=512)
    assert len(bench.model.kept) > 1 and max(bench.model.kept[1:]) > bench.model.kept[0]
    assert bench.engine.tracker.steps.state()['greedy'][-1][-1] == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize('stored', [True, False])
def test_an_answer_that_turns_out_shorter_than_feared_reads_the_whole_prompt_again(stored):
    bench = ReturningBench(stored=stored)
    bench.engine.lengths.while_decoding = shorter_after(40, first=300, then=161)
    outcome = bench.run(5.2, max_new_tokens=512)
    assert outcome.finish_reason is FinishReason.EOS and bench.lateness_s <= 0
    assert bench.model.kept[0] < N_X and (bench.model.kept[-1] == N_X) == stored
    assert outcome.timing.eviction_ratio == (0.0 if stored else pytest.approx(1 - bench.model.kept[-1] / N_X))
    assert outcome.timing.eviction_s > 0, 'which tells that a part was written over less'


def test_the_papers_rule_brings_nothing_back_and_holds_nothing():
    bench = ReturningBench(rule=PaperRule(), slow=SLOW)
    bench.model.prefixes.hold = None  # it would fail
    outcome = bench.run(TIGHT)
    assert bench.model.kept and bench.model.kept == sorted(bench.model.kept, reverse=True)
    assert outcome.timing.kept_tokens == bench.model.kept[-1]


def test_where_nothing_is_evicted_nothing_is_held():
    bench = ReturningBench()
    bench.model.prefixes.hold = None
    assert bench.run(8.0).finish_reason is FinishReason.EOS and not bench.model.kept


@pytest.mark.parametrize('slow', [1.0, 1.3, 2.0, 4.0])
@pytest.mark.parametrize('until', [30, 80])
def test_no_promise_is_lost_by_what_comes_back_nor_any_quality(slow, until):
    """On a device that is slow for a while; whatever the budget, and beside the same request without returns."""
    for budget_s in (2.0, 3.0, 3.5, 3.9, 4.3, 5.0):
        plain, bench = (ReturningBench(times, slow=slow, at=20, until=until) for times in (TIMES, RETURNING))
        in_place, outcome = plain.run(budget_s), bench.run(budget_s)
        assert bench.lateness_s <= 0.041 * slow and not bench.model.prefixes.holds
        assert outcome.finish_reason is FinishReason.EOS or in_place.finish_reason is not FinishReason.EOS
        assert bench.score >= plain.score - 1e-9


@pytest.mark.parametrize('at', ['canceled', 'failed'])
def test_a_goal_that_ends_early_holds_nothing_any_more(at):
    bench = ReturningBench(slow=SLOW)
    step = bench.model.on_step

    def ends(n):
        step(n)
        if n == 55:
            assert bench.model.prefixes.holds
            if at == 'failed':
                raise RuntimeError('a bug')
            bench.control.canceled = True
    bench.model.on_step = ends
    outcome = bench.run(TIGHT)
    assert outcome.error_code is (ErrorCode.CANCELED if at == 'canceled' else ErrorCode.UNKNOWN)
    assert not bench.model.prefixes.holds


# -- on small real models, on the real clock ---------------------------------------------------------------------------

# By this profile 24 tokens over the whole prompt take 102 s, and 75 s are there: 70 entries are kept. In truth steps
# take no time, so that at each look there is more of it than planned.
BY_PROFILE = ExecutionTimes(a=0, b=0, c=0, p=0.04, q=0, r_0=1e-3)
N_PROMPT, BUDGET_S = 100, 75.0


class Ticking(FakeClock):
    """A clock that is not the machine's, so that each run is planned alike."""

    def __call__(self):
        self.now += 1e-6
        return self.now


def returning(engine_of, kind):  # noqa: F811
    """An engine whose times are BY_PROFILE, on a model that has kept nothing yet."""
    return Engine(engine_of(kind).model, None, BY_PROFILE, Tracker('fixed', k=5.0, track_timing=False), clock=Ticking(),
                  rule=QualityRule(LINE, 0.3, 10), replan_tokens=4, prefill_chunk_tokens=64)


def control_of(engine, budget_s=BUDGET_S, **interrupted):
    return Interrupted(Deadline(engine.clock() + budget_s, engine.clock), **interrupted)


def run_on(engine, control, n=N_PROMPT, seed=2, **fields):
    now = engine.clock.now
    asked = replace(request(n, seed), release_s=now, deadline_s=control.deadline.at_s, delivery_margin_s=0.0,
                    **{'max_eviction_ratio': 0.35, **fields})
    return engine.run(asked, control)


def others(engine):
    return lambda: run_on(engine, control_of(engine, 1e4), 90, 3, max_new_tokens=4)


@pytest.mark.parametrize('kind', ['qwen2', 'gemma3', 'qwen2 captured'])
def test_steps_that_were_planned_slow_and_are_quick_bring_entries_back_whatever_interrupts(engine_of, kind):  # noqa: F811
    engine, seen = returning(engine_of, kind), []
    model, store = engine.model, engine.model.prefixes
    whole = run_on(engine, control_of(engine, on_token=lambda n: seen.append((len(store._holds), model._n_prompt))))
    timing = whole.timing
    assert whole.error_code is ErrorCode.NONE and timing.verdict is Verdict.FITS_WITH_EVICTION and not store._holds
    kept = [n for _, n in seen]
    assert kept == sorted(kept) and kept[0] < 72 and kept[-1] == timing.kept_tokens > 90 and len(kept) > 12, seen
    assert {holds for holds, _ in seen} == {1} and timing.eviction_s > 0
    for at in ((3,), (7, 11)):  # where there is a look at the plan in any case, which there is after each pause
        engine = returning(engine_of, kind)
        control = control_of(engine, at=at, then=others(engine))
        outcome = run_on(engine, control)
        assert (outcome.text, outcome.timing.kept_tokens) == (whole.text, timing.kept_tokens)
        assert control.n_pauses == len(at) and not store._holds and not store._lent


def test_a_goal_that_is_canceled_while_it_is_aside_holds_nothing_any_more(engine_of):  # noqa: F811
    engine = returning(engine_of, 'qwen2')
    store = engine.model.prefixes

    def others_run_and_it_is_canceled():
        others(engine)()
        assert len(store._holds) == 1
        control.canceled = True

    control = control_of(engine, at=(2,), then=others_run_and_it_is_canceled)
    assert run_on(engine, control).error_code is ErrorCode.CANCELED
    assert not store._holds and not store._lent
