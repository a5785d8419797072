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

"""What a step hands to its layers, and which layers are alike."""
import pytest
import tiny_models
import torch
from torch import nn

from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.steps.layer_calls import (
    NotSplit,
    Numbers,
    all_given,
    character_of,
    described,
    find_layers,
    restored,
    watch_layers,
)


@pytest.fixture(scope='module')
def model():
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1)
    model.prefill([9, 10, 11, 12], chunk_tokens=4)
    return model


def test_what_a_layer_is_given_is_described_and_restored():
    cache, a, b = SlotCache(4, [None]), torch.zeros(1), torch.ones(1)
    given = Numbers([a])
    shape = described(((a, b, None), {'pair': (b, a), 'cache': cache, 'flag': True}), given, cache)
    assert [one is other for one, other in zip(given.tensors, [a, b], strict=True)] == [True, True]
    other = SlotCache(4, [None])
    (first, second, nothing), named = restored(shape, ['A', 'B'], other)
    assert (first, second, nothing) == ('A', 'B', None)
    assert named == {'pair': ('B', 'A'), 'cache': other, 'flag': True} and named['cache'] is other
    with pytest.raises(NotSplit, match='given a set'):
        described({1}, given, cache)


def test_a_real_step_is_watched(model):
    owner, name = find_layers(model.model, 3)
    layers, token, position = list(getattr(owner, name)), torch.tensor([[7]]), torch.tensor([[4]])
    lengths = model.cache.lengths
    seen = watch_layers(model.model, model.cache, layers, token, position)
    model.cache.lengths = lengths
    numbers = all_given(seen, token, position, model.cache)
    assert numbers.tensors[1] is position and len(numbers.tensors) >= 5  # hidden, cosines and sines follow
    assert not any(layer._forward_hooks for layer in layers)


def test_layers_are_alike_where_only_weights_and_numbers_differ(model):
    layers = list(getattr(*find_layers(model.model, 3)))
    assert character_of(layers[0]) == character_of(layers[1])
    for change in (lambda layer: setattr(layer.self_attn, 'scaling', 0.1),
                   lambda layer: setattr(layer.mlp, 'up_proj', nn.Linear(32, 49)),
                   lambda layer: setattr(layer, 'input_layernorm', nn.Identity())):
        other = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1)
        changed = getattr(*find_layers(other.model, 3))[1]
        change(changed)
        assert character_of(layers[0]) != character_of(changed)


class Stack(nn.Module):
    """A model that is no language model but has layers; `between` is what it does between them."""

    def __init__(self, between=lambda hidden: hidden, result=lambda hidden: hidden):
        super().__init__()
        self.layers = nn.ModuleList([Layer(result) for _ in range(3)])
        self.between = between

    def get_output_embeddings(self):
        return None

    def forward(self, input_ids, position_ids, past_key_values, attention_mask, use_cache):
        hidden = input_ids.float()
        for layer in self.layers:
            hidden = self.between(layer(hidden))
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        self.logits = hidden
        return self


class Layer(nn.Module):
    def __init__(self, result):
        super().__init__()
        self.result = result

    def forward(self, hidden):
        return self.result(hidden + 1.0)


@pytest.mark.parametrize(('stack', 'sentence'), [
    (Stack(between=lambda hidden: hidden * 2.0), 'something lies between its layers'),
    (Stack(result=lambda hidden: (hidden,)), 'more than a tensor')])
def test_layers_that_do_not_simply_follow_one_another_are_not_split(stack, sentence):
    one = torch.zeros(1, 1, dtype=torch.long)
    with pytest.raises(NotSplit, match=sentence):
        watch_layers(stack, SlotCache(4, [None] * 3), list(stack.layers), one, one)
    with pytest.raises(NotSplit, match='0 lists of 4 layers'):
        find_layers(stack, 4)
