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
from tiny_training import train_command

from timebill_ros.length.state_file import facts_of
from timebill_ros.length.state_labels import StateLabels
from timebill_ros.training import state_labelling
from timebill_ros.training.answering import Answer, Target, answers_to
from timebill_ros.training.journal import beside
from timebill_ros.training.state_labelling import chosen_labels, labels_of

TEXTS = [' '.join(f'w{6 + (i * 7 + k) % 90}' for k in range(3 + i)) for i in range(12)]
pytestmark = pytest.mark.usefixtures('answering_here')


@pytest.fixture(scope='module')
def target():
    return Target(str(tiny_models.directory('qwen2')), 'cpu', max_new_tokens=24)


def test_labels_are_the_answers_in_the_order_of_the_prompts(target, tmp_path):
    out = tmp_path / 'labels.safetensors'
    states, lengths, whole = labels_of(target, TEXTS, out).snapshot()
    answers = answers_to(target, TEXTS, beside(out))
    depth = int(facts_of(out)['depth'])
    assert lengths.tolist() == [answer.n for answer in answers] and whole.tolist() == [a.whole for a in answers]
    assert all((state == answer.states[depth]).all() for state, answer in zip(states, answers, strict=True))
    again = StateLabels(states.shape[1], depth)
    again.begin_with(out)
    assert len(again) == len(TEXTS)


def test_labels_bring_the_states_of_the_answers_too(target, tmp_path):
    """A node that begins with them knows from the first goal on what is left of an answer."""
    out = tmp_path / 'labels.safetensors'
    made = labels_of(target, TEXTS, out)
    longer = [answer for answer in answers_to(target, TEXTS, beside(out)) if answer.n > 16]
    assert longer and made.looks.count(16) == len(longer)
    states, left, whole = made.looks.at(16)
    assert left.tolist() == [answer.n - 16 for answer in longer] and whole.tolist() == [a.whole for a in longer]
    assert (states[0] == np.concatenate([longer[0].states[made.depth], longer[0].looks[0][1]])).all()
    again = StateLabels(made.width, made.depth, made.last_width)
    again.begin_with(out)
    assert again.looks.count(16) == len(longer)


def test_without_a_prompt_that_fits_there_are_no_labels(target, tmp_path):
    long = ' '.join(['w7'] * 600)
    assert len(labels_of(target, [TEXTS[0], long, TEXTS[1]], tmp_path / 'a.safetensors')) == 2
    with pytest.raises(ValueError, match='none of the 1 prompts fits'):
        labels_of(target, [long], tmp_path / 'b.safetensors')


def test_labels_have_the_states_of_the_layer_that_tells_most():
    rng, answers = np.random.default_rng(0), []
    for i in range(60):
        n = int(rng.integers(1, 100))
        states = {depth: rng.normal(size=8).astype(np.float16) for depth in (3, 4, 5)}
        states[5][0] = np.log(n)
        answers.append(Answer(str(i), 10, states, n, True))
    labels = chosen_labels([Answer('too long'), *answers])
    assert labels.depth == 5 and (labels.snapshot()[0][0] == answers[0].states[5]).all()


def test_the_command_says_what_the_states_are_worth(target, tmp_path, capsys):
    prompts = tmp_path / 'prompts.jsonl'
    prompts.write_text(''.join(json.dumps({'prompt': text}) + '\n' for text in TEXTS))
    arguments = ['--states', '--target', target.name, '--prompts', str(prompts), '--max-new-tokens', '24', '--device',
                 'cpu', '--limit', '10', '--out']
    assert train_command([*arguments, str(tmp_path / 'labels.safetensors')]) == 0
    told = capsys.readouterr().out
    assert '\n10 labels: ' in told and f'length_predictor:={tmp_path / "labels.safetensors"}' in told
    assert train_command([*arguments, str(tmp_path / 'labels')]) == 1
    assert '.safetensors' in capsys.readouterr().err
    arguments[arguments.index('24')] = '0'
    with pytest.raises(SystemExit):
        train_command([*arguments, str(tmp_path / 'labels.safetensors')])
    assert "--max-new-tokens: '0' is no whole number from 1 up" in capsys.readouterr().err


@pytest.mark.parametrize(('n', 'differ', 'words'), [
    (5, True, 'too few'), (60, False, 'do not tell long answers from short ones'), (60, True, 'a log loss of')])
def test_the_account_of_labels(n, differ, words):
    labels = labels_that_tell(n, differ)
    assert words in state_labelling.account(labels)


def test_scores_of_labels_left_out():
    told, untold = (state_labelling.left_out_scores(*labels_that_tell(80, differ).snapshot())
                    for differ in (True, False))
    assert told[0].crps < 0.6 * told[1].crps and told[0].absolute_error < 0.6 * told[1].absolute_error
    assert told[0].log_loss < told[1].log_loss
    assert untold[0].crps > 0.8 * untold[1].crps, 'what tells nothing is not judged by labels that it was fitted to'


def labels_that_tell(n, differ):
    rng, labels = np.random.default_rng(0), StateLabels(8, 2)
    for i in range(n):
        state = rng.normal(size=8)
        state[0] = 3.0 if i % 2 else -3.0
        length = (100 + i if i % 2 else 10 + i) if differ else int(rng.integers(1, 100))
        labels.add(state, length, whole=i % 5 > 0)
    return labels
