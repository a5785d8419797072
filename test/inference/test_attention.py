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

"""Our attention function computes what transformers' eager attention computes, and remembers the last queries."""
from types import SimpleNamespace

import pytest
import torch
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward as gemma2_attention_forward
from transformers.models.llama.modeling_llama import eager_attention_forward

from timebill_ros.inference import attention as attention_module
from timebill_ros.inference.attention import attention
from timebill_ros.inference.query_recorder import QueryRecorder

HEAD_DIM = 8
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 3e-3}


def states(n_query, n_key, n_heads, n_kv_heads, dtype=torch.float32):
    generator = torch.Generator().manual_seed(n_query * 1000 + n_key)
    return [torch.randn(1, heads, n, HEAD_DIM, generator=generator).to(dtype)
            for heads, n in ((n_heads, n_query), (n_kv_heads, n_key), (n_kv_heads, n_key))]


def eager(query, key, value, scaling, window=None):
    """Transformers' own computation, with the mask written out."""
    n_query, n_key = query.shape[2], key.shape[2]
    bias = torch.zeros(n_query, n_key)
    for i in range(n_query):
        position = n_key - n_query + i
        for j in range(n_key):
            if j > position or (window is not None and j <= position - window):
                bias[i, j] = float('-inf')
    module = SimpleNamespace(num_key_value_groups=query.shape[1] // key.shape[1], training=False)
    return eager_attention_forward(module, query, key, value, bias[None, None].to(query.dtype), scaling)[0]


def test_on_a_gpu_none_is_chosen_that_plans_for_each_length():
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        attention_module.avoid_plans_for_each_length()
        assert not torch.backends.cuda.cudnn_sdp_enabled() and torch.backends.cuda.flash_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize(('n_heads', 'n_kv_heads'), [(4, 4), (8, 2), (6, 1)])
@pytest.mark.parametrize(('n_query', 'n_key', 'window'), [
    (20, 20, None),  # prefill in one chunk
    (1, 1, None),  # a prompt of one token
    (7, 20, None),  # a later chunk
    (19, 20, None),
    (1, 20, None),  # decoding
    (20, 20, 8),  # prefill beyond a sliding window
    (20, 20, 20),  # prefill just within one
    (7, 14, 8),  # a later chunk: the cache layer shows window - 1 older entries
    (1, 8, 8),  # decoding: the cache layer shows the window
])
def test_it_is_eager_attention(n_query, n_key, window, n_heads, n_kv_heads, dtype):
    query, key, value = states(n_query, n_key, n_heads, n_kv_heads, dtype)
    ours, weights = attention(SimpleNamespace(), query, key, value, None, scaling=0.3, sliding_window=window)
    assert weights is None and ours.shape == (1, n_query, n_heads, HEAD_DIM) and ours.dtype == dtype
    torch.testing.assert_close(ours, eager(query, key, value, 0.3, window), rtol=TOLERANCE[dtype],
                               atol=TOLERANCE[dtype])


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize(('n_heads', 'n_kv_heads'), [(4, 4), (8, 2), (6, 1)])
@pytest.mark.parametrize(('n_query', 'n_key', 'window'), [(7, 20, None), (19, 20, None), (7, 14, 14), (7, 14, 8)])
def test_it_is_that_by_kernels_that_align_queries_to_the_end(n_query, n_key, window, n_heads, n_kv_heads, dtype,
                                                             monkeypatch):
    """As on CUDA; PyTorch itself falls back to a mask on a CPU."""
    monkeypatch.setattr(attention_module, '_aligns_to_end', {'cpu'})
    test_it_is_eager_attention(n_query, n_key, window, n_heads, n_kv_heads, dtype)
    assert attention_module._aligns_to_end == {'cpu'}


def test_where_such_kernels_fail_a_mask_is_used_from_then_on(monkeypatch, caplog):
    monkeypatch.setattr(attention_module, '_aligns_to_end', {'cpu'})
    monkeypatch.setattr(attention_module, 'causal_lower_right', _fails)
    with caplog.at_level('INFO'):
        test_it_is_eager_attention(7, 20, None, 8, 2, torch.float32)
    assert not attention_module._aligns_to_end and 'no kernel for the test' in caplog.text


def _fails(*sizes):
    raise RuntimeError('no kernel for the test')


@pytest.mark.parametrize('n_key', [1, 20])
@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize(('n_heads', 'n_kv_heads'), [(4, 4), (8, 2), (6, 1)])
def test_slots_that_are_hidden_are_not_seen(n_key, n_heads, n_kv_heads, dtype):
    """A decode step of fixed size shows slots that are not filled yet, see steps/step_module.py."""
    query, key, value = states(1, n_key, n_heads, n_kv_heads, dtype)
    visible = (torch.arange(n_key + 12) < n_key)[None, None, None]
    fixed = [torch.cat([some, torch.full((1, n_kv_heads, 12, HEAD_DIM), 50.0).to(dtype)], dim=2)
             for some in (key, value)]
    ours, _ = attention(SimpleNamespace(), query, *fixed, visible, scaling=0.3)
    torch.testing.assert_close(ours, eager(query, key, value, 0.3), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_the_scaling_defaults_to_the_head_size():
    query, key, value = states(5, 9, 4, 2)
    ours, _ = attention(SimpleNamespace(), query, key, value, None)
    torch.testing.assert_close(ours, eager(query, key, value, HEAD_DIM ** -0.5))


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize(('n_heads', 'n_kv_heads'), [(4, 4), (8, 2)])
@pytest.mark.parametrize(('n_query', 'n_key', 'window'), [(20, 20, None), (7, 20, None), (1, 20, None), (7, 14, 8),
                                                          (1, 1, None)])
def test_soft_capped_logits_are_gemmas(n_query, n_key, window, n_heads, n_kv_heads, dtype):
    query, key, value = states(n_query, n_key, n_heads, n_kv_heads, dtype)
    query = (3 * query).transpose(1, 2).contiguous().transpose(1, 2)  # as models lay them out
    ours, _ = attention(SimpleNamespace(), query, key, value, None, scaling=0.5, sliding_window=window, softcap=2.0)
    position = torch.arange(n_key - n_query, n_key)[:, None]
    hidden = (torch.arange(n_key) > position) | (torch.arange(n_key) <= position - (window or n_key))
    module = SimpleNamespace(num_key_value_groups=n_heads // n_kv_heads, training=False)
    bias = torch.zeros(n_query, n_key).masked_fill(hidden, float('-inf'))[None, None].to(dtype)
    expected = gemma2_attention_forward(module, query, key, value, bias, scaling=0.5, softcap=2.0)[0]
    torch.testing.assert_close(ours, expected, rtol=TOLERANCE[dtype], atol=2 * TOLERANCE[dtype])
    uncapped = attention(SimpleNamespace(), query, key, value, None, scaling=0.5, sliding_window=window)[0]
    assert n_key == 1 or (uncapped - ours).abs().max() > 0.1, 'a cap that changes nothing'


def test_soft_capped_logits_of_hidden_slots_are_not_seen():
    query, key, value = states(1, 20, 8, 2)
    visible = (torch.arange(20) < 13)[None, None, None]
    ours, _ = attention(SimpleNamespace(), query, key, value, visible, softcap=2.0)
    shown, _ = attention(SimpleNamespace(), query, key[:, :, :13], value[:, :, :13], None, softcap=2.0)
    torch.testing.assert_close(ours, shown)


@pytest.mark.parametrize(('mask', 'wanted'), [
    (None, dict(s_aux=torch.zeros(4))), (torch.ones(1, 1, 1, 5), {}),
], ids=['sinks', 'mask'])
@pytest.mark.parametrize('n_query', [1, 5])
def test_what_it_does_not_compute_is_refused(mask, wanted, n_query):
    query, key, value = states(n_query, 5, 4, 2)
    with pytest.raises(ValueError, match='attention mask or attention sinks'):
        attention(SimpleNamespace(), query, key, value, mask, **wanted)


def test_queries_are_recorded_only_while_asked_for():
    module = SimpleNamespace(timebill_recorder=QueryRecorder(8))
    query, key, value = states(5, 5, 4, 2)
    attention(module, query, key, value, None)
    assert module.timebill_recorder.queries is None
    module.timebill_recorder.recording = True
    attention(module, query, key, value, None, scaling=0.5)
    assert torch.equal(module.timebill_recorder.queries, query) and module.timebill_recorder.scaling == 0.5
