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

"""What a model takes is worked out from the headers of its files, and judged against what is free."""
import json
import shutil

import pytest
import tiny_models
import torch
from safetensors.torch import save_file

from timebill_ros.inference import devices, memory_budget, model_loading
from timebill_ros.inference.memory_budget import (
    Need,
    Weights,
    fit_context,
    quantized_bytes,
    variant_bytes,
    weight_files,
    weights_of,
)
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError

CPU = torch.device('cpu')
GIB = 1 << 30


@pytest.fixture
def files(tmp_path):
    """Weights of many kinds: 40 numbers in half precision, 64 in FP8, 32 bytes, 8 integers, and a stored tied head."""
    save_file({'model.embed_tokens.weight': torch.zeros(10, 4, dtype=torch.float16),
               'a.weight': torch.zeros(8, 8, dtype=torch.float8_e4m3fn), 'b': torch.zeros(32, dtype=torch.uint8),
               'c': torch.zeros(8, dtype=torch.int32), 'lm_head.weight': torch.zeros(10, 4, dtype=torch.float16)},
              tmp_path / 'model.safetensors')
    return weight_files(tmp_path)


@pytest.mark.parametrize(('dtype', 'options', 'expected'), [
    (torch.float16, dict(quantized=False, expanded=False, tied=True), 2 * 40 + 2 * 64 + 32 + 32),
    (torch.float32, dict(quantized=False, expanded=False, tied=False), 4 * 80 + 4 * 64 + 32 + 32),
    (torch.float16, dict(quantized=True, expanded=False, tied=True), 2 * 40 + 64 + 32 + 32),
    (torch.bfloat16, dict(quantized=True, expanded=True, tied=True, bits=4),
     2 * 40 + 2 * 64 + 2 * 2 * 32 + 2 * 8 * 8),  # four bits: two in a byte, eight in an integer
    (torch.bfloat16, dict(quantized=True, expanded=True, tied=True, bits=8), 2 * 40 + 2 * 64 + 2 * 2 * 32 + 4 * 2 * 8),
])
def test_weights_count_as_they_will_be_in_memory(dtype, options, expected, files):
    weights = weights_of(files, dtype, **options)
    assert weights.n_bytes == expected
    assert weights.linear == 64 + 40, 'the head of a variant has numbers of its own, tied or not'
    assert weights.layers == 64 + 40 * (not options['tied'])


@pytest.mark.parametrize('kind', ['qwen2', 'gemma3'])
def test_what_is_worked_out_is_what_a_loaded_model_takes(kind):
    model = CausalLM(str(tiny_models.directory(kind)), device='cpu', threads=1, max_context_tokens=300)
    files = model_loading.ModelFiles(model.name, CPU, 'auto', trust_remote_code=False, allow_unsafe_weights=False)
    need = files._need('')
    assert need.weights == sum(p.numel() * p.element_size() for p in model.model.parameters())
    cache = sum(states.numel() * states.element_size() for layer in model.cache.layers
                for states in (layer.keys, layer.values))
    assert need.cache * 301 == cache


def test_only_the_files_that_an_index_names_count(tmp_path):
    for name in ('model-1.safetensors', 'model-2.safetensors', 'consolidated.safetensors'):
        save_file({name: torch.zeros(4)}, tmp_path / name)
    index = tmp_path / 'model.safetensors.index.json'
    index.write_text(json.dumps({'weight_map': {'a': 'model-1.safetensors', 'b': 'model-2.safetensors'}}))
    assert [file.name for file in weight_files(tmp_path)] == ['model-1.safetensors', 'model-2.safetensors']
    (tmp_path / 'model-2.safetensors').unlink()
    with pytest.raises(ModelError, match='lacks model-2.safetensors, of the 2 files that model.safetensors.index.json'):
        weight_files(tmp_path)
    index.write_text('[]')
    with pytest.raises(ModelError, match='is no index of weights'):
        weight_files(tmp_path)


@pytest.mark.parametrize(('names', 'expected'), [([], 0), (['int8', 'int4'], 1625), (['float16'], 2000)])
def test_variants_take_memory_for_their_linear_layers(names, expected):
    assert variant_bytes(names, Weights(n_bytes=3000, layers=900, linear=1000)) == expected


def test_weights_that_are_quantised_after_reading_take_less_than_while_they_are_read():
    weights = Weights(n_bytes=3000, layers=900, linear=1000)
    assert quantized_bytes('int8', weights, torch.bfloat16) == 3000 - 1800 + 1000
    need = Need(weights=GIB, variants=0, cache=1 << 17, loading=2 * GIB)
    assert need.total(0) == need.total(8000) > 2 * GIB and need.total(9000) > need.total(0)
    free = need.total(8000)
    assert need.total(need.context_within(free)) <= free < need.total(need.context_within(free) + 1)
    assert need.context_within(free - 1) == -1, 'not even what is read fits'


NEED = Need(weights=GIB, variants=0, cache=1 << 17)  # 1 GiB for 8192 tokens


def fit(free, n_tokens=8192, need=NEED, chosen=True):
    return fit_context('m', need, free, n_tokens, chosen=chosen, device=CPU, dtype='bfloat16')


@pytest.mark.parametrize(('free', 'context'), [(3 * GIB, 8192), (None, 8192), (int(1.6 * GIB), 4096),
                                               (int(1.17 * GIB), 512)])
def test_a_context_that_the_node_chooses_follows_memory(free, context, caplog):
    assert fit(free) == context
    assert ('8192' in caplog.text and f'is {context} tokens' in caplog.text) == (context != 8192)
    assert context == 8192 or NEED.total(context) <= free


def test_a_context_that_was_asked_for_is_refused_with_numbers_and_what_to_change():
    with pytest.raises(ModelError, match='^OUT_OF_MEMORY') as caught:
        fit(int(1.6 * GIB), chosen=False)
    sentence = str(caught.value)
    for part in ('model m', '1.00 GiB in bfloat16', '8192 tokens (max_context_tokens) 1.00 GiB', '1.60 GiB are free on',
                 'Lower max_context_tokens to '):
        assert part in sentence
    fitting = int(sentence.split('max_context_tokens to ')[1].split()[0])
    assert fit(int(1.6 * GIB), fitting, chosen=False) == fitting
    with pytest.raises(ModelError):
        fit(int(1.6 * GIB), fitting + 1, chosen=False)


@pytest.mark.parametrize('chosen', [True, False])
@pytest.mark.parametrize('need', [NEED, Need(weights=GIB, variants=GIB, cache=0)])
def test_weights_that_do_not_fit_are_refused(need, chosen):
    with pytest.raises(ModelError, match='Choose a smaller model or dtype') as caught:
        fit(GIB, need=need, chosen=chosen)
    assert ('fewer variants' in str(caught.value)) == (need.variants > 0)


@pytest.mark.parametrize('max_context_tokens', [0, 400])
def test_nothing_is_loaded_where_memory_is_too_short(max_context_tokens, monkeypatch):
    monkeypatch.setattr(model_loading, 'free_bytes', lambda device: memory_budget.SLACK_BYTES)
    monkeypatch.setattr(model_loading.AutoModelForCausalLM, 'from_pretrained',
                        lambda *args, **options: pytest.fail('weights were read'))
    with pytest.raises(ModelError, match='OUT_OF_MEMORY.*does not fit into memory'):
        CausalLM(str(tiny_models.directory('qwen2')), device='cpu', max_context_tokens=max_context_tokens)


@pytest.mark.parametrize(('fits', 'computed'), [(True, torch.float32), (False, torch.bfloat16)])
def test_a_precision_that_the_cpu_emulates_is_left_for_float32_where_that_fits(fits, computed, tmp_path, monkeypatch,
                                                                               caplog):
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', max_context_tokens=64).model.to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    path = tmp_path / 'stored'
    shutil.copytree(tiny_models.directory('qwen2'), path)
    model.save_pretrained(path)
    monkeypatch.setattr(devices, 'is_emulated', lambda dtype: dtype is torch.bfloat16)

    def files(free):
        monkeypatch.setattr(model_loading, 'free_bytes', lambda device: free)
        found = model_loading.ModelFiles(str(path), CPU, 'auto', trust_remote_code=False, allow_unsafe_weights=False)
        with caplog.at_level('INFO'):
            found.max_context(64)
        return found

    needed = files(GIB)._need('').total(64)
    found = files(needed if fits else needed - 1)
    assert found.dtype is found.read_weights().dtype is computed
    said = caplog.records[-1].message
    assert 'emulate' in said and 'bfloat16' in said and ('several times slower' in said) != fits
