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

"""The length predictor predicts, is saved and loaded, and refuses files that it cannot use."""
import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, LlamaConfig, Qwen2Config

from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.length_predictor import LengthPredictor, compress, load
from timebill_ros.tasks.site_log import generate
from timebill_ros.training.word_tokenizer import build_tokenizer

BUCKETS = 12


def make_predictor(config_class=Qwen2Config, max_input_tokens=64) -> LengthPredictor:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(512)
    config = config_class(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                          num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512)
    marginal = LengthDistribution.from_lengths([3, 9, 40], bucket_size=4, n_buckets=BUCKETS)
    return LengthPredictor(AutoModel.from_config(config), tokenizer, marginal, max_input_tokens=max_input_tokens,
                           facts={'target': {'name': 'none'}, 'training': {'steps': 7}}).eval()


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp('length_predictor')
    make_predictor().save(directory)
    return directory


@pytest.fixture
def copy(saved, tmp_path):
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.mark.parametrize('config_class', [Qwen2Config, LlamaConfig])
def test_what_was_saved_predicts_the_same_when_loaded(config_class, tmp_path):
    predictor = make_predictor(config_class)
    predictor.save(tmp_path)
    again = load(tmp_path)
    text = generate(0, n_tokens=40).content
    assert again.predict(text).to_list() == pytest.approx(predictor.predict(text).to_list(), abs=1e-6)
    assert again.marginal().to_list() == pytest.approx(predictor.marginal().to_list(), abs=1e-5)
    assert (again.bucket_size, again.n_buckets, again.max_input_tokens) == (4, BUCKETS, 64)
    assert again.facts == predictor.facts
    assert not again.training


def test_the_distribution_is_the_softmax_at_the_last_token(saved):
    predictor = load(saved)
    text = generate(1, n_tokens=40).content
    ids = torch.tensor([predictor.tokenizer.encode(text, add_special_tokens=False)])
    with torch.inference_mode():
        hidden = predictor.backbone(input_ids=ids).last_hidden_state[0, -1]
        expected = (predictor.head.weight @ hidden + predictor.head.bias).softmax(-1)
        assert predictor(ids).shape == (1, BUCKETS)
    given = predictor.predict(text)
    assert given.probabilities == pytest.approx(expected.numpy(), abs=1e-6)
    assert given.bucket_size == 4


def test_different_prompts_give_different_distributions(saved):
    predictor = load(saved)
    assert predictor.predict('log : mug @shelf1 ;').to_list() != predictor.predict('log : tape @hook1 ;').to_list()


def test_reduced_precision(saved):
    text = generate(2, n_tokens=40).content
    given = load(saved, dtype=torch.bfloat16)
    assert given.head.weight.dtype == torch.bfloat16
    assert given.predict(text).to_list() == pytest.approx(load(saved).predict(text).to_list(), abs=0.02)


@pytest.mark.parametrize(('n', 'n_p', 'expected'), [
    (6, 6, [0, 1, 2, 3, 4, 5]), (6, 9, [0, 1, 2, 3, 4, 5]), (6, 4, [0, 1, 4, 5]), (6, 5, [0, 1, 3, 4, 5]),
    (6, 2, [0, 5]), (6, 3, [0, 4, 5]), (0, 2, []),
])
def test_compression_keeps_head_and_tail(n, n_p, expected):
    assert compress(list(range(n)), n_p) == expected


@pytest.mark.parametrize('n_p', [1, 0, -4])
def test_compression_refuses_fewer_than_two_tokens(n_p):
    with pytest.raises(ValueError, match=str(n_p)):
        compress([1, 2, 3], n_p)


def test_a_long_prompt_is_compressed_before_it_is_read(saved):
    predictor = load(saved)
    seen = []
    predictor.backbone.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs['input_ids'][0].tolist()), with_kwargs=True)
    text = generate(3, n_tokens=200).content
    ids = predictor.tokenizer.encode(text, add_special_tokens=False)
    for bound in (None, 20, 10_000):
        predictor.predict(text, max_input_tokens=bound)
    assert seen == [compress(ids, 64), compress(ids, 20), compress(ids, 64)]


def test_an_empty_prompt_is_refused(saved):
    with pytest.raises(ValueError, match='empty prompt'):
        load(saved).predict('')


@pytest.mark.parametrize('name', ['length_predictor.json', 'config.json', 'head.safetensors', 'model.safetensors'])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load(copy)


@pytest.mark.parametrize('name', ['length_predictor.json', 'config.json', 'head.safetensors', 'model.safetensors'])
def test_a_broken_file_is_refused(copy, name):
    (copy / name).write_bytes(b'{"x": 1, nonsense')
    said = 'length_predictor.json is not usable' if 'length' in name else f'{name} .*download it again'
    with pytest.raises(ValueError, match=said):
        load(copy)


@pytest.mark.parametrize(('entry', 'value', 'message'), [
    ('format_version', 99, 'format version'),
    ('bucket_size', 0, 'bucket size'),
    ('bucket_size', math.inf, 'infinity'),
    ('n_buckets', 5, 'n_buckets'),
    ('max_input_tokens', 1, 'max_input_tokens'),
    ('max_input_tokens', 'many', 'many'),
    ('marginal', [0.5, 0.1], '0.6'),
    ('marginal', 'flat', 'flat'),
])
def test_a_wrong_entry_is_refused_with_its_file(copy, entry, value, message):
    path = copy / 'length_predictor.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), entry: value}))
    with pytest.raises(ValueError, match=message) as caught:
        load(copy)
    assert 'length_predictor.json' in str(caught.value)


@pytest.mark.parametrize('entry', ['format_version', 'bucket_size', 'n_buckets', 'max_input_tokens', 'marginal'])
def test_a_missing_entry_is_named(copy, entry):
    path = copy / 'length_predictor.json'
    facts = json.loads(path.read_text())
    del facts[entry]
    path.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=entry):
        load(copy)


@pytest.mark.parametrize(('file', 'weight'), [('head.safetensors', 'bias'), ('model.safetensors', 'norm.weight')])
def test_weights_that_are_not_finite_are_refused(copy, file, weight):
    tensors = load_file(copy / file)
    tensors[weight][0] = math.nan
    save_file(tensors, copy / file, metadata={'format': 'pt'})
    with pytest.raises(ValueError, match=file):
        load(copy)


def test_a_missing_weight_is_named(copy):
    tensors = load_file(copy / 'model.safetensors')
    del tensors['norm.weight']
    save_file(tensors, copy / 'model.safetensors', metadata={'format': 'pt'})
    with pytest.raises(ValueError, match='lacks the weight norm.weight'):
        load(copy)


def test_a_head_of_another_shape_is_refused(copy):
    save_file({'weight': torch.zeros(3, 32), 'bias': torch.zeros(3)}, copy / 'head.safetensors')
    with pytest.raises(ValueError, match='head.safetensors'):
        load(copy)


def test_pickled_weights_are_not_read(copy):
    torch.save(load_file(copy / 'model.safetensors'), copy / 'pytorch_model.bin')
    (copy / 'model.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match='model.safetensors'):
        load(copy)


def test_the_marginal_keeps_its_buckets():
    with pytest.raises(ValueError, match='12 buckets of 4'):
        make_predictor().set_marginal(LengthDistribution.point(3, 4))
