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


"""The looks at answers that are made for labels: one at each age, of the same states whichever way they are decoded."""
import math
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models
import torch

from timebill_ros.codes import FinishReason
from timebill_ros.deadline import Deadline
from timebill_ros.inference.answer_state import AnswerState
from timebill_ros.inference.control import Control
from timebill_ros.inference.decode import decode
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.sampling import Sampler
from timebill_ros.inference.side_by_side import SideBySide
from timebill_ros.inference.text import StopStrings
from timebill_ros.length.look_labels import AGES
from timebill_ros.request import Sampling
from timebill_ros.training.answer_looks import LOOK_TOKENS, OneAnswersLooks, SideBySideLooks

PROMPTS = [[i * 7 % 90 + 6 for i in range(n)] for n in (20, 33, 41)]
CAP = 70


def test_every_age_is_looked_at():
    assert all(age % LOOK_TOKENS == 0 for age in AGES)


@pytest.fixture(scope='module')
def model():
    one = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1, dtype='float32')
    one.eos_ids = frozenset()
    return one


def one_by_one(model):
    found = []
    for ids in PROMPTS:
        model.reset()
        logits = model.prefill(ids, chunk_tokens=64)
        model.answer_state = AnswerState(model.hidden, model.stream)
        looks, control = OneAnswersLooks(model.answer_state), Control(Deadline(math.inf), tokens=[0] * CAP)
        decode(model, Sampler(Sampling(), model.device), logits, position=len(ids), n_kv=len(ids), cap=CAP,
               cap_reason=FinishReason.LENGTH, step_s=lambda n_kv: 0.0, stops=StopStrings(model.tokenizer, ()),
               control=control, replan_tokens=LOOK_TOKENS, replan=looks)
        found.append((control.tokens, looks.found))
    model.answer_state = None
    return found


def test_side_by_side_they_are_those_of_the_token_loop(model):
    looks = SideBySideLooks()
    batch, over = SideBySide(model, rows=2, after_step=looks), []
    for number, ids in enumerate(PROMPTS):  # the third begins when the others are over
        while len(batch.rows) == 2:
            over += batch.step()
        model.reset()
        batch.begin(number, model.prefill(ids, chunk_tokens=64), len(ids), CAP)
    while batch.rows:
        over += batch.step()
    assert len(over) == 3
    expected = one_by_one(model)
    for row in over:
        tokens, states = expected[row.item]
        assert row.tokens == tokens
        found = looks.taken(row)
        assert [n for n, _ in found] == [n for n, _ in states] == [16, 32, 64]
        for (_, one), (_, other) in zip(found, states, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-2)
        assert abs(found[0][1] - found[1][1]).max() > 0.1
        assert looks.taken(row) == [], 'what is over is forgotten'
    assert not looks._sums


def test_a_step_without_states_is_no_look():
    looks, row = SideBySideLooks(), SimpleNamespace(tokens=[0] * 16)
    looks([row], None)
    assert looks.taken(row) == []
    looks([row], torch.ones(1, 4, dtype=torch.bfloat16))
    (n, states), = looks.taken(row)
    assert n == 16 and states.shape == (8,)
