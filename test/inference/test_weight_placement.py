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

"""Weights get to the device without being held twice. 'meta' stands in for a GPU: its tensors take no memory."""
import weakref

import pytest
import tiny_models
import torch
from safetensors import safe_open

from timebill_ros.inference import model_loading, weight_placement
from timebill_ros.inference.model_loading import ModelFiles
from timebill_ros.inference.weight_placement import WeightPlacement

META = torch.device('meta')


def files(name, device='cpu'):
    return ModelFiles(str(name), torch.device(device), 'float32', trust_remote_code=False, allow_unsafe_weights=False)


def stored_bytes(directory) -> int:
    total = 0
    for path in directory.glob('*.safetensors'):
        with safe_open(path, framework='pt') as tensors:
            total += sum(tensors.get_tensor(name).nbytes for name in tensors.keys())  # noqa: SIM118 (no mapping)
    return total


def loaded_bytes(model) -> int:
    return sum({weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes()
                for weight in model.parameters()}.values())


@pytest.fixture(params=[True, False], ids=['tied head', 'head of its own'])
def directory(request, tmp_path):
    return tiny_models.build(tmp_path, 'qwen2', tie_word_embeddings=request.param)


@pytest.mark.parametrize(('device', 'installed', 'options'), [
    ('cpu', True, {}), ('cuda:1', False, {}), ('cuda:1', True, {'device_map': {'': torch.device('cuda:1')}})])
def test_transformers_is_told_the_device_where_it_can_read_to_it(device, installed, options, monkeypatch, caplog):
    monkeypatch.setattr(weight_placement, 'is_accelerate_available', lambda: installed)
    with caplog.at_level('INFO'):
        assert WeightPlacement(torch.device(device)).options == options
    assert ('the package accelerate is not installed' in caplog.text) == (device != 'cpu' and not installed)


def test_a_model_is_read_with_these_options_and_holds_each_weight_once(directory, monkeypatch):
    pytest.importorskip('accelerate')
    model_files = files(directory)
    model_files.max_context(64)
    asked, real = [], model_loading.AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(model_loading.AutoModelForCausalLM, 'from_pretrained', lambda name, **options: asked.append(
        options['device_map']) or real(name, **options))
    model_files._placement.options = {'device_map': {'': torch.device('cpu')}}  # as on a GPU
    model = model_files.read_weights()
    assert asked == [{'': torch.device('cpu')}]
    assert loaded_bytes(model) == stored_bytes(directory)
    assert not any(hasattr(module, '_hf_hook') for module in model.modules()), 'nothing is put between layers'


def test_what_was_read_to_the_host_moves_tensor_by_tensor_and_is_given_back(directory, monkeypatch):
    model_files = files(directory)
    model_files.max_context(64)
    model = model_files.read_weights()
    is_tied = model.lm_head.weight is model.model.embed_tokens.weight
    total, n_tensors = loaded_bytes(model), len(list(model.parameters()))
    here = [(weakref.ref(weight), weight.nbytes) for weight in model.parameters()]
    left = []
    monkeypatch.setattr(weight_placement, 'GIVE_BACK_BYTES', 1)
    monkeypatch.setattr(weight_placement, 'give_back', lambda: left.append(
        sum(n_bytes for weight, n_bytes in here if weight() is not None)))
    WeightPlacement(META).complete(model)
    assert {tensor.device for tensor in (*model.parameters(), *model.buffers())} == {META}
    assert len(list(model.parameters())) == n_tensors
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == is_tied
    assert left == sorted(left, reverse=True) and left[len(left) // 2] < total, 'no weight waits for the last one'
    assert left[-1] == 0


def test_what_is_on_the_device_stays_the_same_tensor(directory, monkeypatch):
    model_files = files(directory)
    model_files.max_context(64)
    model = model_files.read_weights()
    before = [id(weight) for weight in model.parameters()]
    monkeypatch.setattr(weight_placement, 'give_back', None)  # not called
    WeightPlacement(torch.device('cpu')).complete(model)
    assert [id(weight) for weight in model.parameters()] == before


def test_giving_back_does_not_fail():
    weight_placement.give_back()
