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

"""Answers to prompts, made once and written down: side by side or alone, with the states of all candidate layers."""
import json

import numpy as np
import pytest
import tiny_models

from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prompt_state import PromptState
from timebill_ros.length.hidden_state_head import normalised
from timebill_ros.training.answering import Target, answer_share, answers_to, key_of

TEXTS = [' '.join(f'w{6 + (i * 7 + k) % 90}' for k in range(3 + i)) for i in range(12)]
CAP = 24
pytestmark = pytest.mark.usefixtures('answering_here')


@pytest.fixture
def target():
    return Target(str(tiny_models.directory('qwen2')), 'cpu', 'float32', max_new_tokens=CAP)


@pytest.mark.parametrize('kind', ['qwen2', 'gemma3', 'mamba'])
def test_answers_are_the_models_own_and_states_those_of_its_prefill(kind, tmp_path):
    name = str(tiny_models.directory(kind))
    found = answers_to(Target(name, 'cpu', 'float32', max_new_tokens=CAP, rows=4), TEXTS, tmp_path / 'a.jsonl')
    model = CausalLM(name, device='cpu', dtype='float32')
    depth, = found[0].states
    model.prompt_state = PromptState(model.model, depth)
    for i in (0, 5, 11):
        ids = model.tokenize(TEXTS[i], is_chat=True)
        expected = tiny_models.generate(kind, ids, CAP)
        assert (found[i].n, found[i].whole) == (len(expected), expected[-1] == tiny_models.EOS)
        assert found[i].prompt_tokens == len(ids) and found[i].key == key_of(TEXTS[i])
        model.reset()
        model.prefill(ids, chunk_tokens=5)
        np.testing.assert_allclose(found[i].states[depth], normalised(model.prompt_state.read()), atol=2e-3)


def test_it_goes_on_where_it_stopped_and_with_more_prompts(target, tmp_path, answering_here):
    journal, seen = tmp_path / 'deep' / 'answers.jsonl', []
    first = answers_to(target, TEXTS[:8], journal, on_progress=seen.append)
    assert seen == list(range(9))
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text(''.join(lines[:6]) + lines[6][:20])  # killed while it wrote the sixth answer
    done = {json.loads(line)['prompt'] for line in lines[1:6]}
    again = answers_to(target, TEXTS, journal, on_progress=seen.append)
    assert {key_of(text) for text in answering_here[1]} == {key_of(text) for text in TEXTS} - done
    assert seen[9:] == list(range(5, 13))
    assert [(a.key, a.n, a.whole) for a in again[:8]] == [(a.key, a.n, a.whole) for a in first]
    assert answers_to(target, TEXTS[3:5] * 2, journal)[3].n == again[4].n
    assert len(answering_here) == 2, 'nothing is answered twice'
    with pytest.raises(ValueError, match=r"max_new_tokens': 24.*not of .*max_new_tokens': 25.*delete it"):
        answers_to(Target(target.name, 'cpu', 'float32', max_new_tokens=CAP + 1), TEXTS, journal)


def test_a_prompt_that_does_not_fit_has_no_states(target, tmp_path):
    context = CausalLM(target.name, device='cpu').max_context
    long = ' '.join(['w7'] * (context + 1))
    near = ' '.join(['w7'] * (context - 3))
    found = answers_to(target, [TEXTS[0], long, near, TEXTS[1]], tmp_path / 'a.jsonl')
    assert [answer.states is None for answer in found] == [False, True, False, False]
    assert 0 < found[2].n <= 3, 'it is cut where the context ends'


def test_each_process_takes_its_share(target):
    assert {answer.key for answer in answer_share([TEXTS[3], TEXTS[1]], target)} == {key_of(TEXTS[3]), key_of(TEXTS[1])}
