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

"""Answers decoded side by side are those that are decoded alone, for every family that has our cache."""
import functools

import pytest
import tiny_models
import torch

from timebill_ros.inference import side_by_side
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.side_by_side import SideBySide, is_possible

OURS = [*tiny_models.EVICTABLE, *tiny_models.SLIDING_ONLY]
LENGTHS = (3, 40, 17, 90, 28, 61)  # tokens of prompts; two of them are beyond the windows of the sliding kinds
CAP = 24


@functools.cache
def load(kind):
    return CausalLM(str(tiny_models.directory(kind)), device='cpu', threads=1, dtype='float32')


def prompts():
    return [tiny_models.prompt_ids(n, seed=n) for n in LENGTHS]


def decode_all(model, rows, cap=CAP, **options):
    """The tokens of each prompt's answer, and how many answers there were at once at most."""
    batch, waiting, found, most = SideBySide(model, rows=rows, **options), list(enumerate(prompts())), {}, 0
    while waiting or batch.rows:
        while waiting and batch.has_room(len(waiting[0][1]) + cap):
            number, ids = waiting.pop(0)
            model.reset()
            row = batch.begin(number, model.prefill(ids, chunk_tokens=32), len(ids), cap)
            if row.is_over:
                found[number] = row.tokens
        most = max(most, len(batch.rows))
        for row in batch.step() if batch.rows else ():
            found[row.item] = row.tokens
    return [found[i] for i in range(len(LENGTHS))], most


@pytest.mark.parametrize('kind', OURS)
def test_answers_are_those_of_transformers_whatever_is_beside_them(kind):
    model = load(kind)
    expected = [tiny_models.generate(kind, ids, CAP) for ids in prompts()]
    assert is_possible(model)
    for rows, at_once in ((1, 1), (3, 3), (16, len(LENGTHS))):
        found, most = decode_all(model, rows)
        assert found == expected and most == at_once


def test_together_they_take_no_more_slots_than_the_models_own_cache():
    model = load('qwen2')
    batch = SideBySide(model)
    assert batch.has_room(10 * model.max_context), 'one answer always has room'
    ids = tiny_models.prompt_ids(40)
    while batch.has_room(len(ids) + 100):
        model.reset()
        model.prefill(ids, chunk_tokens=32)
        batch.rows.append(side_by_side.Row(None, side_by_side._copied(model.cache, len(ids) + 100), len(ids), 100))
    assert len(batch.rows) == model.max_context // 140


def test_what_entered_the_head_is_handed_over_after_each_step():
    model, seen = load('qwen2'), []
    decode_all(model, 3, cap=4, after_step=lambda rows, hidden: seen.append(([row.item for row in rows],
                                                                             hidden.clone())))
    assert seen[0][0] == [0, 1, 2] and seen[0][1].shape == (3, 32)
    ids = prompts()[1]
    model.reset()
    token = model.prefill(ids, chunk_tokens=32).argmax()
    model.step(token, len(ids))
    torch.testing.assert_close(seen[0][1][1], model.hidden, rtol=1e-4, atol=1e-4)


def test_an_answer_that_is_not_finite_is_over_and_harms_no_other(monkeypatch):
    model = load('qwen2')
    clean, _ = decode_all(model, 3)
    batch = SideBySide(model)
    for number, ids in enumerate(prompts()[:2]):
        model.reset()
        batch.begin(number, model.prefill(ids, chunk_tokens=32), len(ids), CAP)
    for layer in batch.rows[0].cache.layers:
        layer.keys.fill_(float('nan'))
    over = []
    while batch.rows:
        over += batch.step()
    spoilt, other = sorted(over, key=lambda row: row.item)
    assert not spoilt.is_finite and other.is_finite and other.tokens == clean[1]


@pytest.mark.parametrize('kind', tiny_models.REFUSED)
def test_a_model_on_a_cache_of_its_own_answers_alone(kind):
    assert not is_possible(load(kind))
    with pytest.raises(ValueError, match='a cache of its own'):
        SideBySide(load(kind))


@pytest.mark.parametrize('wrong', ['positions', 'rows'])
def test_a_model_that_computes_otherwise_in_a_batch_is_noticed(wrong, monkeypatch):
    model = load('llama')
    forward = model.model.forward

    def other(input_ids, position_ids, **options):
        if len(input_ids) > 1 and wrong == 'positions':
            position_ids = position_ids[:1].expand_as(position_ids)
        if len(input_ids) > 1 and wrong == 'rows':
            input_ids = input_ids.flip(0)
        return forward(input_ids=input_ids, position_ids=position_ids, **options)

    monkeypatch.setattr(model.model, 'forward', other)
    assert not is_possible(model)


def test_nothing_stays_on_the_model():
    model = load('qwen2')
    decode_all(model, 3, cap=2)
    assert not any(hasattr(module, 'timebill_rows') for module in model.model.modules())
