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

"""The state that prefill leaves is the hidden state that transformers reports, in any chunks, for every family."""
import functools

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from torch import nn

from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prompt_state import CandidateStates, PromptState
from timebill_ros.inference.steps.layer_calls import NotSplit

N_X = 60
# hidden_states[i] is what i layers have made; this family's list begins behind its first layer.
BEGINS_LATER = {'mamba'}


@functools.cache
def load(kind, dtype='float32'):
    model = CausalLM(str(tiny_models.directory(kind)), device='cpu', threads=1, dtype=dtype)
    model.prompt_state = PromptState(model.model)
    return model


@functools.cache
def reference(kind):
    """What transformers gives as output_hidden_states for the last token: by layers passed, [H] each."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tiny_models.directory(kind), attn_implementation='eager', dtype=torch.float32).eval()
    with torch.no_grad():
        found = model(torch.tensor([tiny_models.prompt_ids(N_X)]), output_hidden_states=True, use_cache=False)
    states = [state[0, -1].numpy() for state in found.hidden_states]
    return [None, *states] if kind in BEGINS_LATER else states


def read(model, ids, chunk_tokens):
    model.reset()
    model.prefill(ids, chunk_tokens=chunk_tokens)
    model.synchronize()
    return model.prompt_state.read()


@pytest.mark.parametrize('kind', tiny_models.KINDS)
@pytest.mark.parametrize('chunk_tokens', [1000, N_X, 59, 23, 1], ids=lambda n: f'chunks_of_{n}')
def test_it_is_the_hidden_state_of_the_last_token(kind, chunk_tokens):
    model, states = load(kind), reference(kind)
    assert model.prompt_state.depth == 2
    found = read(model, tiny_models.prompt_ids(N_X), chunk_tokens)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, states[2], rtol=2e-3, atol=2e-3)
    others = [state for i, state in enumerate(states) if i != 2 and state is not None]
    assert all(abs(found - state).max() > 0.1 for state in others), 'a layer that could not be told from another'


@pytest.mark.parametrize('kind', ['qwen2', 'mamba', 'gpt_oss'])
def test_decoding_and_eviction_leave_it_as_it_is_and_another_prompt_does_not(kind):
    model = load(kind)
    first = read(model, tiny_models.prompt_ids(N_X), 37)
    if model.supports_eviction:
        model.evict(20)
    for i in range(3):
        model.step(torch.tensor(9 + i), N_X + i)
    assert (model.prompt_state.read() == first).all()
    again = first.copy()
    other = read(model, tiny_models.prompt_ids(N_X, seed=1), 37)
    assert abs(other - first).max() > 0.1 and (first == again).all(), 'what was read stays'


def test_half_precision_is_read_as_float32():
    found, full = read(load('qwen2', 'bfloat16'), tiny_models.prompt_ids(N_X), 37), reference('qwen2')[2]
    assert found.dtype == np.float32 and abs(found - full).max() < 0.1 * abs(full).max()


def test_nothing_hooks_the_model_between_prefills():
    model = load('qwen2')
    read(model, tiny_models.prompt_ids(N_X), 37)
    assert not any(module._forward_hooks for module in model.model.modules())


def test_without_it_prefill_hooks_no_layer(monkeypatch):
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1, dtype='float32')
    monkeypatch.setattr(nn.Module, 'register_forward_hook', lambda *args, **options: pytest.fail('a layer was hooked'))
    model.prefill(tiny_models.prompt_ids(N_X), chunk_tokens=37)
    assert model.prompt_state is None


@pytest.mark.parametrize(('n_layers', 'depth'), [(1, 1), (2, 1), (3, 2), (12, 8), (30, 20), (32, 21)])
def test_the_layer_is_at_two_thirds_of_the_depth(n_layers, depth):
    config = transformers.Qwen2Config(vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=n_layers,
                                      num_attention_heads=2, num_key_value_heads=1)
    model = transformers.AutoModelForCausalLM.from_config(config)
    assert PromptState(model).depth == depth


def test_a_model_whose_layers_are_not_found_is_refused():
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_models.directory('qwen2'))
    model.config.num_hidden_layers = 17
    with pytest.raises(NotSplit, match='0 lists of 17 layers'):
        PromptState(model)


def test_before_a_prefill_there_is_none():
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_models.directory('qwen2'))
    with pytest.raises(ValueError, match='no state'):
        PromptState(model).read()


def test_another_layer_may_be_named():
    model, states = load('qwen2'), reference('qwen2')
    usual = model.prompt_state
    try:
        model.prompt_state = PromptState(model.model, 1)
        np.testing.assert_allclose(read(model, tiny_models.prompt_ids(N_X), 37), states[1], rtol=2e-3, atol=2e-3)
    finally:
        model.prompt_state = usual
    for depth in (0, 4):
        with pytest.raises(ValueError, match=f'behind layer {depth}: the model has 3'):
            PromptState(model.model, depth)


@pytest.mark.parametrize(('n_layers', 'depths'), [(1, {1}), (2, {1, 2}), (3, {2}), (12, {6, 8, 10}),
                                                  (30, {15, 20, 25})])
def test_the_candidates_are_read_in_one_pass(n_layers, depths, tmp_path):
    model = CausalLM(str(tiny_models.build(tmp_path, 'qwen2', num_hidden_layers=n_layers)), device='cpu', threads=1)
    ids = tiny_models.prompt_ids(N_X)
    model.prompt_state = CandidateStates(model.model)
    found = read(model, ids, 37)
    assert set(found) == depths
    for depth, state in found.items():
        model.prompt_state = PromptState(model.model, depth)
        assert (read(model, ids, 37) == state).all()
