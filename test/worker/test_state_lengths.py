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
import contextlib
import logging
import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models
from loading_settings import chosen

from timebill_ros.codes import ErrorCode
from timebill_ros.deadline import Deadline
from timebill_ros.inference import prompt_state
from timebill_ros.inference.answer_state import WatchedChain
from timebill_ros.inference.control import Control
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.sampling import Sampler
from timebill_ros.inference.steps import modules
from timebill_ros.inference.steps.layer_calls import NotSplit
from timebill_ros.length.hidden_state_head import FEWEST
from timebill_ros.length.state_file import facts_of
from timebill_ros.length.state_labels import StateLabels
from timebill_ros.request import Request, Sampling
from timebill_ros.training import answering
from timebill_ros.training.answering import Target, answer_share
from timebill_ros.worker import loading, state_lengths


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


# -- answers, while they are decoded ----------------------------------------------------------------------------------

def test_answers_are_looked_at_while_they_are_decoded_and_learned_from(tmp_path, measured):
    engine = loading.load_engine(chosen(tmp_path, length_predictor='states', replan_tokens=16)).engine
    outcomes = serve(engine, 2 * FEWEST)
    learned, remaining = engine.lengths.states.labels.looks, engine.lengths.states.remaining
    longer = [outcome.timing.generated_tokens for outcome in outcomes if outcome.timing.generated_tokens > 16]
    states, left, _ = learned.at(16)
    assert len(longer) >= FEWEST and left.tolist() == [n - 16 for n in longer] and set(remaining.heads) == {16}
    width = engine.model.answer_state.width
    assert np.isfinite(states).all() and states.shape[1] == len(engine.model.prompt_state.read()) + 2 * width
    assert abs(states[1] - states[0])[-2 * width:].max() > 0.1
    engine.lengths.save(ends=True)
    again = loading.load_engine(chosen(tmp_path, length_predictor='states', replan_tokens=16)).engine.lengths.states
    again.wait()
    assert len(again.labels.looks) == len(learned) and set(again.remaining.heads) == {16}


def test_where_steps_give_no_state_answers_are_not_looked_at_and_it_is_said(tmp_path, measured, monkeypatch, caplog):
    monkeypatch.setattr(modules, 'head_inputs', lambda model: contextlib.nullcontext([]))
    with caplog.at_level(logging.INFO):
        engine = loading.load_engine(chosen(tmp_path, length_predictor='states')).engine
    assert 'is no module of its own' in caplog.text
    assert engine.model.answer_state is None and engine.lengths.states.remaining is None
    assert all(outcome.error_code is ErrorCode.NONE for outcome in serve(engine, 2))


def test_without_states_no_step_keeps_any(tmp_path, measured):
    model = loading.load_engine(chosen(tmp_path, length_predictor='none')).engine.model
    assert model.answer_state is None and not isinstance(model.chain(Sampler(Sampling(), model.device)), WatchedChain)


# -- labels that were made before -------------------------------------------------------------------------------------

def test_a_node_begins_with_the_labels_of_a_file_and_goes_on_with_its_own(tmp_path, measured, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(answering.logging, 'disable', lambda *level: None)  # it is not alone in its process here
    name = str(tiny_models.build(tmp_path / 'model', 'qwen2', num_hidden_layers=6))
    file = tmp_path / 'labels.safetensors'
    texts = [' '.join(f'w{6 + (i * 7 + k) % 90}' for k in range(3 + i)) for i in range(FEWEST)]
    depth, answers = 3, list(answer_share(texts, Target(name, 'cpu', max_new_tokens=24)))
    made = StateLabels(len(answers[0].states[depth]), depth)
    for answer in answers:
        made.add(answer.states[depth], answer.n, whole=answer.whole)
    made.save(file, name)
    values = chosen(tmp_path / 'cache', model=name, length_predictor=str(file))
    engine = loading.load_engine(values).engine
    assert engine.model.prompt_state.depth == depth, 'states are read where those of the file were'
    assert len(engine.lengths.states.labels) == FEWEST and engine.lengths.states.head is not None
    assert caplog.messages[-1] == f'{FEWEST} lengths are known at the start, from {file}'
    serve(engine, 3)
    engine.lengths.save(ends=True)
    again = loading.load_engine(values).engine
    assert len(again.lengths.states.labels) == FEWEST + 3, 'what it has learned since is kept'
    assert caplog.messages[-1].endswith(f': {file} is not read again')


@pytest.mark.parametrize('found', [True, False])
def test_where_nothing_is_named_lengths_come_from_states_if_there_are_any(found, tmp_path, measured, monkeypatch):
    def none(model, n_layers):
        raise NotSplit('it has 0 lists of 3 layers')

    if not found:
        monkeypatch.setattr(prompt_state, 'find_layers', none)
    loaded = loading.load_engine(chosen(tmp_path))
    assert (loaded.engine.lengths.states is not None) == found
    assert ('learned' if found else 'unpredicted') + ' lengths' in loaded.description


def test_on_a_gpu_states_have_to_be_asked_for():
    assert not state_lengths.by_default(SimpleNamespace(device=SimpleNamespace(type='cuda')))


def test_a_predictor_that_is_not_there_is_told_before_the_model_is_loaded(tmp_path, monkeypatch, measured):
    monkeypatch.setattr(loading, 'CausalLM', lambda *args, **options: pytest.fail('the model was loaded'))
    with pytest.raises(ModelError, match='length_predictor no/where cannot be used: it is not there'):
        loading.load_model(chosen(tmp_path, length_predictor='no/where'))


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
