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

"""The check of quick steps that runs on a new device, tried with a stand-in for its graphs."""
from __future__ import annotations

import pytest
import tiny_models

from timebill_ros.bench import step_check
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.steps import captured
from timebill_ros.inference.steps.comparison import Comparison


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(step_check.shapes, 'WORDS', 80)
    one = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1)
    one.cache.clear_on_reset()
    one.reset()
    one.prefill([(11 + 37 * i) % 80 for i in range(step_check.N_PROMPT)], chunk_tokens=step_check.N_PROMPT)
    return one


@pytest.fixture
def step(model, monkeypatch):
    monkeypatch.setattr(captured, 'capturer', step_check.stand_in)
    return captured.CapturedStep(model._reader, model.cache)


def test_every_planted_fault_is_refused_and_none_is_not(model, step):
    rows = step_check.check(model, step)
    assert [row['fault'] for row in rows if not row['refused']] == ['none']
    assert all(row['right'] for row in rows)


def test_every_fault_between_two_steps_is_refused_and_none_is_not(model, step):
    rows = step_check.check_chain(model, step)
    assert [row['fault'] for row in rows if not row['refused']] == ['none between steps']
    assert all(row['right'] for row in rows)


def test_a_comparison_that_sees_nothing_is_told(model, step, monkeypatch):
    monkeypatch.setattr(Comparison, 'check', lambda *arguments: None)
    assert sum(row['right'] for row in step_check.check(model, step)) == 1


def test_what_is_left_in_the_cache_changes_no_answer(model, step):
    assert step_check.answers_alike(model, step) == {
        'tokens': step_check.N_ANSWER, 'as_modules': step_check.N_ANSWER,
        'as_modules_after_nan': step_check.N_ANSWER, 'right': True}
    for layer in model.cache.layers:
        layer.clears = False
    assert not step_check.answers_alike(model, step)['right'], 'slots that are not cleared'


def test_the_reason_for_a_kind_of_step_is_collected(tmp_path, monkeypatch):
    monkeypatch.setattr('timebill_ros.inference.steps.toolkit.shutil.which', lambda name: None)
    with step_check.notes() as said:
        CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1, compiled_steps=tmp_path)
    assert any('not without a C++ compiler' in sentence for sentence in said)
