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

"""What the worker tells the node of costs: tables as the profile, and a bound that no prompt exceeds."""
from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import byte_tokenizers
import pytest
from chat_templates import PLAIN, QWEN3, TOOLS, WITH_TOOLS
from engine_bench import Bench
from mock_model import TIMES

from timebill_ros.codes import Thinking
from timebill_ros.dispatch.bound_estimate import Costs
from timebill_ros.inference.prompt import PromptEncoder
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.planning.tracker import Tracker
from timebill_ros.request import SAMPLING_KINDS, Request
from timebill_ros.worker.cost_facts import (
    _template_tokens,
    _thinks,
    _tools_tokens,
    cost_facts,
    learned_facts,
    pause_table,
)


@pytest.mark.parametrize('n', [0, 1, 17, 100, 999, 4000])
def test_the_tables_are_those_of_the_profile(n):
    costs = Costs(cost_facts(Bench().engine))
    assert costs.step(n) == pytest.approx(TIMES.step(n)) and costs.eviction(n) == pytest.approx(TIMES.eviction(n))
    assert TIMES.prefill(n) <= costs.prefill(n) + 1e-12
    assert costs.prefill(n) <= 1.3 * TIMES.prefill(n) + 2 * TIMES.d + TIMES.prefill(64)


def test_lengths_of_any_prompt():
    alone, predicting = Bench().engine, Bench(predictions={}).engine
    assert learned_facts(alone)['predicted_tokens'] is None
    facts, marginal = learned_facts(predicting), predicting.predictor.marginal()
    assert facts['predicted_tokens'] == marginal.median()
    assert facts['pessimistic_tokens'] == min(2 * marginal.median(), predicting.model.max_context)
    assert facts['told'] == {name: facts[name] for name in ('time_bound', 'reserve_s', 'pessimistic_tokens')}


def test_the_worst_case_of_any_prompt_is_told_at_the_miss_rate():
    engine = Bench(predictions={}).engine
    engine.predictor.marginal = lambda: LengthDistribution(10, [0.0, 0.999, 0.001])
    engine.tracker = Tracker(scores=[0.1] * 80 + [50.0] * 20)
    for _ in range(40):
        engine.tracker.shown.observe(0.5, True)
    facts = learned_facts(engine)
    assert facts['pessimistic_tokens'] < facts['told']['pessimistic_tokens']
    assert facts['time_bound'] <= facts['told']['time_bound']


def test_factors_are_told_by_kind_of_sampling():
    engine = Bench().engine
    for _ in range(9):
        engine.tracker.steps.observe('top_k', 0.04, 0.02)
    factors = learned_facts(engine)['timing_factors']
    assert factors == {**dict.fromkeys(SAMPLING_KINDS, 1.0), 'top_k': pytest.approx(2.0)}


def test_a_draw_takes_longer_by_its_choice_and_by_a_penalty():
    engine = Bench().engine
    engine.times = replace(engine.times, draws={'greedy': 1.0, 'top_p': 3.0, 'greedy+penalty': 1.5})
    draws = cost_facts(engine)['draws']
    assert tuple(draws) == SAMPLING_KINDS
    assert (draws['greedy'], draws['top_p'], draws['greedy+penalty'], draws['top_p+penalty']) == (0.0, 2.0, 0.5, 2.5)


class Model:
    """Renders and tokenizes; no more is asked of a model here."""

    def __init__(self, tokenizer):
        encoder = PromptEncoder('test', tokenizer, 1 << 20)
        self.render, self.tokenize, self.chat = encoder.render, encoder.tokenize, encoder.chat


@pytest.mark.parametrize('text', ['', 'a', 'no such words', '\u00e4\u20ac\U0001f600', 'x' * 500])
@pytest.mark.parametrize('n_messages', [1, 2, 5])
def test_no_prompt_has_more_tokens_than_the_bound(tokenizer, text, n_messages):
    model = Model(tokenizer)
    once, each = _template_tokens(model)
    messages = [{'role': 'user' if i % 2 == 0 else 'assistant', 'content': text + ' a'} for i in range(n_messages)]
    request = Request('asked', 0.0, 1.0, messages=messages)
    costs = Costs({**{name: [(0, 0.0), (1, 0.0)] for name in ('prefill', 'step', 'eviction')}, 'draws': {},
                   'window': None, 'min_kept': 1, 'max_ratio': 1.0, 'max_context': 1 << 20,
                   'template_tokens': once, 'message_tokens': each})
    assert len(model.tokenize(model.render(request), is_chat=True)) <= costs.token_bound(request)


def test_thinking_is_told_as_the_template_does_it():
    tokenizer = byte_tokenizers.byte_level()
    tokenizer.chat_template = QWEN3
    model = Model(tokenizer)
    assert _thinks(model) == [Thinking.DEFAULT, Thinking.ON]
    tokenizer.chat_template = PLAIN
    assert _thinks(Model(tokenizer)) == []
    facts = cost_facts(Bench().engine)
    assert (facts['thinks'], facts['closing_tokens']) == ([], 0)


@pytest.mark.parametrize('thinking', Thinking)
def test_a_section_that_the_prompt_begins_or_ends_is_within_the_bound(thinking):
    tokenizer = byte_tokenizers.byte_level()
    tokenizer.chat_template = QWEN3
    model = Model(tokenizer)
    once, each = _template_tokens(model)
    request = Request('asked', 0.0, 1.0, messages=[{'role': 'user', 'content': 'a'}], thinking=thinking)
    assert len(model.tokenize(model.render(request), is_chat=True)) <= once + each + 1


@pytest.mark.parametrize('template', WITH_TOOLS.values(), ids=WITH_TOOLS)
@pytest.mark.parametrize('n', [1, 3])
def test_tools_are_within_the_bound(template, n):
    tokenizer = byte_tokenizers.byte_level()
    tokenizer.chat_template = template
    model = Model(tokenizer)
    once, each = _template_tokens(model)
    request = Request('asked', 0.0, 1.0, messages=[{'role': 'user', 'content': 'a'}], tools=json.dumps(TOOLS[:n]))
    costs = Costs({**{name: [(0, 0.0), (1, 0.0)] for name in ('prefill', 'step', 'eviction')}, 'draws': {},
                   'window': None, 'min_kept': 1, 'max_ratio': 1.0, 'max_context': 1 << 20, 'template_tokens': once,
                   'message_tokens': each, 'tools_tokens': _tools_tokens(model)})
    assert len(model.tokenize(model.render(request), is_chat=True)) <= costs.token_bound(request)


@pytest.mark.parametrize(('room', 'table'), [(None, []), (100, [(0, 0.001), (100, 0.002)]), (1 << 20, [
    (0, 0.001), (4000, 0.041)])])
def test_what_giving_way_costs(room, table):
    engine = Bench().engine
    engine.model.asides = None if room is None else SimpleNamespace(room=room)
    engine.times = replace(TIMES, h_1=1e-5, h_0=1e-3)
    assert pause_table(engine) == [(n, pytest.approx(seconds)) for n, seconds in table]
