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

"""Attention over partly hidden slots: every way computes the same, and the way is chosen by the number of slots."""
from __future__ import annotations

import pytest
import torch

from timebill_ros.inference import slot_attention as module
from timebill_ros.inference.slot_attention import UNTIMED, WAYS, shape_of, slot_attention, use, way_for

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 3e-3}


@pytest.fixture(autouse=True)
def nothing_timed(monkeypatch):
    monkeypatch.setattr(module, '_chosen', {})


def states(n, n_visible, group=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(n)
    query, key, value = (torch.randn(1, 2, k, 16, generator=generator).to(dtype) for k in (group, n, n))
    return query, key, value, (torch.arange(n) < n_visible)[None, None, None]


@pytest.mark.parametrize('name', [name for name in WAYS if name != 'flex_decoding'] + [
    pytest.param('flex_decoding', marks=pytest.mark.slow)])
@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize(('n', 'n_visible'), [(1, 1), (16, 1), (48, 47), (144, 130), (144, 144)])
@pytest.mark.parametrize('group', [1, 7])
def test_it_is_attention_over_the_visible_slots(name, dtype, n, n_visible, group):
    query, key, value, visible = states(n, n_visible, group, dtype)
    exact = [tensor.double() for tensor in (query, key[:, :, :n_visible], value[:, :, :n_visible])]
    expected = (0.3 * exact[0] @ exact[1].transpose(2, 3)).softmax(-1) @ exact[2]
    try:
        got = WAYS[name](query, key, value, visible, 0.3)
    except Exception as error:
        if name != 'flex_decoding':
            raise
        pytest.skip(f'this torch has no flex_attention for a CPU and {dtype}: {type(error).__name__}')
    assert got.dtype == dtype and got.shape == query.shape
    torch.testing.assert_close(got.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize('name', ['sdpa', 'products'])
def test_hidden_slots_of_any_finite_size_change_nothing(name):
    query, key, value, visible = states(48, 30)
    expected = WAYS[name](query, key, value, visible, 0.3).clone()
    key[:, :, 30:], value[:, :, 30:] = 1e4, -1e4
    assert torch.equal(WAYS[name](query, key, value, visible, 0.3), expected)


def test_nothing_timed_means_pytorchs_own_kernels():
    query, key, value, visible = states(48, 30)
    assert way_for(shape_of(query), 10) == UNTIMED == 'sdpa'
    assert torch.equal(slot_attention(query, key, value, visible, 0.3), WAYS['sdpa'](query, key, value, visible, 0.3))


def test_the_way_goes_by_the_number_of_slots_and_the_shape(monkeypatch):
    query, key, value, visible = states(48, 30)
    called = []
    for name in WAYS:
        monkeypatch.setitem(WAYS, name, lambda *arguments, name=name: called.append(name) or arguments[0])
    use(shape_of(query), {16: 'products', 48: 'flex_decoding', 256: 'sdpa'})
    for n in (8, 16, 47, 48):
        slot_attention(query, key[:, :, :n], value[:, :, :n], visible[..., :n], 0.3)
    slot_attention(query[:, :, :1], key, value, visible, 0.3)  # another group of heads
    assert called == ['sdpa', 'products', 'products', 'flex_decoding', 'sdpa']
    assert [way_for(shape_of(query), n) for n in (255, 256, 9999)] == ['flex_decoding', 'sdpa', 'sdpa']


def test_a_trace_holds_the_operator_and_not_a_way():
    class Over(torch.nn.Module):
        def forward(self, query, key, value, visible):
            return 2.0 * slot_attention(query, key, value, visible, 0.3)

    inputs, n = states(48, 30), torch.export.Dim('n', min=2, max=64)
    shapes = (None, {2: n}, {2: n}, {3: n})
    with torch.no_grad():
        program = torch.export.export(Over(), inputs, dynamic_shapes=shapes, strict=False).run_decompositions()
    assert [node.name for node in program.graph.nodes if node.target is torch.ops.timebill_ros.slot_attention.default]
    for n in (40, 48):
        query, key, value, visible = states(n, 30)
        for name in ('sdpa', 'products'):
            use(shape_of(query), {1: name})
            got = program.module()(query, key, value, visible)
            assert torch.equal(got, 2.0 * WAYS[name](query, key, value, visible, 0.3))
