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

"""Models that SlotCache does not fit run on a cache that was checked against running without one."""
import pytest
import tiny_models
import torch
from transformers import AutoModelForCausalLM

from timebill_ros.inference import foreign_cache

N_X = 60


def load(kind):
    model = AutoModelForCausalLM.from_pretrained(tiny_models.directory(kind), attn_implementation='eager')
    return model.eval()


def logits_by(foreign, ids, chunk_tokens):
    """Logits after the prompt and after each of 4 further tokens."""
    foreign.reset()
    positions = torch.arange(len(ids))[None]
    borders = [*range(0, N_X, chunk_tokens if foreign.chunked else N_X), *range(N_X, len(ids) + 1)]
    with torch.inference_mode():
        seen = [foreign.forward(torch.tensor([ids[a:b]]), positions[:, a:b])
                for a, b in zip(borders, borders[1:], strict=False)]
    return torch.stack(seen[-5:])


@pytest.mark.parametrize('kind', [*tiny_models.REFUSED, 'qwen2', 'mistral_sliding'])
@pytest.mark.parametrize('chunk_tokens', [N_X, 17, 1])
def test_the_chosen_way_computes_what_the_model_computes_without_a_cache(kind, chunk_tokens):
    model, ids = load(kind), tiny_models.prompt_ids(N_X + 4)
    foreign = foreign_cache.choose(model, model.config, torch.tensor([tiny_models.prompt_ids(34, seed=2)]))
    assert not isinstance(foreign, foreign_cache.Recomputed), 'a cache of its own is known to work for this model'
    with torch.inference_mode():
        expected = model(torch.tensor([ids]), use_cache=False).logits[0, -5:]
    for _ in range(2):  # a second sequence knows nothing of the first
        torch.testing.assert_close(logits_by(foreign, ids, chunk_tokens), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('way', foreign_cache.WAYS)
def test_every_way_runs_a_plain_attention_model(way):
    model, ids = load('qwen2'), tiny_models.prompt_ids(N_X + 4)
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0, -5:]
    torch.testing.assert_close(logits_by(way(model, model.config), ids, 17), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('damage', ['ignores', 'raises', 'forgets'])
def test_a_cache_that_does_not_work_is_not_used(damage, caplog, monkeypatch):
    model, ids = load('qwen2'), torch.tensor([tiny_models.prompt_ids(34)])
    forward = model.forward

    def damaged(input_ids, position_ids=None, past_key_values=None, use_cache=None, logits_to_keep=0):
        if damage == 'raises' and past_key_values is not None:
            raise AttributeError('no such cache')
        out = forward(input_ids, position_ids=position_ids, use_cache=use_cache, logits_to_keep=logits_to_keep,
                      past_key_values=past_key_values if damage == 'forgets' else None)
        if damage == 'forgets':
            out.past_key_values = None
            if past_key_values is not None:
                past_key_values.layers[1].keys.zero_()
        return out

    monkeypatch.setattr(model, 'forward', damaged)
    foreign = foreign_cache.choose(model, model.config, ids)
    assert isinstance(foreign, foreign_cache.Recomputed)
    assert 'reads the whole sequence again' in caplog.text
