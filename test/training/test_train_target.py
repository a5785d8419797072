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

"""The embedded model's training: it learns, goes on from a checkpoint, and leaves a model that loads as any other."""
import json

import pytest
import torch
from tiny_training import TINY_TARGET
from transformers import AutoModelForCausalLM

from timebill_ros.training import train_target


def mean(values):
    return sum(values) / len(values)


def test_target_training_lowers_the_loss_and_passes_through_the_curriculum(trained):
    out, history = trained
    assert len(history) == 40
    assert mean(history[15:20]) < mean(history[:5]) - 0.5
    facts = json.loads((out / 'model' / 'training.json').read_text())
    assert facts['steps'] == 40 and [stage['steps'] for stage in facts['stages']] == [20, 20]
    assert facts['config'] == TINY_TARGET and facts['hardware']


def test_the_target_loads_as_any_other(trained):
    out, _ = trained
    model = AutoModelForCausalLM.from_pretrained(out / 'model', use_safetensors=True)
    config = json.loads((out / 'model' / 'config.json').read_text())
    # Both transformers 4 and 5 have to find the rotary base.
    assert config['rope_theta'] == config['rope_parameters']['rope_theta'] == 10000.0
    assert model.config.model_type == 'llama' and model.generation_config.eos_token_id == model.config.eos_token_id
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    out_ids = model.generate(input_ids=torch.tensor([[4, 5, 6]]), max_new_tokens=3)
    assert out_ids.shape[1] > 3


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(trained, tmp_path):
    _, whole = trained
    first = train_target.train(TINY_TARGET, tmp_path, steps=23)
    second = train_target.train(TINY_TARGET, tmp_path)
    assert first + second == pytest.approx(whole, rel=1e-4)


def test_a_checkpoint_of_another_shape_is_refused(trained):
    out, _ = trained
    other = {**TINY_TARGET, 'model': {**TINY_TARGET['model'], 'hidden_size': 64}}
    with pytest.raises(ValueError, match='another shape'):
        train_target.train(other, out)


def test_lookups_are_the_words_read_off_the_log(tokenizer):
    batch, in_answer = train_target.make_batch(TINY_TARGET['stages'][1], 3, tokenizer, 0)
    lookup_ids = torch.tensor(tokenizer.convert_tokens_to_ids(['@shelf1', 'closed']))
    perfect = torch.nn.functional.one_hot(batch.roll(-1, 1), len(tokenizer)).float() * 50
    loss, right = train_target.loss_and_lookups(perfect, batch, in_answer, tokenizer.pad_token_id, lookup_ids)
    assert loss.item() == pytest.approx(0, abs=1e-3) and right == 1
    _, right = train_target.loss_and_lookups(-perfect, batch, in_answer, tokenizer.pad_token_id, lookup_ids)
    assert right == 0
