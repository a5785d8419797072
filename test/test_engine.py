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

"""The whole flow of one request, on a model that answers a script and a clock that its work moves on."""

import pytest
from engine_bench import ANSWER, GENEROUS, N_X, Bench
from mock_model import TIMES, MockModel

from timebill_ros.codes import ErrorCode, FinishReason, Phase, Strategy, Verdict
from timebill_ros.deadline import Deadline
from timebill_ros.inference.control import Control
from timebill_ros.request import Sampling

# -- budgets ---------------------------------------------------------------------------------------------------------

# Seconds -> verdict and end. The prediction is 20 tokens, so N_W is 40; 30 come.
BUDGETS = {
    GENEROUS: (Verdict.FITS, FinishReason.EOS),
    0.95: (Verdict.FITS, FinishReason.EOS),
    0.70: (Verdict.FITS_WITH_EVICTION, FinishReason.EOS),
    0.55: (Verdict.FITS_WITH_EVICTION, FinishReason.EOS),
    0.45: (Verdict.AT_RISK, FinishReason.DEADLINE),
    0.25: (Verdict.INFEASIBLE, FinishReason.DEADLINE),
}


@pytest.mark.parametrize('budget_s', BUDGETS)
@pytest.mark.parametrize('margin_s', [0.0, 0.03])
def test_a_budget_decides_the_verdict_and_how_the_answer_ends(budget_s, margin_s):
    bench = Bench(predictions={})
    verdict, reason = BUDGETS[budget_s]
    outcome = bench.run(budget_s + margin_s, delivery_margin_s=margin_s)
    timing = outcome.timing
    assert (timing.verdict, outcome.finish_reason) == (verdict, reason)
    assert bench.lateness_s <= -margin_s + 1e-9
    assert outcome.text == ANSWER[:len(outcome.text)].decode()
    assert (outcome.text == ANSWER.decode()) == (reason is FinishReason.EOS)
    assert (timing.predicted_tokens, timing.pessimistic_tokens) == (20, 40)
    evicts = verdict is not Verdict.FITS
    assert ('evict' in bench.model.calls) == (timing.kept_tokens < N_X) == (timing.eviction_ratio > 0) == evicts
    assert timing.eviction_ratio == pytest.approx(1 - timing.kept_tokens / N_X)
    assert timing.kept_tokens == Bench(predictions={}).run(budget_s).timing.kept_tokens, 'the margin is not kept free'
    if verdict is Verdict.INFEASIBLE:
        assert timing.kept_tokens == 50, 'the paper evicts alpha_max where nothing fits'
    assert bench.model.positions[0] == N_X, 'positions go on from the prompt length whatever was kept'


def test_tighter_budgets_evict_more_and_then_cut_the_text():
    ratios, lengths = [], []
    for hundredths in range(200, 12, -1):
        bench = Bench(predictions={})
        outcome = bench.run(hundredths / 100)
        assert bench.lateness_s <= 1e-9
        if outcome.timing.verdict.is_promise:
            assert outcome.finish_reason is FinishReason.EOS, 'a broken promise'
            ratios.append(outcome.timing.eviction_ratio)
        lengths.append(outcome.timing.generated_tokens)
    assert ratios == sorted(ratios) and ratios[0] == 0 and ratios[-1] > 0.8
    assert lengths == sorted(lengths, reverse=True) and lengths[0] == 31 and lengths[-1] < 5


@pytest.mark.parametrize('budget_s', [0.1, 0.01, 1e-6])
def test_a_budget_that_prefill_alone_exceeds_is_infeasible_at_once(budget_s):
    bench = Bench(predictions={})
    outcome = bench.run(budget_s)
    assert outcome.error_code is ErrorCode.INFEASIBLE and '1000 tokens' in outcome.error_msg
    assert f'{budget_s:.3f} s' in outcome.error_msg and outcome.timing.verdict is Verdict.INFEASIBLE
    assert outcome.text == '' and bench.model.calls == [] and bench.predictions.bounds == []


def test_a_deadline_that_passed_in_the_queue_ends_without_the_model():
    bench = Bench(predictions={})
    outcome = bench.run(1.0, queue_s=1.5)
    assert (outcome.error_code, outcome.finish_reason) == (ErrorCode.DEADLINE_MISSED, FinishReason.DEADLINE)
    assert bench.model.calls == [] and outcome.timing.queue_s == pytest.approx(1.5)


@pytest.mark.parametrize('queue_s', [0.0, 0.2, 0.4, 0.6])
def test_time_in_the_queue_counts_against_the_budget(queue_s):
    bench = Bench(predictions={})
    assert bench.run(0.7 + queue_s, queue_s=queue_s).timing.eviction_ratio == pytest.approx(
        Bench(predictions={}).run(0.7).timing.eviction_ratio)
    assert bench.lateness_s <= 0


@pytest.mark.parametrize('slowness', [0.5, 1.5, 3.0])
@pytest.mark.parametrize('budget_s', BUDGETS)
def test_a_machine_unlike_its_profile_is_late_by_less_than_a_step(slowness, budget_s):
    bench = Bench(predictions={}, slowness=slowness)
    outcome = bench.run(budget_s)
    assert bench.lateness_s < slowness * max(TIMES.step(N_X), 100 * TIMES.b + TIMES.c)
    assert outcome.error_code in (ErrorCode.NONE, ErrorCode.DEADLINE_MISSED)


def test_kill_keeps_no_text_of_an_answer_that_was_cut():
    assert Bench(predictions={}).run(0.45, strategy=Strategy.TRUNCATE).text == ANSWER[:20].decode()
    outcome = Bench(predictions={}).run(0.45, strategy=Strategy.KILL)
    assert (outcome.text, outcome.error_code) == ('', ErrorCode.DEADLINE_MISSED)
    assert outcome.timing.generated_tokens == 20


@pytest.mark.parametrize(('supports_eviction', 'max_ratio', 'kept'), [(True, 0.95, 50), (True, 0.5, 500),
                                                                     (True, 0.0, N_X), (False, 0.95, N_X)])
def test_no_more_is_evicted_than_allowed(supports_eviction, max_ratio, kept, monkeypatch):
    monkeypatch.setattr(MockModel, 'supports_eviction', supports_eviction)
    outcome = Bench(predictions={}).run(0.25, max_eviction_ratio=max_ratio)
    assert outcome.timing.kept_tokens == kept and outcome.timing.verdict is Verdict.INFEASIBLE


# -- how answers end -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(('fields', 'reason', 'text', 'tokens'), [
    ({}, FinishReason.EOS, ANSWER, 31),  # the end of text counts as a token and is not in the text
    (dict(max_new_tokens=7), FinishReason.LENGTH, ANSWER[:7], 7),
    (dict(max_new_tokens=1), FinishReason.LENGTH, ANSWER[:1], 1),
    (dict(max_new_tokens=31), FinishReason.EOS, ANSWER, 31),
    (dict(sampling=Sampling(stop=['jkl', 'zzz'])), FinishReason.STOP, ANSWER[:9], 12),
    (dict(sampling=Sampling(stop=['nope'])), FinishReason.EOS, ANSWER, 31),
    (dict(sampling=Sampling(temperature=1e-6, seed=7)), FinishReason.EOS, ANSWER, 31),
    (dict(prompt='', messages=[dict(role='user', content='x' * N_X)]), FinishReason.EOS, ANSWER, 31),
], ids=str)
def test_an_answer_ends_as_it_should(fields, reason, text, tokens):
    outcome = Bench(predictions={}).run(**fields)
    assert (outcome.finish_reason, outcome.text) == (reason, text.decode())
    assert outcome.timing.generated_tokens == tokens and outcome.error_code is ErrorCode.NONE


def test_an_answer_without_end_stops_at_the_context():
    bench = Bench(predictions={}, ends=False)
    bench.model.max_context = N_X + 12
    outcome = bench.run(max_new_tokens=500)
    assert outcome.finish_reason is FinishReason.CAPPED and outcome.timing.generated_tokens == 12
    assert outcome.timing.length_cap == 12


# Room behind the prompt, the goal's own limit -> what a plan for 20 tokens, at most 40, says, and how 30 tokens end.
ROOMS = {
    (100, 256): (Verdict.FITS, FinishReason.EOS), (40, 256): (Verdict.FITS, FinishReason.EOS),
    (39, 256): (Verdict.AT_RISK, FinishReason.EOS), (31, 256): (Verdict.AT_RISK, FinishReason.EOS),
    (12, 256): (Verdict.AT_RISK, FinishReason.CAPPED), (1, 256): (Verdict.AT_RISK, FinishReason.CAPPED),
    (100, 12): (Verdict.FITS, FinishReason.LENGTH), (12, 12): (Verdict.FITS, FinishReason.LENGTH),
    (12, 13): (Verdict.AT_RISK, FinishReason.CAPPED), (39, 39): (Verdict.FITS, FinishReason.EOS),
}


@pytest.mark.parametrize('strategy', [Strategy.KILL, Strategy.TRUNCATE, Strategy.SKIP_NEXT])
@pytest.mark.parametrize('room', ROOMS)
def test_what_the_context_cuts_is_neither_promised_nor_a_natural_end(room, strategy):
    bench = Bench(predictions={})
    bench.model.max_context = N_X + room[0]
    outcome = bench.run(max_new_tokens=room[1], strategy=strategy, closing_text='.')
    verdict, reason = ROOMS[room]
    assert (outcome.timing.verdict, outcome.finish_reason) == (verdict, reason)
    assert outcome.timing.length_cap == min(room)
    cut = ANSWER[:min(room)].decode() + '.'
    assert outcome.text == (ANSWER.decode() if reason is FinishReason.EOS else cut)
    assert bench.engine.estimate(bench.request(max_new_tokens=room[1]))[0].verdict is verdict


@pytest.mark.parametrize(('max_new_tokens', 'predicted', 'verdict', 'reason'), [
    (12, 6, Verdict.FITS, FinishReason.LENGTH), (500, 12, Verdict.AT_RISK, FinishReason.CAPPED)])
def test_without_a_predictor_the_context_is_known_too(max_new_tokens, predicted, verdict, reason):
    """Half of the goal's limit is expected, and no more than what the context has room for."""
    bench = Bench(ends=False)
    bench.model.max_context = N_X + 12
    outcome = bench.run(max_new_tokens=max_new_tokens)
    assert (outcome.timing.verdict, outcome.finish_reason) == (verdict, reason)
    assert (outcome.timing.predicted_tokens, outcome.timing.generated_tokens) == (predicted, 12)


# Bytes that print nothing stand for special tokens. Fields, answer -> how it ends.
SILENT = b'\0' * 30
EMPTY = {
    'the end at once': (b'', {}, ErrorCode.NONE, FinishReason.EOS),
    'the end after special tokens': (SILENT, {}, ErrorCode.NONE, FinishReason.EOS),
    'a stop text first': (b'.abc', dict(sampling=Sampling(stop=['.'])), ErrorCode.NONE, FinishReason.STOP),
    'special tokens to the limit': (SILENT, dict(max_new_tokens=7), ErrorCode.INVALID_GOAL, FinishReason.LENGTH),
    'no whole line within the limit': (ANSWER, dict(max_new_tokens=7, stop_at_line_end=True), ErrorCode.INVALID_GOAL,
                                       FinishReason.LENGTH),
    'special tokens to the context': (SILENT, dict(n_x=3990), ErrorCode.PROMPT_TOO_LONG, FinishReason.CAPPED),
    'no whole line within the context': (ANSWER, dict(n_x=3990, stop_at_line_end=True), ErrorCode.PROMPT_TOO_LONG,
                                         FinishReason.CAPPED),
    'special tokens to the deadline': (SILENT, dict(budget_s=0.45), ErrorCode.DEADLINE_MISSED, FinishReason.DEADLINE),
}


@pytest.mark.parametrize('strategy', [Strategy.KILL, Strategy.TRUNCATE, Strategy.SKIP_NEXT])
@pytest.mark.parametrize('case', EMPTY)
def test_an_empty_text_reads_as_success_only_where_the_model_or_a_stop_text_ended_it(case, strategy, monkeypatch):
    answer, fields, code, reason = EMPTY[case]
    bench = Bench(predictions={}, answer=answer)
    monkeypatch.setattr(bench.model.tokenizer, 'decode', lambda ids, **options: bytes(
        i for i in ids if 0 < i < 256).decode(), raising=False)
    request = bench.request(closing_text='.', strategy=strategy, **fields)
    outcome = bench.engine.run(request, Control(Deadline(request.deadline_s, bench.clock)))
    assert (outcome.error_code, outcome.finish_reason, outcome.text) == (code, reason, '')


def test_an_answer_that_is_only_the_end_of_text_says_so():
    bench = Bench(predictions={}, answer=b'')
    outcome = bench.engine.run(bench.request(), Control(Deadline(bench.clock.now + GENEROUS, bench.clock)))
    assert (outcome.finish_reason, outcome.text, outcome.timing.generated_tokens) == (FinishReason.EOS, '', 1)


# -- the account -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('budget_s', BUDGETS)
def test_the_times_add_up(budget_s):
    bench = Bench(predictions={})
    timing = bench.run(budget_s + 0.25, queue_s=0.25).timing
    assert timing.queue_s == pytest.approx(0.25) and timing.prefill_s == pytest.approx(TIMES.prefill(N_X))
    assert timing.eviction_s == pytest.approx(TIMES.eviction(N_X) if timing.kept_tokens < N_X else 0)
    steps = sum(TIMES.step(timing.kept_tokens + i) for i in range(timing.generated_tokens - 1))
    assert timing.decode_s == pytest.approx(steps)
    assert timing.time_to_first_token_s == pytest.approx(timing.queue_s + timing.prefill_s + timing.eviction_s)
    assert timing.prompt_tokens == N_X and timing.variant == 'float32'
    assert timing.time_budget_s == pytest.approx(budget_s + 0.25)
    plan, = bench.plans
    assert timing.wcet_s == pytest.approx(timing.prefill_s + plan.decode_wcet_s)
    assert timing.wcet_s >= timing.prefill_s + timing.eviction_s + timing.decode_s
    assert bench.phases == [Phase.PREFILL, Phase.DECODE]


@pytest.mark.parametrize('budget_s', BUDGETS)
def test_an_estimate_is_the_plan_of_a_run_and_leaves_the_model_alone(budget_s):
    bench = Bench(predictions={})
    plan, whole, n_x, prefill_s, _ = bench.engine.estimate(bench.request(budget_s))
    assert bench.model.calls == [] and n_x == N_X and prefill_s == pytest.approx(0.11)
    bench.run(budget_s)
    assert plan == bench.plans[0]
    assert whole.n_keep == N_X and whole.decode_wcet_s >= plan.decode_wcet_s


@pytest.mark.parametrize('chunked', [True, False])
def test_the_longest_pause_is_the_last_chunk_or_without_chunks_all_of_prefill(chunked, monkeypatch):
    monkeypatch.setattr(MockModel, 'chunked_prefill', chunked)
    bench = Bench()
    before = TIMES.prefill(MockModel.max_context - 100) if chunked else 0.0
    last, step = TIMES.prefill(MockModel.max_context) - before, TIMES.step(MockModel.max_context)
    assert bench.engine.longest_pause_s() == pytest.approx(max(last, step))
    monkeypatch.setattr(MockModel, 'looks_per_chunk', 2)
    assert bench.engine.longest_pause_s() == pytest.approx(max(last / 2, step))
    monkeypatch.setattr(MockModel, 'looks_per_chunk', 1)
    monkeypatch.setattr(MockModel, 'chunks_queued', 2)  # as on a GPU
    before = TIMES.prefill(MockModel.max_context - 200) if chunked else 0.0
    last = TIMES.prefill(MockModel.max_context) - before
    assert bench.engine.longest_pause_s() == pytest.approx(max(last, step))


# -- overrun strategies: what each does while the model works; test_overrun.py has the matrix ------------------------

# Strategy -> how a request ends whose budget does not even fit the predicted length.
STRATEGIES = {
    Strategy.KILL: (ErrorCode.DEADLINE_MISSED, FinishReason.DEADLINE),
    Strategy.TRUNCATE: (ErrorCode.NONE, FinishReason.DEADLINE),
    Strategy.SKIP_NEXT: (ErrorCode.NONE, FinishReason.EOS),
}


@pytest.mark.parametrize('strategy', STRATEGIES)
def test_what_becomes_of_a_late_answer(strategy):
    bench = Bench(predictions={})
    outcome = bench.run(0.25, strategy=strategy, max_overrun_s=5.0 * (strategy is Strategy.SKIP_NEXT))
    assert (outcome.error_code, outcome.finish_reason) == STRATEGIES[strategy]
    assert outcome.timing.verdict is Verdict.INFEASIBLE and outcome.timing.kept_tokens == 50, 'planned for the deadline'
    assert (bench.lateness_s > 0) == (strategy is Strategy.SKIP_NEXT)
    assert (outcome.text == ANSWER.decode()) == (strategy is Strategy.SKIP_NEXT)


@pytest.mark.parametrize('overrun_s', [0.0, 0.05, 0.1])
def test_a_late_answer_is_cut_at_the_end_of_its_longest_overrun(overrun_s):
    bench = Bench(predictions={})
    outcome = bench.run(0.25, strategy=Strategy.SKIP_NEXT, max_overrun_s=overrun_s)
    assert (outcome.error_code, outcome.finish_reason) == (ErrorCode.NONE, FinishReason.DEADLINE)
    assert overrun_s - 0.03 < bench.lateness_s <= overrun_s + 1e-9
    assert ANSWER.decode().startswith(outcome.text)


def test_reading_a_long_prompt_goes_on_after_the_deadline_too():
    bench = Bench(predictions={}, slowness=3.0)
    outcome = bench.run(0.2, strategy=Strategy.SKIP_NEXT, max_overrun_s=5.0)
    assert outcome.finish_reason is FinishReason.EOS and outcome.timing.prefill_s > 0.2


@pytest.mark.parametrize('strategy', STRATEGIES)
@pytest.mark.parametrize('drop', ['never', 'kill', 'all'])
def test_an_infeasible_goal_ends_early_where_the_parameter_says_so(strategy, drop):
    bench = Bench(predictions={})
    bench.engine.drop_infeasible = drop
    outcome = bench.run(0.25, strategy=strategy)
    dropped = drop == 'all' or drop == 'kill' and strategy is Strategy.KILL
    assert (outcome.error_code is ErrorCode.INFEASIBLE) == dropped
    assert ('step' in bench.model.calls) != dropped
    if dropped:
        assert outcome.timing.verdict is Verdict.INFEASIBLE and bench.plans[0].verdict is Verdict.INFEASIBLE
        assert '20 more tokens' in outcome.error_msg and '0.250 s' in outcome.error_msg
        assert bench.lateness_s < -0.05
    assert bench.run(GENEROUS, strategy=strategy).finish_reason is FinishReason.EOS
