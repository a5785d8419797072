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

"""A thinking section through the engine: it takes the time that the answer leaves, and the answer is always written."""
import json
import os
from pathlib import Path

import byte_tokenizers
import pytest
import tiny_models
import torch
from chat_templates import QWEN3
from engine_bench import N_X, Bench
from mock_model import EOS, TIMES, ByteTokenizer, FakeClock, MockModel, MockPredictions
from tokenizers import AddedToken

from timebill_ros.codes import ErrorCode, FinishReason, Strategy, Thinking, Verdict
from timebill_ros.engine import Engine
from timebill_ros.inference.chat_facts import ChatFacts
from timebill_ros.inference.thinking_section import ThinkingSection
from timebill_ros.planning.tracker import Tracker
from timebill_ros.request import Sampling

SECTION = ThinkingSection('<think>\n', '\n</think>\n\n', 'enable_thinking', True)
ANSWER = b'abcdefghijklmnopqrst'  # 20 tokens, and the end
HMM = b'hm ' * 2000
N_CLOSING = len(SECTION.closing)


class ThinkingTokenizer(ByteTokenizer):
    def __call__(self, text, add_special_tokens=True):
        return {'input_ids': list(text.encode())}

    def get_added_vocab(self):
        return {}


class ThinkingModel(MockModel):
    """Writes `thoughts`, and once its section is closed ANSWER. `slow_after`: steps after which each takes longer."""

    chat = ChatFacts(thinking=SECTION)

    def __init__(self, clock, thoughts, slow_after=10 ** 6, slow=1.0, **hooks):
        super().__init__(clock, ANSWER, **hooks)
        self.tokenizer, self.thoughts, self.written = ThinkingTokenizer(), thoughts, []
        self.slow_after, self.slow = slow_after, slow

    def prefill(self, ids, **options):
        self.written = []
        return super().prefill(ids, **options)

    def step(self, token, position):
        self.calls.append('step')
        self.positions.append(position)
        self.written.append(int(token))
        self.on_step(len(self.written))
        self._work(TIMES.step(self.n_kv) * (self.slow if len(self.written) > self.slow_after else 1.0))
        self.n_kv += 1
        return self._logits(len(self.written))

    def _logits(self, n):
        text = bytes(token for token in self.written if token < EOS)
        closed = text.find(b'</think>\n\n')
        script = [*self.thoughts] if closed < 0 else [*text[:closed + 10], *ANSWER, EOS]
        logits = torch.zeros(257)
        logits[script[n]] = 1.0
        return logits

    def synchronize(self):
        pass


class ThinkingBench(Bench):
    def __init__(self, thoughts=HMM, *, length=21, end_text='', **options):
        self.clock = FakeClock()
        self.model = ThinkingModel(self.clock, thoughts, **options)
        self.predictions = MockPredictions(self.clock, length=length)
        self.engine = Engine(self.model, self.predictions, TIMES, Tracker('fixed', k=1.5), prefill_chunk_tokens=100,
                             thinking_end_text=end_text, clock=self.clock)

    def run(self, *arguments, **fields):
        self.model.positions = []
        return super().run(*arguments, **{'prompt': 'x' * (N_X - 8) + '<think>\n', **fields})


def test_an_endless_thought_is_ended_so_that_the_answer_fits():
    """At any budget that fits the pessimistic length, the whole answer comes, in time; what is left is thought."""
    thought = []
    for budget_s in (1.5, 1.7, 1.9, 2.1, 2.4, 2.8, 3.3, 4.0, 5.0, 7.0):
        bench = ThinkingBench()
        outcome = bench.run(budget_s)
        assert outcome.timing.verdict is Verdict.FITS and bench.lateness_s <= 0
        assert (outcome.text, outcome.finish_reason) == (ANSWER.decode(), FinishReason.EOS)
        assert outcome.reasoning == (HMM[:outcome.timing.reasoning_tokens - N_CLOSING]).decode().strip()
        assert outcome.timing.generated_tokens == outcome.timing.reasoning_tokens + len(ANSWER) + 1
        assert outcome.timing.generated_tokens <= outcome.timing.length_cap
        thought.append(outcome.timing.reasoning_tokens)
    assert thought == sorted(thought) and thought[-1] > thought[0] + 100
    assert bench.model.positions == list(range(N_X, N_X + len(bench.model.positions))), 'positions go on'


def test_where_the_answer_has_no_time_to_spare_nothing_is_thought():
    bench = ThinkingBench()
    outcome = bench.run(0.5)
    assert bench.plans[0].verdict is not Verdict.FITS
    assert outcome.timing.reasoning_tokens == N_CLOSING and outcome.reasoning == ''
    assert outcome.text and ANSWER.decode().startswith(outcome.text) and bench.lateness_s <= 0


@pytest.mark.parametrize('budget_s, fits', [(0.5, False), (1.5, True), (3.0, True)])
def test_a_goal_that_leaves_its_section_out_shows_nothing_of_the_level_of_promises(budget_s, fits):
    """With a promise it would have thought, and taken longer. The worst case stays within the deadline."""
    bench, asked = ThinkingBench(), []
    bench.engine.tracker.needed = lambda first, *_: lambda: asked.append(first.verdict) or 0.2
    bench.engine.tracker.shown.observe = lambda needed, in_time: asked.append((needed, in_time))
    timing = bench.run(budget_s, delivery_margin_s=0.01).timing
    bench.engine.tracker.settle()
    assert asked == ([Verdict.FITS, (0.2, True)] if fits else [])
    assert not fits or timing.prefill_s < timing.wcet_s <= budget_s


def test_a_section_that_the_model_ends_is_left_as_it_is():
    thoughts = b'I see.' + SECTION.closing.encode()
    outcome = ThinkingBench(thoughts).run(10.0)
    assert (outcome.reasoning, outcome.text) == ('I see.', ANSWER.decode())
    assert outcome.timing.reasoning_tokens == len(b'I see.\n</think>'), 'white space behind it belongs to neither'


def test_the_end_of_a_turn_without_an_answer_is_not_taken():
    outcome = ThinkingBench([*b'no idea', EOS, *HMM]).run(10.0)
    assert (outcome.reasoning, outcome.text, outcome.finish_reason) == ('no idea', ANSWER.decode(), FinishReason.EOS)
    assert '<eos>' not in outcome.reasoning


def test_a_text_rounds_a_section_off_that_is_ended_early():
    outcome = ThinkingBench(end_text='\nI have to answer now.').run(2.0)
    assert outcome.reasoning.endswith('hm\nI have to answer now.') or 'I have to answer now.' in outcome.reasoning
    assert outcome.text == ANSWER.decode()


def test_the_goals_own_limit_is_the_answers():
    outcome = ThinkingBench().run(4.0, max_new_tokens=5)
    assert (outcome.text, outcome.finish_reason) == (ANSWER[:5].decode(), FinishReason.LENGTH)
    assert outcome.timing.reasoning_tokens > 50


def test_stop_texts_are_looked_for_in_the_answer_alone():
    outcome = ThinkingBench().run(4.0, sampling=Sampling(stop=['hm', 'k']))
    assert (outcome.text, outcome.finish_reason) == ('abcdefghij', FinishReason.STOP)
    assert 'hm' in outcome.reasoning


@pytest.mark.parametrize('slow', [1.5, 2.0])
def test_a_machine_that_becomes_slower_while_it_thinks_still_answers(slow):
    bench = ThinkingBench(slow_after=60, slow=slow)
    outcome = bench.run(6.0)
    assert bench.lateness_s <= 0 and outcome.text == ANSWER.decode()


def test_skip_next_thinks_no_longer_for_running_over():
    bench = ThinkingBench()
    outcome = bench.run(2.5, strategy=Strategy.SKIP_NEXT, max_overrun_s=5.0)
    assert outcome.text == ANSWER.decode() and bench.lateness_s <= 0


def test_a_section_is_written_with_the_weights_that_it_was_planned_with():
    """The request before has left others in use."""
    found = []
    bench = ThinkingBench(on_step=lambda n: found.append(bench.model.in_use))
    bench.model.in_use, bench.model.use_variant = 'int8', lambda name: setattr(bench.model, 'in_use', name)
    assert bench.run(4.0).text == ANSWER.decode() and set(found) == {'float32'}


def test_a_cancel_while_it_thinks():
    bench = ThinkingBench(on_step=lambda n: setattr(bench.control, 'canceled', n == 30))
    outcome = bench.run(10.0)
    assert (outcome.error_code, outcome.text) == (ErrorCode.CANCELED, '')
    assert outcome.reasoning.startswith('hm hm') and outcome.timing.reasoning_tokens == 31


def test_lengths_are_learned_without_what_was_thought():
    bench = ThinkingBench()
    bench.run(5.0, max_new_tokens=200)
    [row] = bench.engine.tracker.lengths.state()
    assert row[1:] == [200, len(ANSWER) + 1, 1]


def test_the_context_bounds_thinking_too():
    bench = ThinkingBench()
    bench.model.max_context = N_X + 100
    outcome = bench.run(100.0)
    assert outcome.text == ANSWER.decode() and outcome.timing.generated_tokens <= 100


def test_a_context_without_room_for_an_answer_is_told():
    bench = ThinkingBench()
    bench.model.max_context = N_X + 5
    outcome = bench.run(10.0)
    assert outcome.error_code is ErrorCode.PROMPT_TOO_LONG and 'thinking section' in outcome.error_msg


def test_an_estimate_reckons_with_the_end_of_a_section():
    bench = ThinkingBench()
    request = bench.request(10.0, prompt='x' * (N_X - 8) + '<think>\n')
    plain = bench.request(10.0, prompt='x' * N_X)
    assert bench.engine.estimate(request)[0].predicted_tokens == \
        bench.engine.estimate(plain)[0].predicted_tokens + N_CLOSING


# -- real models with random weights -----------------------------------------------------------------------------------

MARKS = {'added tokens': [AddedToken('<think>', special=False), AddedToken('</think>', special=False)],
         'special tokens': [AddedToken('<think>', special=True), AddedToken('</think>', special=True)],
         'plain text': []}


def build(path, marks, kind='qwen3'):
    """A model with random weights and a template that thinks; its time passes by the clock of the test alone."""
    from timebill_ros.inference.model import CausalLM
    tokenizer = byte_tokenizers.byte_level()
    tokenizer.add_tokens(marks)
    tokenizer.chat_template = QWEN3
    tiny_models.build(path, kind, vocab_size=len(tokenizer) + 3, eos_token_id=tokenizer.eos_token_id,
                      max_position_embeddings=2048)
    tokenizer.save_pretrained(path)
    generation = path / 'generation_config.json'
    generation.write_text(json.dumps({**json.loads(generation.read_text()), 'eos_token_id': tokenizer.eos_token_id}))
    return CausalLM(str(path), device='cpu', threads=1)


def with_template(source, path):
    """The model in the directory `source`, its tokenizer with a template that thinks."""
    from transformers import AutoTokenizer

    from timebill_ros.inference.model import CausalLM
    for name in ('config.json', 'generation_config.json', 'model.safetensors'):
        (path / name).symlink_to(source / name)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.chat_template = QWEN3
    tokenizer.save_pretrained(path)
    return CausalLM(str(path), device='cpu', dtype='float32', max_context_tokens=2048, threads=1)


class RealBench(Bench):
    def __init__(self, model):
        self.clock, self.model, self.predictions = FakeClock(), model, None
        self.engine = Engine(model, None, TIMES, Tracker('fixed', k=1.5), clock=self.clock)
        self._step, self._prefill = type(model).step, type(model).prefill
        model.step, model.prefill = self.step, self.prefill

    def step(self, token, position):
        self.clock.now += TIMES.step(max(self.model.cache.lengths))
        return self._step(self.model, token, position)

    def prefill(self, ids, **options):
        self.clock.now += TIMES.prefill(len(ids))
        return self._prefill(self.model, ids, **options)


BUDGETS_S = (0.4, 0.5, 0.6, 0.7, 0.9, 1.2, 1.6, 2.2, 3.0, 4.0)


def thought_at_all_budgets(bench):
    """Ask at ten budgets -> how many tokens were thought. No answer is empty whose pessimistic length fits."""
    seen = []
    for seed, budget_s in enumerate(BUDGETS_S):
        outcome = bench.run(budget_s, prompt='', messages=[{'role': 'user', 'content': 'where is the cup'}],
                            thinking=Thinking.ON, max_new_tokens=20, sampling=Sampling(temperature=1.0, seed=seed + 1))
        assert bench.lateness_s <= 1e-6 and outcome.error_code is ErrorCode.NONE
        timing = outcome.timing
        if bench.plans[0].verdict is Verdict.FITS:
            assert outcome.text or outcome.finish_reason is FinishReason.EOS
            n_w = bench.plans[0].pessimistic_tokens - len(bench.engine.closing.ids)  # of the answer
            assert outcome.finish_reason in (FinishReason.EOS, FinishReason.LENGTH) or \
                timing.generated_tokens - timing.reasoning_tokens >= n_w, 'it was cut before N_W'
        assert 0 < timing.reasoning_tokens < timing.generated_tokens
        assert '</think>' not in outcome.reasoning
        seen.append(timing.reasoning_tokens)
    return seen


@pytest.mark.parametrize(('kind', 'marks'), [*(('qwen3', marks) for marks in MARKS), ('llama', 'plain text')])
def test_a_model_with_random_weights_never_answers_with_nothing(kind, marks, tmp_path):
    """Qwen3's architecture, and that of SmolLM2, whose vocabulary has no marker."""
    assert max(thought_at_all_budgets(RealBench(build(tmp_path, MARKS[marks], kind)))) > 100


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not os.environ.get('TIMEBILL_REAL_MODEL'), reason='TIMEBILL_REAL_MODEL names no model')
def test_a_real_model_with_a_template_that_thinks_never_answers_with_nothing(tmp_path):
    bench = RealBench(with_template(Path(os.environ['TIMEBILL_REAL_MODEL']).resolve(), tmp_path))
    seen = thought_at_all_budgets(bench)
    assert len(seen) == 10 and max(seen) > 30


def test_thinking_off_thinks_nothing(tmp_path):
    bench = RealBench(build(tmp_path, MARKS['added tokens']))
    outcome = bench.run(2.0, prompt='', messages=[{'role': 'user', 'content': 'where is the cup'}],
                        thinking=Thinking.OFF, max_new_tokens=20)
    assert (outcome.reasoning, outcome.timing.reasoning_tokens) == ('', 0) and outcome.text
