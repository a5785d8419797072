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

"""Which way computes attention: the quickest on this device, where it is right and can be had."""
from __future__ import annotations

import pytest
import torch

from timebill_ros.inference import slot_attention
from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.slot_attention import WAYS, way_for
from timebill_ros.inference.steps import attention_choice
from timebill_ros.inference.steps.attention_choice import choose, lengths

SHAPE = (torch.device('cpu'), torch.float32, 2, 3, 8)  # of a query: 6 heads on 2


@pytest.fixture
def cache(monkeypatch):
    monkeypatch.setattr(slot_attention, '_chosen', {})
    one = SlotCache(2048, [None, None])
    for layer in one.layers:
        layer.lazy_initialization(torch.zeros(1, 2, 1, 8))
    return one


def timed(monkeypatch, seconds):
    """Make ways seem to take so many seconds, by name and number of slots; the others fail."""
    names = {}

    def capture(call):
        call()
        return call

    class Way:
        def __init__(self, name):
            self.name = name

        def __call__(self, query, key, value, visible, scale):
            if self.name not in seconds:
                raise RuntimeError('no such kernel\nof the test')
            names['last'] = self.name, key.shape[2]
            return slot_attention.by_products(query, key, value, visible, scale)

    monkeypatch.setattr(attention_choice, 'ON_CUDA', ())
    for name in list(WAYS):
        monkeypatch.setitem(WAYS, name, Way(name))

    def median_s(replay, device):
        replay()
        name, n = names['last']
        return seconds[name](n)
    monkeypatch.setattr(attention_choice, '_median_s', median_s)
    return capture


@pytest.mark.parametrize(('capacity', 'expected'), [
    (100, []), (256, []), (257, [256, 257]), (1024, [256, 1024]), (8192, [256, 1024, 4096, 8192])])
def test_lengths(capacity, expected):
    assert lengths(capacity) == expected


def test_each_length_has_the_way_that_is_quickest_there(cache, monkeypatch, caplog):
    capture = timed(monkeypatch, {'sdpa': lambda n: n, 'products': lambda n: 400.0 if n < 2048 else 3000.0,
                                  'flex_decoding': lambda n: 900.0})
    with caplog.at_level('INFO'):
        choose(cache, 6, capture)
    assert [way_for(SHAPE, n) for n in (100, 256, 1000, 1024, 2047, 2048)] == [
        'sdpa', 'sdpa', 'sdpa', 'products', 'products', 'flex_decoding']
    assert 'products over 1,024 entries' in caplog.text


def test_a_way_that_is_hardly_quicker_is_not_used(cache, monkeypatch):
    for share, expected in ((0.95, 'sdpa'), (0.85, 'products')):
        monkeypatch.setattr(slot_attention, '_chosen', {})
        choose(cache, 6, timed(monkeypatch, {'sdpa': lambda n: 1.0, 'products': lambda n, share=share: share}))
        assert way_for(SHAPE, 2048) == expected


def test_a_second_precision_of_the_model_chooses_nothing_anew(cache, monkeypatch):
    for share in (0.5, 2.0):
        choose(cache, 6, timed(monkeypatch, {'sdpa': lambda n: 1.0, 'products': lambda n, share=share: share}))
    assert way_for(SHAPE, 2048) == 'products'


def test_a_way_that_cannot_be_had_is_left_out_and_the_reason_told(cache, monkeypatch, caplog):
    with caplog.at_level('INFO'):
        choose(cache, 6, timed(monkeypatch, {'products': lambda n: 1.0}))
    assert way_for(SHAPE, 2048) == 'products'
    assert 'attention by flex_decoding cannot be had: RuntimeError: no such kernel\n' in caplog.text


def test_a_way_that_is_wrong_is_not_used(cache, monkeypatch, caplog):
    capture = timed(monkeypatch, {'sdpa': lambda n: 1.0, 'products': lambda n: 1.0})
    monkeypatch.setitem(WAYS, 'flex_decoding', lambda query, *others: 1.1 * slot_attention.by_products(query, *others))
    with caplog.at_level('INFO'):
        choose(cache, 6, capture)
    assert way_for(SHAPE, 2048) == 'sdpa' and 'by flex_decoding differs from the exact result' in caplog.text


def test_nothing_is_timed_on_a_short_cache(monkeypatch):
    monkeypatch.setattr(slot_attention, '_chosen', {})
    one = SlotCache(200, [None])
    one.layers[0].lazy_initialization(torch.zeros(1, 2, 1, 8))
    choose(one, 6, None)
    assert not slot_attention._chosen


def test_pytorchs_own_ways_can_be_timed_here(cache, caplog):
    with caplog.at_level('INFO'):
        choose(cache, 6, lambda call: call)
    assert way_for(SHAPE, 2048) in ('sdpa', 'products') and 'flex_decoding' not in caplog.text
