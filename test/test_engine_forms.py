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

"""Answers of a given form through the engine: valid whenever they end, and never late for that."""
import json
import random

import pytest
import torch
from answer_forms import EOS, SCHEMAS, TEXTS, TOKENS, vocabulary
from engine_bench import Bench
from mock_model import TIMES, FakeClock, MockModel

pytest.importorskip('llguidance')
jsonschema = pytest.importorskip('jsonschema')
from timebill_ros.codes import ErrorCode, FinishReason, OnCut, Strategy  # noqa: E402
from timebill_ros.engine import Engine  # noqa: E402
from timebill_ros.inference.grammars.compiler import Grammars  # noqa: E402
from timebill_ros.planning.tracker import Tracker  # noqa: E402
from timebill_ros.request import Sampling  # noqa: E402

LIKELY = 3.0  # added to the logits of what makes an answer go on and end
QUICK_S = 0.005


class PieceTokenizer:
    def __len__(self):
        return len(TOKENS)

    def decode(self, ids, skip_special_tokens=True, clean_up_tokenization_spaces=False):
        return b''.join(TOKENS[i] for i in ids if i != EOS).decode(errors='replace')


class QuickGrammars(Grammars):
    """Completing takes 5 ms by the clock of the tests, however busy the machine is."""

    def collect(self, started, should_stop):
        answer = super().collect(started, should_stop)
        if answer is not None:
            answer.closing_s = lambda n: QUICK_S
        return answer


class NoClosing:
    """Grammars whose answers take no time to complete."""

    def __init__(self, grammars):
        self.start, self._collect = grammars.start, grammars.collect

    def collect(self, started, should_stop):
        answer = self._collect(started, should_stop)
        answer.closing_s = lambda n: 0.0
        return answer


class WanderingModel(MockModel):
    """Wants tokens at random, with a liking for brackets, quotes and white space."""

    eos_ids = frozenset({EOS})
    grammars = QuickGrammars(vocabulary(), {EOS})

    def __init__(self, clock, seed=0):
        super().__init__(clock)
        self.tokenizer = PieceTokenizer()
        self.generator = torch.Generator().manual_seed(seed)
        self.liked = torch.tensor([LIKELY if set(token) <= set(b'"{}[],: \n\\u') else 0.0 for token in TOKENS])
        self.n_steps = 0

    def _logits(self, n):
        return torch.randn(len(TOKENS), generator=self.generator) + self.liked

    def step(self, token, position):
        assert position == self.n_prompt_ever + self.n_steps, 'positions go on'
        self.n_steps += 1
        self._work(TIMES.step(self.n_kv))
        self.n_kv += 1
        return self._logits(0)

    def prefill(self, ids, **options):
        self.n_prompt_ever, self.n_steps = len(ids), 0
        return super().prefill(ids, **options)


class DecidedModel(WanderingModel):
    """Wants the bytes of `wants`, then the end, wherever the grammar lets it."""

    wants = b''

    def _logits(self, n):
        logits = torch.zeros(len(TOKENS))
        logits[self.wants[self.n_steps] if self.n_steps < len(self.wants) else EOS] = 5.0
        return logits


class FormBench(Bench):
    def __init__(self, seed=0, kind=None):
        self.clock = FakeClock()
        self.model = (kind or WanderingModel)(self.clock, seed)
        self.engine = Engine(self.model, None, TIMES, Tracker('fixed', k=2.0), prefill_chunk_tokens=100,
                             clock=self.clock)


def check(outcome, schema):
    """Assert that a goal which succeeded has its form."""
    if outcome.error_code is ErrorCode.NONE:
        jsonschema.validate(json.loads(outcome.text), schema or {'type': 'object'})
        return True
    assert outcome.error_code in (ErrorCode.DEADLINE_MISSED, ErrorCode.INVALID_GOAL), outcome
    assert 'the form asked for' in outcome.error_msg and outcome.text == ''
    return False


@pytest.mark.parametrize('name', SCHEMAS)
@pytest.mark.parametrize('on_cut', OnCut)
def test_an_answer_is_valid_at_any_budget(name, on_cut):
    draw, succeeded = random.Random(name), 0
    for seed in range(12):
        bench = FormBench(seed)
        outcome = bench.run(0.13 + draw.random() * 1.2, response_schema=TEXTS[name], on_cut=on_cut,
                            sampling=Sampling(masked=True))
        succeeded += check(outcome, SCHEMAS[name])
        assert bench.lateness_s <= 1e-6
        assert outcome.finish_reason in (FinishReason.DEADLINE, FinishReason.EOS, FinishReason.LENGTH)
        assert outcome.timing.forced_tokens <= outcome.timing.generated_tokens
        if outcome.finish_reason is FinishReason.EOS:
            assert outcome.added_characters == 0
    assert succeeded == 12 if on_cut is OnCut.CLOSE else succeeded


@pytest.mark.parametrize('n', [1, 2, 5, 9])
def test_a_limit_is_a_cut_too(n):
    outcome = FormBench(3).run(max_new_tokens=n, response_schema=TEXTS['lists'], on_cut=OnCut.CLOSE)
    assert outcome.finish_reason is FinishReason.LENGTH and outcome.timing.generated_tokens == n
    assert check(outcome, SCHEMAS['lists']) and 0 < outcome.added_characters < len(outcome.text)


class BlankModel(WanderingModel):
    """Wants nothing but white space."""

    def _logits(self, n):
        return torch.tensor([5.0 if set(token) <= set(b' \n\t\r') else 0.0 for token in TOKENS]) + self.liked / 10


@pytest.mark.parametrize('name', SCHEMAS)
@pytest.mark.parametrize('on_cut', OnCut)
def test_a_model_that_wants_nothing_but_white_space(name, on_cut):
    for budget_s in (0.2, 0.4, 0.8, 1.6, 10.0):
        bench = FormBench(kind=BlankModel)
        outcome = bench.run(budget_s, response_schema=TEXTS[name], on_cut=on_cut, max_new_tokens=120,
                            sampling=Sampling(masked=True))
        assert check(outcome, SCHEMAS[name]) or on_cut is OnCut.DROP
        assert bench.lateness_s <= 1e-6
    written = b''.join(TOKENS[i] for i in bench.control.tokens[:bench.control.n_tokens])
    assert written.strip(), 'the grammar leads on from white space'


LAYOUTS = [dict(separators=(',', ':')), {}, dict(indent=2), dict(indent=4), dict(indent='\t')]


@pytest.mark.parametrize('layout', LAYOUTS, ids=str)
def test_json_that_a_model_writes_by_itself_stays_as_it_is(layout):
    """With any object as its form, whatever its layout."""
    value = {'steps': [{'do': 'go "in"\n', 'at': [1, 2.5e-3, -4]}, {}], 'why': None, 'two words': [[], True, 'é']}
    said = json.dumps(value, ensure_ascii=False, **layout)  # llguidance lets nobody escape letters
    bench = FormBench(kind=DecidedModel)
    bench.model.wants = said.encode()
    outcome = bench.run(response_schema='{}', max_new_tokens=1000, sampling=Sampling(masked=True))
    assert (outcome.text, outcome.finish_reason) == (said, FinishReason.EOS)
    assert (outcome.added_characters, outcome.dropped_items) == (0, 0)


def test_kill_keeps_nothing_at_the_deadline():
    outcome = FormBench(1).run(0.3, response_schema='{}', strategy=Strategy.KILL, max_new_tokens=1000,
                               on_cut=OnCut.CLOSE)
    if outcome.finish_reason is FinishReason.DEADLINE:
        assert outcome.error_code is ErrorCode.DEADLINE_MISSED
    else:  # the plan capped it, so that it ended in time
        assert check(outcome, {})


@pytest.mark.parametrize('choices', [['left', 'right', 'stop'], ['go', 'go home', 'go up']])
def test_choices(choices):
    for seed in range(10):
        outcome = FormBench(seed).run(choices=choices)
        assert outcome.text in choices and outcome.finish_reason is FinishReason.EOS
        assert outcome.timing.length_cap <= 1 + max(map(len, choices))


def test_choices_teach_nothing_of_the_lengths_of_other_answers():
    bench = FormBench()
    learned, bench.engine.lengths.observe = [], lambda *seen, **options: learned.append(seen)
    bench.run(choices=['left', 'right', 'stop'])
    assert not learned and bench.engine.tracker.lengths.state() == []
    bench.run(response_schema=TEXTS['enums'], sampling=Sampling(masked=True))
    assert len(learned) == len(bench.engine.tracker.lengths.state()) == 1


def test_choices_show_nothing_of_the_level_of_promises():
    bench = FormBench()
    bench.engine.tracker = Tracker()
    bench.run(choices=['left', 'right', 'stop'])
    bench.engine.tracker.settle()
    assert bench.engine.tracker.shown.state() == []


def test_forced_tokens_at_the_end_take_no_time():
    """The only choice is there with its first token, however long it is and whatever little time is left."""
    text = 'kitchen, then the hall and the office'
    bench = FormBench(1)
    outcome = bench.run(0.175, choices=[text], strategy=Strategy.KILL)
    assert (outcome.text, outcome.finish_reason) == (text, FinishReason.EOS) and bench.lateness_s <= 0
    assert outcome.timing.predicted_tokens == outcome.timing.generated_tokens == 1 + len(text)


def test_the_form_and_its_time_are_in_the_account():
    outcome = FormBench(2).run(response_schema=TEXTS['enums'], max_new_tokens=1000)
    timing = outcome.timing
    assert outcome.finish_reason is FinishReason.EOS
    assert timing.forced_tokens > 10 and timing.mask_s > 0 and timing.grammar_s >= 0
    least = len('{"action":"go","room":3,"mode":"safe"}')
    assert timing.predicted_tokens > least  # no answer is shorter


@pytest.mark.parametrize('form', [{'choices': ['left', 'to the right']}, {'response_schema': TEXTS['enums']},
                                  {'response_schema': '{}'}, {'regex': '[a-z]{3,9}'}, {}], ids=str)
@pytest.mark.parametrize('budget_s', [0.2, 0.5, 1.0, 10.0])
def test_an_estimate_is_the_plan_that_the_engine_makes(form, budget_s):
    bench, sampling = FormBench(1), Sampling(masked=bool(form))
    plan, _, n_x, prefill_s, _ = bench.engine.estimate(bench.request(budget_s, sampling=sampling, **form))
    bench.run(budget_s, sampling=sampling, **form)
    assert plan == bench.plans[0] and n_x == bench.plans[0].n_x and prefill_s == pytest.approx(0.11)


def test_an_estimate_keeps_time_free_for_completing_an_answer():
    bench, form = FormBench(1), {'response_schema': '{}', 'sampling': Sampling(masked=True)}

    def fitting(budget_s):
        return bench.engine.estimate(bench.request(budget_s, **form))[0].fitting_tokens

    with_end = fitting(0.5)
    bench.model.grammars = NoClosing(bench.model.grammars)
    assert fitting(0.5 - QUICK_S) == with_end < fitting(0.5 - QUICK_S + 2 * TIMES.step(1000))


def test_a_form_that_cannot_be_followed_ends_its_goal_alone():
    bench = FormBench()
    bad = bench.run(response_schema='{"type": "rubbish"}')
    assert bad.error_code is ErrorCode.INVALID_GOAL and 'response_schema' in bad.error_msg
    assert bench.run(choices=['left']).text == 'left'


def test_an_engine_without_grammars_says_so():
    outcome = Bench().run(response_schema='{}')
    assert outcome.error_code is ErrorCode.INVALID_GOAL and 'not served here' in outcome.error_msg
