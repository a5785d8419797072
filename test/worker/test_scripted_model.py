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

"""The scripted model under the real engine, on a clock that moves when it waits: paces, pauses, limits, cancels."""
from __future__ import annotations

from types import SimpleNamespace

import pytest

from timebill_ros import settings
from timebill_ros.codes import ErrorCode, FinishReason, GoalError, Strategy, Thinking, Verdict
from timebill_ros.deadline import Deadline
from timebill_ros.inference.control import Control
from timebill_ros.request import Request, Sampling
from timebill_ros.worker import script
from timebill_ros.worker.assembly import make_engine, planning_rule
from timebill_ros.worker.scripted import execution_times, new_tracker
from timebill_ros.worker.scripted_faults import FAULTS
from timebill_ros.worker.scripted_lengths import ScriptedLengths
from timebill_ros.worker.scripted_model import ScriptedModel, ScriptedTokenizer
from timebill_ros.worker.scripted_uses import Uses

START_S = 1000.0
# Reading takes 0.1 s and 0.01 s a word; each token 0.5 s.
HEAD = 'format: 1\ntimes: {prompt_s: 0.1, prompt_token_s: 0.01, token_s: 0.5}\ncontext_tokens: 64\nanswers:\n'


class Bench:
    """The real engine on a script, and its clock. `at[seconds]`: what to do once the clock has come so far."""

    def __init__(self, folder, answers, **values):
        self.now, self.at = START_S, {}
        (folder / 's.yaml').write_text(HEAD + answers)
        loaded = script.load(folder / 's.yaml')
        times = execution_times(loaded.times)
        self.model = ScriptedModel(loaded, times, Uses(folder / 'uses', loaded.path, anew=True), sleep=self.sleep,
                                   clock=lambda: self.now)
        values = settings.check({'planner': 'paper', **values})
        self.engine = make_engine(values, self.model, ScriptedLengths(self.model.lengths, self.model.usual_lengths()),
                                  SimpleNamespace(times=times), new_tracker(values), planning_rule(values), 16)
        self.engine.clock = lambda: self.now

    def sleep(self, seconds):
        self.now += seconds
        for moment in [moment for moment in self.at if self.now - START_S >= moment]:
            self.at.pop(moment)()

    def run(self, prompt='hello there', budget_s=60.0, **fields):
        """Run a goal; return its outcome and how long it took."""
        release_s = self.now
        request = Request('r', release_s, release_s + budget_s, prompt=prompt, delivery_margin_s=0.0, **fields)
        self.control = Control(Deadline(request.deadline_s, lambda: self.now), overrun_s=request.max_overrun_s)
        return self.engine.run(request, self.control), self.now - release_s


@pytest.fixture
def bench(tmp_path):
    return lambda answers, **values: Bench(tmp_path, answers, **values)


def test_an_answer_takes_as_long_as_the_script_says_and_was_promised(bench):
    outcome, took_s = bench('  - text: one two three').run()
    assert (outcome.error_code, outcome.text, outcome.finish_reason) == (ErrorCode.NONE, 'one two three',
                                                                         FinishReason.EOS)
    assert took_s == pytest.approx(0.12 + 3 * 0.5)  # the first token comes with the prompt, and the end is one too
    timing = outcome.timing
    assert (timing.verdict, timing.prompt_tokens, timing.generated_tokens) == (Verdict.FITS, 2, 4)
    assert (timing.predicted_tokens, timing.pessimistic_tokens) == (4, 4)
    assert (timing.prefill_s, timing.decode_s) == pytest.approx((0.12, 1.5))
    assert timing.wcet_s == pytest.approx(took_s)


@pytest.mark.parametrize('extra, budget_s, verdict', [
    ('', 1.7, Verdict.FITS), ('', 1.5, Verdict.INFEASIBLE),
    ('pessimistic_tokens: 30', 1.7, Verdict.AT_RISK), ('pessimistic_tokens: 30', 20.0, Verdict.FITS),
    ('predicted_tokens: 2, pessimistic_tokens: 4', 1.5, Verdict.AT_RISK),
    ('predicted_tokens: 40', 5.0, Verdict.INFEASIBLE)])
def test_the_verdict_follows_from_lengths_and_budget(bench, extra, budget_s, verdict):
    answer = '  - {text: one two three' + (f', {extra}}}' if extra else '}')
    outcome, _ = bench(answer).run(budget_s=budget_s)
    assert outcome.timing.verdict is verdict


def test_an_estimate_says_what_the_plan_will_and_uses_nothing_up(bench):
    one = bench('  - {text: one two three, uses: 1}\n  - text: four')
    request = Request('e', one.now, one.now + 60.0, prompt='hello there')
    for _ in range(3):
        plan, whole, n_x, prefill_s, _ = one.engine.estimate(request)
        assert (plan.verdict, plan.predicted_tokens, n_x) == (Verdict.FITS, 4, 2) and prefill_s == pytest.approx(0.12)
    assert one.run()[0].text == 'one two three' and one.run()[0].text == 'four'


def test_a_slow_answer_breaks_its_promise(bench):
    outcome, took_s = bench('  - {text: one two three, token_s: 2.0}').run(budget_s=3.0)
    assert (outcome.timing.verdict, outcome.finish_reason, outcome.text) == (
        Verdict.FITS, FinishReason.DEADLINE, 'one two')
    assert took_s <= 3.0, 'the guard saw the next token coming too late'


@pytest.mark.parametrize('strategy, overrun_s, code, text', [
    (Strategy.KILL, 0.0, ErrorCode.DEADLINE_MISSED, ''), (Strategy.SKIP_NEXT, 9.0, ErrorCode.NONE, 'one two three')])
def test_a_late_answer_ends_as_its_strategy_says(bench, strategy, overrun_s, code, text):
    one = bench('  - {text: one two three, token_s: 2.0}', drop_infeasible='never')
    outcome, took_s = one.run(budget_s=3.0, strategy=strategy, max_overrun_s=overrun_s)
    assert (outcome.error_code, outcome.text, took_s > 3.0) == (code, text, overrun_s > 0)


def test_what_is_learned_of_slow_answers_changes_no_verdict(bench):
    one = bench('  - {text: one two three, token_s: 2.0}')
    assert [one.run(budget_s=3.0)[0].timing.verdict for _ in range(12)] == [Verdict.FITS] * 12


@pytest.mark.parametrize('after, before_s', [(0, 0.12), (2, 0.12 + 2 * 0.5)])
def test_a_pause_stands_between_two_tokens(bench, after, before_s):
    one = bench(f'  - {{text: one two three, pauses: [{{after_tokens: {after}, seconds: 7}}]}}')
    seen = []
    one.at = {before_s + 1: lambda: seen.append(one.control.n_tokens)}
    outcome, took_s = one.run()
    assert outcome.text == 'one two three' and took_s == pytest.approx(0.12 + 1.5 + 7) and seen == [after]


def test_an_answer_without_an_end_is_ended_by_limits(bench):
    answers = '  - {text: on and, ends: false}'
    outcome, _ = bench(answers).run(max_new_tokens=5)
    assert (outcome.finish_reason, outcome.text) == (FinishReason.LENGTH, 'on and on and on')
    outcome, took_s = bench(answers).run(budget_s=2.0)
    assert (outcome.finish_reason, outcome.timing.verdict) == (FinishReason.DEADLINE, Verdict.INFEASIBLE)
    assert outcome.text == 'on and on and' and took_s <= 2.0
    outcome, _ = bench(answers).run(max_new_tokens=1000)
    assert outcome.finish_reason is FinishReason.CAPPED and outcome.timing.generated_tokens == 62, 'the context'


def test_a_stop_string_ends_an_answer(bench):
    outcome, _ = bench('  - text: one two three').run(sampling=Sampling(stop=[' three']))
    assert (outcome.finish_reason, outcome.text) == (FinishReason.STOP, 'one two')


@pytest.mark.parametrize('when_s, text', [(0.05, ''), (0.7, 'one two')])
def test_a_cancel_is_seen_while_the_prompt_is_read_and_once_a_token(bench, when_s, text):
    one = bench('  - text: one two three')
    one.at = {when_s: lambda: setattr(one.control, 'canceled', True)}
    outcome, took_s = one.run()
    assert (outcome.error_code, outcome.finish_reason) == (ErrorCode.CANCELED, FinishReason.CANCELED)
    assert took_s < when_s + 0.5


def test_a_deadline_that_moves_moves_the_end(bench):
    one = bench('  - {text: onwards, ends: false}')
    one.at = {1.0: lambda: setattr(one.control.deadline, 'at_s', START_S + 3.0)}
    outcome, took_s = one.run()
    assert outcome.finish_reason is FinishReason.DEADLINE and 2.0 < took_s <= 3.0


def test_the_last_message_chooses_and_all_of_them_are_read(bench):
    one = bench('  - {when: dock, text: to the dock}\n  - text: nope')
    messages = [{'role': 'user', 'content': 'dock'}, {'role': 'assistant', 'content': 'yes'},
                {'role': 'user', 'content': 'and then'}]
    outcome, _ = one.run(prompt='', messages=messages)
    assert outcome.text == 'nope' and outcome.timing.prompt_tokens == 7  # a word for each role
    outcome, _ = one.run(prompt='', messages=messages[:1])
    assert outcome.text == 'to the dock'


def test_what_no_answer_fits_is_refused_with_the_remedy(bench):
    one = bench('  - {when: dock, text: to the dock, uses: 1}')
    assert one.run('to the dock')[0].text == 'to the dock'
    for prompt in ('to the dock', 'home'):
        outcome, _ = one.run(prompt)
        assert outcome.error_code is ErrorCode.INVALID_GOAL and 'without when and uses' in outcome.error_msg
        with pytest.raises(GoalError, match='no answer of the script'):
            one.engine.estimate(Request('e', one.now, one.now + 1.0, prompt=prompt))


def test_a_prompt_longer_than_the_context_is_refused(bench):
    one = bench('  - text: nope')
    outcome, _ = one.run('word ' * 64)
    assert outcome.error_code is ErrorCode.PROMPT_TOO_LONG and 'the prompt has 64 tokens' in outcome.error_msg
    assert one.run('word ' * 63)[0].text == 'nope'


def test_eviction_saves_what_the_script_says_that_entries_cost(tmp_path, monkeypatch):
    monkeypatch.setattr(f'{__name__}.HEAD', 'format: 1\ntimes: {prompt_token_s: 0, token_s: 0.01, entry_s: 0.001}\n'
                                            'answers:\n')
    one = Bench(tmp_path, '  - text: one two three four')
    outcome, took_s = one.run('word ' * 1000, budget_s=2.5)
    assert outcome.timing.verdict is Verdict.FITS_WITH_EVICTION and outcome.text == 'one two three four'
    assert 0.3 < outcome.timing.eviction_ratio <= 0.95 and took_s <= 2.5
    outcome, took_s = one.run('word ' * 1000, budget_s=10.0)
    assert outcome.timing.verdict is Verdict.FITS and took_s == pytest.approx(0.01 + 4 * 0.01 + 4.006)


@pytest.mark.parametrize('kind, code', [('error', ErrorCode.UNKNOWN), ('out_of_memory', ErrorCode.OUT_OF_MEMORY)])
@pytest.mark.parametrize('after', [0, 2])
def test_a_fault_that_the_process_survives_ends_the_goal_with_its_code(bench, kind, code, after):
    one = bench(f'  - {{text: one two three, uses: 1, fault: {{kind: {kind}, after_tokens: {after}}}}}\n  - text: four')
    outcome, _ = one.run()
    assert outcome.error_code is code and f'fault: {kind}' in outcome.error_msg and one.control.n_tokens == after
    assert one.run()[0].text == 'four'


@pytest.mark.parametrize('kind', FAULTS)
@pytest.mark.parametrize('after', [0, 1, 3])
def test_every_fault_comes_when_the_script_says(bench, monkeypatch, kind, after):
    one = bench(f'  - {{text: one two three, fault: {{kind: {kind}, after_tokens: {after}}}}}')
    seen = []
    monkeypatch.setitem(FAULTS, kind, lambda: seen.append(one.control.n_tokens))
    assert one.run()[0].text == 'one two three' and seen == [after]


def test_texts_of_tokens_add_up():
    tokenizer = ScriptedTokenizer()
    ids = tokenizer.encode('  Über den Fluß,\n\n😀 dann 😀 ')
    assert tokenizer.decode(ids) == '  Über den Fluß,\n\n😀 dann 😀' and len(set(ids)) == len(ids) == 6


@pytest.mark.parametrize('moment', [0.05, 0.7], ids=['in its prompt', 'in its answer'])
def test_a_goal_gives_way_to_another_and_goes_on(bench, moment):
    one, others = bench('  - {when: hello, text: one two three, uses: 1}\n  - text: four'), []

    def other():
        request = Request('other', one.now, one.now + 60.0, prompt='else', delivery_margin_s=0.0)
        others.append(one.engine.run(request, Control(Deadline(request.deadline_s, lambda: one.now))))

    def pause():
        one.control.on_pause, one.control.pausing = other, True

    one.at[moment] = pause
    outcome, took_s = one.run()
    other_s = 0.11 + 0.5
    assert (outcome.text, [other.text for other in others]) == ('one two three', ['four'])
    assert took_s == pytest.approx(0.12 + 1.5 + other_s)
    timing = outcome.timing
    assert (timing.preemptions, timing.paused_s) == (1, pytest.approx(other_s))
    assert (timing.prefill_s, timing.decode_s) == pytest.approx((0.12, 1.5))
    assert one.run()[0].text == 'four', 'the answer was used once'


@pytest.mark.parametrize('fields', [{'tools': '[{"type": "function", "function": {"name": "stop"}}]'},
                                    {'thinking': Thinking.ON}])
def test_a_script_calls_no_tools_and_does_not_think(bench, fields):
    outcome, _ = bench('  - {text: to the dock}').run(prompt='', messages=[{'role': 'user', 'content': 'go'}], **fields)
    assert outcome.error_code is ErrorCode.INVALID_GOAL and 'scripted' in outcome.error_msg
