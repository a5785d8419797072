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

"""Lengths learned from hidden states, from the settings to the file that keeps them."""
import math
import time

import numpy as np
import pytest
import tiny_models
from loading_settings import chosen

from timebill_ros.codes import ErrorCode
from timebill_ros.deadline import Deadline
from timebill_ros.inference import prompt_state
from timebill_ros.inference.control import Control
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.steps.layer_calls import NotSplit
from timebill_ros.length.hidden_state_head import FEWEST
from timebill_ros.length.state_file import facts_of
from timebill_ros.length.state_labels import StateLabels
from timebill_ros.request import Request
from timebill_ros.training import state_labelling
from timebill_ros.training.state_labelling import Target, answer_share
from timebill_ros.worker import loading


def serve(engine, n, first=0):
    """Answer `n` prompts of different words and learn from them."""
    outcomes = []
    for i in range(first, first + n):
        now = time.monotonic()
        request = Request(str(i), now, now + 60, prompt=' '.join(f'w{6 + (i * 7 + k) % 90}' for k in range(5 + i % 9)),
                          max_new_tokens=24)
        outcomes.append(engine.run(request, Control(Deadline(request.deadline_s))))
        engine.lengths.learn()
        engine.lengths.states.wait()
    return outcomes


def states_file(cache):
    return [path for path in (cache / 'state').glob('*') if path.suffix == '.safetensors']


def test_goals_that_are_served_are_learned_from_and_kept(tmp_path, measured):
    values = chosen(tmp_path, length_predictor='states')
    loaded = loading.load_engine(values)
    assert 'learned lengths' in loaded.description
    engine = loaded.engine
    outcomes = serve(engine, 2 * FEWEST)
    assert all(outcome.error_code is ErrorCode.NONE for outcome in outcomes)
    assert math.isnan(outcomes[0].timing.prediction_s), 'before anything was learned, nothing is predicted'
    assert 0 < outcomes[-1].timing.prediction_s < 1 and outcomes[-1].timing.hidden_prediction_s == 0
    labels = engine.lengths.states.labels
    _, lengths, whole = labels.snapshot()
    assert lengths.tolist() == [outcome.timing.generated_tokens for outcome in outcomes]
    assert whole.tolist() == [outcome.finish_reason.name == 'EOS' for outcome in outcomes]
    engine.lengths.save(ends=True)
    path, = states_file(tmp_path)
    assert facts_of(path)['model'] == engine.model.name and path.stat().st_size <= labels.longest_file
    again = loading.load_engine(values).engine
    assert len(again.lengths.states.labels) == 2 * FEWEST and again.lengths.states.head is not None
    again.lengths.forget()
    assert len(again.lengths.states.labels) == 0


def test_the_states_that_are_learned_are_those_of_the_prompts(tmp_path, measured):
    engine = loading.load_engine(chosen(tmp_path, length_predictor='states')).engine
    serve(engine, 3)
    states, *_ = engine.lengths.states.labels.snapshot()
    model = engine.model
    ids = model.tokenizer.encode(' '.join(f'w{6 + 7 + k}' for k in range(6)), add_special_tokens=False)
    model.reset()
    model.prefill(ids, chunk_tokens=64)
    state = model.prompt_state.read()
    np.testing.assert_allclose(states[1], state / np.sqrt((state ** 2).mean()), rtol=0.01, atol=0.01)
    assert abs(states[1] - states[2]).max() > 0.1


def test_with_states_the_profile_is_that_without_a_predictor(tmp_path, measured):
    without = loading.load_engine(chosen(tmp_path, length_predictor='none'))
    with_states = loading.load_engine(chosen(tmp_path, length_predictor='states'))
    assert len(measured) == 1 and without.profile.identity == with_states.profile.identity
    assert without.engine.lengths.states is None and without.engine.model.prompt_state is None


def test_what_is_not_to_be_kept_is_not_kept(tmp_path, measured):
    engine = loading.load_engine(chosen(tmp_path, length_predictor='states', keep_state=False)).engine
    serve(engine, 2)
    engine.lengths.save(ends=True)
    assert not (tmp_path / 'state').exists()


def test_an_estimate_reads_no_prompt_and_takes_earlier_lengths(tmp_path, measured):
    engine = loading.load_engine(chosen(tmp_path, length_predictor='states')).engine
    serve(engine, 2 * FEWEST)
    before = engine.lengths.states.labels.seen
    plan, *_ = engine.estimate(Request('e', 0.0, 60.0, prompt='w9 w10', max_new_tokens=24))
    expected = engine.tracker.lengths.distribution(2, 24)
    assert plan.predicted_tokens == min(expected.median(), 24) and engine.lengths.states.labels.seen == before


def test_none_is_none_where_a_model_has_a_predictor_of_its_own(tmp_path, measured, monkeypatch):
    choice = loading.choose_model(chosen(tmp_path))
    monkeypatch.setattr(loading, 'choose_model', lambda settings: type(choice)(
        choice.model, str(tiny_models.predictor_directory())))
    assert loading.load_model(chosen(tmp_path))[1] is not None
    for name in ('none', 'states'):
        model, predictor, _ = loading.load_model(chosen(tmp_path, length_predictor=name))
        assert predictor is None and (model.prompt_state is not None) == (name == 'states')


def test_a_model_without_a_list_of_layers_is_refused_with_a_sentence(tmp_path, measured, monkeypatch):
    def none(model, n_layers):
        raise NotSplit('it has 0 lists of 3 layers')

    monkeypatch.setattr(prompt_state, 'find_layers', none)
    with pytest.raises(ModelError, match='length_predictor states: .*it has 0 lists of 3 layers'):
        loading.load_model(chosen(tmp_path, length_predictor='states'))


@pytest.mark.parametrize('kind', ['mamba', 'gpt_oss', 'gemma3'])
def test_models_on_a_cache_of_their_own_have_states_too(kind, tmp_path, measured):
    engine = loading.load_engine(chosen(tmp_path, model=str(tiny_models.directory(kind)),
                                        length_predictor='states')).engine
    assert all(outcome.error_code is ErrorCode.NONE for outcome in serve(engine, 3))
    assert len(engine.lengths.states.labels) == 3


# -- labels that were made before -------------------------------------------------------------------------------------

def test_a_node_begins_with_the_labels_of_a_file_and_goes_on_with_its_own(tmp_path, measured, monkeypatch):
    monkeypatch.setattr(state_labelling.logging, 'disable', lambda: None)  # it is not alone in its process here
    name, file = str(tiny_models.directory('qwen2')), tmp_path / 'labels.safetensors'
    texts = [' '.join(f'w{6 + (i * 7 + k) % 90}' for k in range(3 + i)) for i in range(FEWEST)]
    target = Target(name, 'cpu', max_new_tokens=24, compiles=False)
    found = [label for label, _ in answer_share(list(enumerate(texts)), target)]
    values = chosen(tmp_path / 'cache', length_predictor=str(file))
    width, depth = len(found[0].state), loading.load_engine({**values, 'length_predictor': 'states'}).engine.lengths \
        .states.labels.depth
    made = StateLabels(width, depth)
    for label in found:
        made.add(label.state, label.n, whole=label.whole)
    made.save(file, name)
    engine = loading.load_engine(values).engine
    assert len(engine.lengths.states.labels) == FEWEST and engine.lengths.states.head is not None
    serve(engine, 3)
    engine.lengths.save(ends=True)
    again = loading.load_engine(values).engine
    assert len(again.lengths.states.labels) == FEWEST + 3, 'what it has learned since is kept'


@pytest.mark.parametrize('what', ['missing', 'no labels', 'another model'])
def test_a_file_of_labels_that_cannot_be_used_is_told_and_stays(what, tmp_path, measured):
    path = tmp_path / 'labels.safetensors'
    if what == 'no labels':
        path.write_bytes(b'nothing of the kind')
    elif what == 'another model':
        other = StateLabels(7, 1)
        other.add(np.ones(7), 5, whole=True)
        other.save(path, 'other')
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(ModelError, match=f'length_predictor {path} cannot be used.*--states'):
        loading.load_engine(chosen(tmp_path, length_predictor=str(path)))
    assert (path.read_bytes() if path.exists() else None) == before
