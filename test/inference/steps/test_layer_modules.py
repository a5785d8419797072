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

"""A step in parts computes what the whole step computes, for models of many kinds."""
import pytest
import tiny_models
import torch

from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.steps.layer_calls import NotSplit
from timebill_ros.inference.steps.layer_modules import Split, split

IDS = tiny_models.prompt_ids(40)
LAYERS = 9
KINDS = {'qwen2': 1, 'llama': 1, 'qwen3': 1, 'gemma3': 2, 'mistral_sliding': 1}


@pytest.fixture(scope='module')
def directories(tmp_path_factory):
    folder = tmp_path_factory.mktemp('models')
    types = {'layer_types': ['sliding_attention', 'full_attention', 'sliding_attention'] * 3}
    return {kind: str(tiny_models.build(folder / kind, kind, num_hidden_layers=LAYERS,
                                        **(types if kind == 'gemma3' else {}))) for kind in KINDS}


def step_in_parts(parts: Split, model: CausalLM, token: torch.Tensor, position: torch.Tensor):
    """Run the parts eagerly, as compiled ones are run."""
    lengths = model.cache.lengths
    filled = torch.zeros(max(lengths) + 1, dtype=torch.long)
    with parts.start.installed():
        given = [token, position, *parts.start(token, position, filled, parts.start.weights())]
    hidden = given[2]
    for call, layer in zip(parts.calls, model.cache.layers, strict=True):
        first = max(0, layer.length + 1 - layer.sliding_window) if layer.is_sliding else 0
        last = layer.length + 1 if layer.is_sliding else None
        hidden = parts.kinds[call.kind](hidden, filled, layer.keys[:, :, first:last], layer.values[:, :, first:last],
                                        [given[number] for number in call.given], call.weights)
    with parts.end.installed():
        logits, last_hidden = parts.end(hidden, token, position, filled, parts.end.weights())
    model.cache.advance()
    return logits, last_hidden


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_parts_compute_what_the_modules_compute(directories, kind, dtype):
    model = CausalLM(directories[kind], device='cpu', threads=1, dtype=dtype)
    model.prefill(IDS, chunk_tokens=40)
    before = model.snapshot()
    parts = split(model.model, model.cache)
    assert len(parts.kinds) == KINDS[kind] and len(parts.calls) == LAYERS
    assert model.cache.lengths == [40] * LAYERS, 'the cache is as it was'
    found = []
    for step in (lambda token, position: step_in_parts(parts, model, token, position), model._reader):
        model.restore(before)
        outputs = []
        with torch.no_grad():
            for i in range(3):  # the second reads what the first wrote
                outputs += step(torch.tensor([[20 + i]]), torch.tensor([[45 + i]]))
        found.append(torch.stack([output for output in outputs[::2]]).clone())
    assert torch.equal(found[0], found[1])


def test_weights_of_other_precisions_are_inputs_too(directories):
    model = CausalLM(directories['qwen2'], device='cpu', threads=1, other_variants='int8')
    model.prefill(IDS, chunk_tokens=40)
    parts = split(model.variants['int8'], model.cache)
    assert {weight.dtype for weight in parts.calls[0].weights} >= {torch.int8, torch.float32}
    assert parts.calls[0].weights[0].data_ptr() != parts.calls[1].weights[0].data_ptr()


def test_layers_that_are_all_unlike_are_not_split(directories):
    model = CausalLM(directories['qwen2'], device='cpu', threads=1)
    model.prefill(IDS, chunk_tokens=40)
    for index, layer in enumerate(model.model.model.layers):
        layer.mlp.of_the_test = index
    with pytest.raises(NotSplit, match='its 9 layers are of 9 kinds'):
        split(model.model, model.cache)
