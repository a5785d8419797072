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

"""Labels of hidden states made from prompts, and what is told of them."""
import json

import numpy as np
import pytest
import tiny_models

from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prompt_state import PromptState
from timebill_ros.length.state_labels import StateLabels
from timebill_ros.training import state_labelling, train_length_predictor
from timebill_ros.training.journal import beside
from timebill_ros.training.state_labelling import Target, answer_share, labels_of

TEXTS = [' '.join(f'w{6 + (i * 7 + k) % 90}' for k in range(3 + i)) for i in range(12)]


@pytest.fixture(scope='module')
def target():
    return Target(str(tiny_models.directory('qwen2')), 'cpu', max_new_tokens=24, compiles=False)


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Answer in this process: starting others is tested in test_parallel.py."""
    shares = []

    def spread(work, items, n_processes, *arguments):
        shares.append([number for number, _ in items])
        return work(items, *arguments)

    monkeypatch.setattr(state_labelling, 'spread', spread)
    monkeypatch.setattr(state_labelling.logging, 'disable', lambda: None)
    return shares


def test_the_labels_are_those_of_the_models_own_prefill_and_decoding(target, tmp_path):
    states, lengths, whole = labels_of(target, TEXTS, tmp_path / 'labels.safetensors').snapshot()
    model = CausalLM(target.name, device='cpu')
    model.prompt_state = PromptState(model.model)
    for i in (0, 5, 11):
        model.reset()
        model.prefill(model.tokenize(TEXTS[i], is_chat=True), chunk_tokens=5)
        state = model.prompt_state.read()
        np.testing.assert_allclose(states[i], state / np.sqrt(np.square(state).mean()), atol=2e-3)
    assert set(lengths[~whole]) <= {24} and 0 < lengths.min()


def test_it_goes_on_where_it_stopped(target, tmp_path, here):
    out, seen = tmp_path / 'deep' / 'labels.safetensors', []
    whole = labels_of(target, TEXTS, out, on_progress=seen.append).snapshot()
    lines = beside(out).read_text().splitlines(keepends=True)
    beside(out).write_text(''.join(lines[:6]) + lines[6][:20])  # killed while it wrote the sixth label
    out.unlink()
    again = labels_of(target, TEXTS, out).snapshot()
    assert here == [list(range(12)), list(range(5, 12))] and seen == list(range(13))
    assert all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True)) and out.exists()
    with pytest.raises(ValueError, match='delete it to begin anew'):
        labels_of(target, TEXTS[:5], out)


def test_a_prompt_that_does_not_fit_is_left_out(target, tmp_path):
    context = CausalLM(target.name, device='cpu').max_context
    long = ' '.join(['w7'] * (context + 1))
    made = labels_of(target, [TEXTS[0], long, TEXTS[1]], tmp_path / 'a.safetensors')
    assert len(made) == 2
    with pytest.raises(ValueError, match='none of the 1 prompts fits'):
        labels_of(target, [long], tmp_path / 'b.safetensors')


def test_each_process_takes_its_share(target):
    found = list(answer_share([(3, TEXTS[3]), (1, TEXTS[1])], target))
    assert [label.number for label, _ in found] == [3, 1] and {depth for _, depth in found} == {found[0][1]}


def test_the_command_says_what_the_states_are_worth(target, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(state_labelling, 'steps_directory', lambda: None)
    prompts = tmp_path / 'prompts.jsonl'
    prompts.write_text(''.join(json.dumps({'prompt': text}) + '\n' for text in TEXTS))
    arguments = ['--states', '--target', target.name, '--prompts', str(prompts), '--max-new-tokens', '24', '--device',
                 'cpu', '--limit', '10', '--out']
    train_length_predictor.main([*arguments, str(tmp_path / 'labels.safetensors')])
    told = capsys.readouterr().out
    assert '\n10 labels: ' in told and f'length_predictor:={tmp_path / "labels.safetensors"}' in told
    with pytest.raises(SystemExit):
        train_length_predictor.main([*arguments, str(tmp_path / 'labels')])
    assert '.safetensors' in capsys.readouterr().err
    arguments[arguments.index('24')] = '0'
    with pytest.raises(SystemExit):
        train_length_predictor.main([*arguments, str(tmp_path / 'labels.safetensors')])
    assert '--max-new-tokens 0' in capsys.readouterr().err


@pytest.mark.parametrize(('n', 'differ', 'words'), [
    (5, True, 'too few'), (60, False, 'do not tell long answers from short ones'), (60, True, 'tokens smaller')])
def test_the_account_of_labels(n, differ, words):
    rng, labels = np.random.default_rng(0), StateLabels(8, 2)
    for i in range(n):
        state = rng.normal(size=8)
        state[0] = 3.0 if i % 2 else -3.0
        length = (100 + i if i % 2 else 10 + i) if differ else int(rng.integers(1, 100))
        labels.add(state, length, whole=i % 5 > 0)
    assert words in state_labelling.account(labels)
