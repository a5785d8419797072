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

import json
from pathlib import Path

import pytest
import torch
from tiny_training import TINY_TARGET
from transformers import AutoModelForCausalLM, AutoTokenizer

from timebill_ros.tasks.site_log import FAMILIES, generate, vocabulary
from timebill_ros.training import train_length_predictor, train_target
from timebill_ros.training.tokenizer import ROLES, save_tokenizer

DEMO = Path(__file__).parents[2] / 'resource' / 'demo'


def mean(values):
    return sum(values) / len(values)


# --- tokenizer

def test_every_word_is_one_token_and_decodes_to_itself(tokenizer):
    for word in vocabulary():
        ids = tokenizer.encode(word, add_special_tokens=False)
        assert len(ids) == 1 and tokenizer.decode(ids) == word


@pytest.mark.parametrize('family', FAMILIES)
def test_decoding_returns_the_text_and_a_streams_pieces_add_up_to_it(tokenizer, family):
    for seed in range(20):
        task = generate(seed, family=family, n_tokens=80)
        for text in (task.content, task.answer):
            ids = tokenizer.encode(text, add_special_tokens=False)
            decoded = [tokenizer.decode(ids[:n]) for n in range(len(ids) + 1)]
            assert decoded[-1] == text
            for shorter, longer in zip(decoded, decoded[1:], strict=False):
                assert longer.startswith(shorter)
        assert len(tokenizer.encode(task.content, add_special_tokens=False)) == task.n_tokens
        assert len(tokenizer.encode(task.answer, add_special_tokens=False)) + 1 == task.n_answer_tokens


def test_chat_template(tokenizer):
    messages = [{'role': 'system', 'content': 'log :'}, {'role': 'user', 'content': 'find mug'}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == '<|system|> log : <|end|> <|user|> find mug <|end|> <|assistant|>'
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert ids[0] == tokenizer.convert_tokens_to_ids(ROLES[0]) and ids[-1] == tokenizer.convert_tokens_to_ids(ROLES[2])
    assert ids.count(tokenizer.eos_token_id) == 2 and tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True).split() == ['log', ':', 'find', 'mug']
    with pytest.raises(Exception, match='robot'):
        tokenizer.apply_chat_template([{'role': 'robot', 'content': 'mug'}], tokenize=False)


def test_a_saved_tokenizer_loads_as_any_other(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    task = generate(0, n_tokens=80)
    assert again.encode(task.content, add_special_tokens=False) == tokenizer.encode(
        task.content, add_special_tokens=False)
    assert again.decode(again.encode(task.answer)) == task.answer
    assert (again.eos_token, again.pad_token, again.unk_token) == ('<|end|>', '<|pad|>', '<|unknown|>')
    assert again.encode('ghost mug') == [again.unk_token_id, again.convert_tokens_to_ids('mug')]
    assert set(ROLES) <= set(again.all_special_tokens)
    assert again.apply_chat_template(task.messages, tokenize=False, add_generation_prompt=True).endswith(ROLES[2])


# --- target

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


def test_first_heads_start_as_attention_to_the_tokens_before(tokenizer):
    torch.manual_seed(0)
    shape = json.loads(train_target.DEFAULT_CONFIG.read_text())['model']
    model = train_target.build_model(shape, tokenizer)
    model.set_attn_implementation('eager')
    ids, _ = train_target.make_batch(TINY_TARGET['stages'][0], 0, tokenizer, 0)
    weights = model(input_ids=ids[:2], output_attentions=True).attentions[0]  # [batch, head, query, key]
    query = torch.arange(5, 30)
    for head, offset in ((0, 1), (1, 2)):
        assert weights[:, head, query, query - offset].min() > 0.9


def test_lookups_are_the_words_read_off_the_log(tokenizer):
    batch, in_answer = train_target.make_batch(TINY_TARGET['stages'][1], 3, tokenizer, 0)
    lookup_ids = torch.tensor(tokenizer.convert_tokens_to_ids(['@shelf1', 'closed']))
    perfect = torch.nn.functional.one_hot(batch.roll(-1, 1), len(tokenizer)).float() * 50
    loss, right = train_target.loss_and_lookups(perfect, batch, in_answer, tokenizer.pad_token_id, lookup_ids)
    assert loss.item() == pytest.approx(0, abs=1e-3) and right == 1
    _, right = train_target.loss_and_lookups(-perfect, batch, in_answer, tokenizer.pad_token_id, lookup_ids)
    assert right == 0


# --- what is committed

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
