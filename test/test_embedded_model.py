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

"""The embedded model as it ships: small, loadable by anyone, and good at its task."""
import json
import statistics
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from timebill_ros.bench import answers
from timebill_ros.inference.model import CausalLM
from timebill_ros.length import length_predictor
from timebill_ros.resources import embedded_directory
from timebill_ros.tasks import site_log
from timebill_ros.tasks.site_log_scores import step_accuracy
from timebill_ros.training import train_length_predictor, train_target

DEMO = Path(__file__).parents[1] / 'resource' / 'demo'
MODEL = embedded_directory() / 'model'


def test_it_is_small():
    size = sum(path.stat().st_size for path in embedded_directory().rglob('*') if path.is_file())
    assert size <= 16e6


def test_the_committed_model_and_predictor_are_small_and_complete():
    files = [path for path in DEMO.rglob('*') if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 16e6
    assert not [path for path in files if path.suffix in ('.bin', '.pt', '.pkl')]
    model = json.loads((DEMO / 'model' / 'config.json').read_text())
    assert model['model_type'] == 'llama' and model['max_position_embeddings'] >= 8192
    for facts, config in (('model/training.json', train_target.DEFAULT_CONFIG),
                          ('length_predictor/length_predictor.json', train_length_predictor.SITE_LOG_CONFIG)):
        facts = json.loads((DEMO / facts).read_text())
        assert facts.get('training', facts)['config'] == json.loads(config.read_text())


def test_it_loads_with_the_auto_classes_and_generates_what_our_loop_does():
    task = site_log.generate(1, split='test', family='bring', n_tokens=300)
    tokenizer, reference = AutoTokenizer.from_pretrained(MODEL), AutoModelForCausalLM.from_pretrained(MODEL)
    inputs = tokenizer.apply_chat_template(task.messages, add_generation_prompt=True, return_tensors='pt',
                                           return_dict=True)
    generated = reference.generate(**inputs, max_new_tokens=40, do_sample=False)[0, inputs['input_ids'].shape[1]:]
    assert tokenizer.decode(generated).split()[0] == task.answer.split()[0]


# Few logs, so the least scores are well below the means over many logs (results/quality.json). `room` is hardest: the
# model copies a whole visit.
@pytest.mark.parametrize(('family', 'least'), [
    ('find', 0.8), ('room', 0.5), *(pytest.param(family, least, marks=pytest.mark.slow) for family, least in (
        ('list', 0.85), ('bring', 0.85), ('route', 0.85), ('report', 0.75)))])
def test_most_steps_are_right_without_eviction(family, least):
    model = CausalLM(str(MODEL))
    scores = []
    for seed, n_tokens in enumerate((300, 800, 1600, 3200)):
        for repeat in range(2):
            task = site_log.generate(100 * repeat + seed, split='test', family=family, n_tokens=n_tokens)
            request = answers.request_for(task, 400)
            ids = model.tokenize(model.render(request), is_chat=True)
            model.reset()
            logits = model.prefill(ids, chunk_tokens=256)
            answer = answers.answer(model, request, logits, n_x=len(ids), n_kv=len(ids))
            scores.append(step_accuracy(task, answer))
    assert statistics.mean(scores) >= least


def test_predicted_lengths_tell_short_answers_from_long_ones():
    predictor = length_predictor.load(embedded_directory() / 'length_predictor')
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    predicted, actual = [], []
    for seed in range(8):
        for n_asked in (1, 8):
            task = site_log.generate(seed, split='test', family='bring', n_tokens=300, n_asked=n_asked)
            text = tokenizer.apply_chat_template(task.messages, tokenize=False, add_generation_prompt=True)
            predicted.append(predictor.predict(text).median())
            actual.append(task.n_answer_tokens)
    assert statistics.correlation(predicted, actual) > 0.8
