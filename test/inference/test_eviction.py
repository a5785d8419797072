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

"""Which entries are kept: scores compared with kvpress and with their definition, and decoding on what is left."""
import functools

import pytest
import tiny_models
import torch
from transformers import AttentionInterface, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import repeat_kv

from timebill_ros.inference.eviction import MAX_WINDOW, SCORERS, SnapKV, evict, observation_window
from timebill_ros.inference.kv_cache import SlotLayer
from timebill_ros.inference.model import CausalLM

N_X = 100
HEADS, GROUP, DIM = 2, 3, 8


@functools.cache
def load(kind, scorer='snapkv'):
    return CausalLM(str(tiny_models.directory(kind)), device='cpu', threads=1, scorer=scorer)


def filled_layer(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    layer = SlotLayer(n + 4)
    layer.update(torch.randn(1, HEADS, n, DIM, generator=generator), torch.randn(1, HEADS, n, DIM, generator=generator))
    return layer, torch.randn(1, HEADS * GROUP, min(n, MAX_WINDOW), DIM, generator=generator)


# -- every scorer ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('scorer', SCORERS)
@pytest.mark.parametrize('n', [2, 3, 33, 100])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_every_scorer_puts_the_window_on_top(scorer, n, dtype):
    layer, queries = filled_layer(n)
    keys, values = (states.to(dtype) for states in layer.filled())
    for window in {0, 1, min(n // 2, MAX_WINDOW)}:
        scores = [SCORERS[scorer]().score(keys, values, queries.to(dtype), 0.3, window) for _ in range(2)]
        assert scores[0].shape == (1, HEADS, n) and not scores[0].isnan().any()
        assert torch.equal(*scores), 'two scorers of a kind disagree'
        top = scores[0].topk(window, dim=-1).indices.sort(dim=-1).values
        assert (top == torch.arange(n - window, n)).all()


@pytest.mark.parametrize('scorer', SCORERS)
@pytest.mark.parametrize('n_keep', [1, 2, 3, 20, 64, 99, 100, 200])
def test_every_head_keeps_its_best_entries_in_order(scorer, n_keep):
    layer, queries = filled_layer(N_X)
    keys, values = (states.clone() for states in layer.filled())
    scores = SCORERS[scorer]().score(keys, values, queries, 0.3, observation_window(n_keep))
    evict(layer, SCORERS[scorer](), queries, 0.3, n_keep)
    n_kept = min(n_keep, N_X)
    assert layer.get_seq_length() == n_kept
    for head in range(HEADS):
        kept = scores[0, head].topk(n_kept).indices.sort().values
        assert torch.equal(layer.filled()[0][0, head], keys[0, head, kept])
        assert torch.equal(layer.filled()[1][0, head], values[0, head, kept])
        assert set(range(N_X - observation_window(n_kept), N_X)) <= set(kept.tolist())


@pytest.mark.parametrize(('n_keep', 'window'), [(1, 0), (2, 1), (63, 31), (64, 32), (1000, 32)])
def test_the_observation_window_fills_at_most_half_of_what_is_kept(n_keep, window):
    assert observation_window(n_keep) == window


@pytest.mark.parametrize('scorer', SCORERS)
def test_eviction_waits_for_no_device(scorer):
    """Tensors on the device 'meta' have no values: reading one, which on a GPU would wait for it, is an error."""
    layer, queries = filled_layer(N_X)
    layer.keys, layer.values = layer.keys.to('meta'), layer.values.to('meta')
    evict(layer, SCORERS[scorer](), queries.to('meta'), 0.3, 60, n_prompt=90)
    assert layer.get_seq_length() == 70
    with pytest.raises(RuntimeError):
        int(layer.keys.argmax())


# -- each scorer by its definition -----------------------------------------------------------------------------------

def test_snapkv_by_its_definition():
    layer, queries = filled_layer(40)
    keys, values = layer.filled()
    window, scores = 6, torch.zeros(HEADS, 34)
    for head in range(HEADS * GROUP):
        attention = torch.zeros(34)
        for i in range(40 - window, 40):
            weights = (keys[0, head // GROUP, :i + 1] @ queries[0, head, i - 40] * 0.7).softmax(-1)
            attention += weights[:34] / window
        padded = torch.cat([torch.zeros(2), attention, torch.zeros(2)])
        scores[head // GROUP] += padded.unfold(0, 5, 1).mean(-1) / GROUP
    ours = SnapKV().score(keys, values, queries, 0.7, window)
    torch.testing.assert_close(ours[0, :, :34], scores)
    assert (ours[0, :, 34:] == float('inf')).all()


def test_key_norm_prefers_small_keys():
    layer, queries = filled_layer(40)
    keys, values = layer.filled()
    scores = SCORERS['key_norm']().score(keys, values, queries, 1.0, 8)[0, :, :32]
    assert torch.equal(scores.argsort(dim=-1), keys[0, :, :32].norm(dim=-1).argsort(dim=-1, descending=True))


def test_recent_keeps_the_first_four_and_the_newest():
    layer, queries = filled_layer(40)
    keys, values = layer.filled()
    kept = SCORERS['recent']().score(keys, values, queries, 1.0, 8).topk(16).indices.sort().values
    assert (kept == torch.tensor([*range(4), *range(28, 40)])).all()


def test_random_draws_differ_between_requests_heads_and_seeds():
    layer, queries = filled_layer(40)
    scorer = SCORERS['random']()
    first, second = (scorer.score(*layer.filled(), queries, 1.0, 8)[..., :32] for _ in range(2))
    other = SCORERS['random'](seed=1).score(*layer.filled(), queries, 1.0, 8)[..., :32]
    assert not torch.equal(first, second) and not torch.equal(first, other)
    assert not torch.equal(first[0, 0], first[0, 1])


# -- in a model ------------------------------------------------------------------------------------------------------

def attention_inputs(kind, ids):
    """Each attention module of a plain model with (hidden states, position embeddings, keys, values) for `ids`."""
    model = AutoModelForCausalLM.from_pretrained(tiny_models.directory(kind), attn_implementation='eager')
    seen, hooks = {}, []
    modules = [module for name, module in model.named_modules() if name.endswith('self_attn')]
    for module in modules:
        hooks.append(module.register_forward_pre_hook(
            lambda module, args, kwargs: seen.__setitem__(module.layer_idx, kwargs), with_kwargs=True))
    with torch.inference_mode():
        cache = model(torch.tensor([ids]), use_cache=True).past_key_values
    return [(module, seen[i]['hidden_states'], seen[i]['position_embeddings'], cache.layers[i].keys,
             cache.layers[i].values) for i, module in enumerate(modules)]


@pytest.mark.parametrize('kind', ['qwen2', 'llama'])
@pytest.mark.parametrize('window', [1, 8, 32])
@pytest.mark.parametrize('chunk_tokens', [N_X, 64, 33, 7, 1], ids=lambda n: f'chunks_of_{n}')
def test_snapkv_scores_are_those_of_kvpress(kind, window, chunk_tokens):
    presses = pytest.importorskip('kvpress', exc_type=ImportError)
    model, ids = load(kind), tiny_models.prompt_ids(N_X)
    model.reset()
    model.prefill(ids, chunk_tokens=chunk_tokens)
    press = presses.SnapKVPress(window_size=window)
    for index, (module, hidden, embeddings, keys, values) in enumerate(attention_inputs(kind, ids)):
        with torch.inference_mode():
            theirs = press.score(module, hidden, keys, values, None, {'position_embeddings': embeddings})
            recorded = model._recorders[index]
            ours = SnapKV().score(*model.cache.layers[index].filled(), recorded.queries, recorded.scaling, window)
        torch.testing.assert_close(ours[..., :-window], theirs[..., :-window], rtol=0, atol=1e-4)
        # Differences between scores decide what is kept. They are far above the tolerance.
        assert theirs[..., :-window].std() > 1e-3
        assert (ours[..., -window:] == float('inf')).all()


def kept_indices(before, after):
    """For each head, the original slots of the entries that are left; rotary positions make every key unique."""
    return [[(before[0, head] == entry).all(-1).nonzero().item() for entry in after[0, head]]
            for head in range(before.shape[1])]


def reference_logits(kind, ids, kept):
    """Logits for all `ids` without a cache, by eager attention at true positions.

    Tokens from N_X on see only the prompt entries `kept[layer][head]`; in layers that are not listed, all of them.
    """
    def masked_attention(module, query, key, value, attention_mask, scaling, sliding_window=None, softcap=None,
                         **kwargs):
        n, group = query.shape[2], query.shape[1] // key.shape[1]
        key, value = repeat_kv(key, group), repeat_kv(value, group)
        distance = torch.arange(n)[:, None] - torch.arange(n)[None]
        visible = (distance >= 0).expand(query.shape[1], n, n).clone()
        if sliding_window is not None:
            visible &= distance < sliding_window
        for head in range(query.shape[1] if module.layer_idx in kept else 0):
            row = torch.ones(n, dtype=torch.bool)
            row[:N_X] = False
            row[kept[module.layer_idx][head // group]] = True
            visible[head, N_X:] &= row
        logits = query @ key.transpose(2, 3) * scaling
        logits = softcap * torch.tanh(logits / softcap) if softcap else logits
        return (logits.masked_fill(~visible, float('-inf')).softmax(-1) @ value).transpose(1, 2), None

    AttentionInterface.register('masked_reference', masked_attention)
    model = AutoModelForCausalLM.from_pretrained(tiny_models.directory(kind), attn_implementation='masked_reference')
    with torch.inference_mode():
        return model(torch.tensor([ids]), use_cache=False).logits[0]


@pytest.mark.parametrize('scorer', ['snapkv', 'random'])
@pytest.mark.parametrize('kind', tiny_models.EVICTABLE)
@pytest.mark.parametrize('n_keep', [1, 2, 30, 99, N_X])
def test_decoding_after_eviction_sees_the_kept_entries_at_their_true_positions(kind, n_keep, scorer):
    model, ids, more = load(kind, scorer), tiny_models.prompt_ids(N_X), tiny_models.prompt_ids(6, seed=1)
    model.reset()
    model.prefill(ids, chunk_tokens=37)
    before = [layer.keys.clone() for layer in model.cache.layers]
    model.evict(n_keep)
    kept = {}
    for index, layer in enumerate(model.cache.layers):
        if layer.is_sliding:
            assert layer.get_seq_length() == N_X and torch.equal(layer.keys, before[index])
        else:
            assert layer.get_seq_length() == n_keep
            kept[index] = kept_indices(before[index][:, :, :N_X], layer.filled()[0])
            assert all(slots == sorted(slots) for slots in kept[index])
    assert sorted(kept) == model.cache.evictable_layers()
    reference = reference_logits(kind, ids + more, kept)
    for i, token in enumerate(more):
        torch.testing.assert_close(model.step(torch.tensor(token), N_X + i), reference[N_X + i], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('n_x', [1, 2, MAX_WINDOW])
def test_a_prompt_shorter_than_the_window_can_be_evicted_too(n_x):
    model = load('qwen2')
    model.reset()
    model.prefill(tiny_models.prompt_ids(n_x), chunk_tokens=5)
    model.evict(max(1, n_x // 2))
    assert {layer.get_seq_length() for layer in model.cache.layers} == {max(1, n_x // 2)}


def test_a_real_cache_keeps_what_was_generated_when_the_prompt_is_evicted_again():
    model = load('qwen2')
    ids = tiny_models.prompt_ids(100)
    model.reset()
    logits = model.prefill(ids, chunk_tokens=37)
    model.evict(60)
    for i in range(5):
        logits = model.step(logits.argmax(), 100 + i)
    before = [tuple(t[:, :, 60:].clone() for t in layer.filled()) for layer in model.cache.layers]
    model.evict(20)
    for (keys, values), layer in zip(before, model.cache.layers, strict=True):
        now_keys, now_values = layer.filled()
        assert now_keys.shape[2] == 25
        assert torch.equal(now_keys[:, :, 20:], keys) and torch.equal(now_values[:, :, 20:], values)
    model.evict(90)
    assert model.cache.get_seq_length() == 25, 'what is gone does not come back'
    model.step(logits.argmax(), 105)
    assert model.cache.get_seq_length() == 26
