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

"""The preallocated cache: what it shows, what it refuses, and that it never grows."""
import pytest
import torch

from timebill_ros.inference.kv_cache import SlotCache, SlotLayer

HEADS, DIM = 2, 4


def fill(layer, *lengths, start=0):
    """Append chunks whose entries hold their position; returns what the last update showed."""
    for n in lengths:
        states = torch.arange(start, start + n, dtype=torch.float32)[None, None, :, None].expand(1, HEADS, n, DIM)
        shown = layer.update(states, -states)
        start += n
    return shown


def positions(states):
    return states[0, 0, :, 0].abs().int().tolist()


@pytest.mark.parametrize('chunks', [[10], [4, 6], [1] * 10, [9, 1]], ids=str)
@pytest.mark.parametrize(('window', 'n_shown'), [(None, None), (4, 3), (16, 15)])
def test_an_update_shows_the_new_entries_and_what_they_may_attend_to(chunks, window, n_shown):
    layer = SlotLayer(16, window)
    keys, values = fill(layer, *chunks)
    older = list(range(10 - chunks[-1]))
    older = older if window is None else older[-n_shown:]
    assert positions(keys) == older + list(range(10 - chunks[-1], 10))
    assert torch.equal(values, -keys)
    assert layer.get_seq_length() == 10 and layer.get_max_length() == layer.get_max_cache_shape() == 16
    filled_keys, filled_values = layer.filled()
    assert positions(filled_keys) == positions(filled_values) == list(range(10))


@pytest.mark.parametrize('window', [None, 4, 16])
@pytest.mark.parametrize('n_query', [1, 3])
def test_mask_sizes_describe_what_the_next_update_shows(window, n_query):
    layer = SlotLayer(16, window)
    fill(layer, 9)
    sizes = layer.get_mask_sizes(n_query)
    assert sizes == layer.get_mask_sizes(torch.arange(9, 9 + n_query))  # older transformers pass positions
    keys, _ = fill(layer, n_query, start=9)
    assert sizes == (keys.shape[2], positions(keys)[0])


def test_nothing_moves_while_a_sequence_comes_and_goes():
    layer = SlotLayer(16)
    fill(layer, 5)
    where = layer.keys.data_ptr(), layer.values.data_ptr()
    for _ in range(2):
        fill(layer, 4, 1, 1)
        layer.keep(torch.tensor([[0, 3, 7], [1, 2, 9]]))
        fill(layer, 1, 1)
        assert layer.get_seq_length() == 5
        layer.reset()
        fill(layer, 5)
    assert (layer.keys.data_ptr(), layer.values.data_ptr()) == where
    assert layer.keys.shape == (1, HEADS, 17, DIM), 'one to spare'


def test_keep_compacts_each_head_by_its_own_indices_and_appends_after_them():
    layer = SlotLayer(16)
    fill(layer, 10)
    layer.keep(torch.tensor([[0, 3, 7], [1, 2, 9]]))
    fill(layer, 1, start=10)
    keys, values = layer.filled()
    assert keys[0, :, :, 0].tolist() == [[0, 3, 7, 10], [1, 2, 9, 10]]
    assert torch.equal(values, -keys)


def test_a_snapshot_brings_back_what_was_there_as_often_as_wanted():
    layer = SlotLayer(16)
    fill(layer, 10)
    snapshot = layer.snapshot()
    for _ in range(2):
        layer.keep(torch.tensor([[0, 3, 7], [1, 2, 9]]))
        fill(layer, 12, start=20)
        layer.restore(*snapshot)
        keys, values = layer.filled()
        assert positions(keys) == list(range(10)) and torch.equal(values, -keys)
    fill(layer, 1, start=10)
    assert positions(layer.filled()[0]) == list(range(11)) and snapshot[0].shape[2] == 10


def test_keys_and_values_may_differ_in_size_and_precision_is_kept():
    layer = SlotLayer(8)
    keys, values = layer.update(torch.ones(1, 2, 3, 6, dtype=torch.bfloat16), torch.ones(1, 2, 3, 4).bfloat16())
    assert keys.shape == (1, 2, 3, 6) and values.shape == (1, 2, 3, 4) and keys.dtype == torch.bfloat16


def test_overflow_is_refused_with_both_numbers_and_leaves_the_cache_usable():
    layer = SlotLayer(16)
    fill(layer, 10)
    with pytest.raises(ValueError, match=r'16 tokens.*17'):
        fill(layer, 7, start=10)
    fill(layer, 6, start=10)
    assert positions(layer.filled()[0]) == list(range(16))


def test_a_batch_is_refused():
    with pytest.raises(ValueError, match='batch of 2'):
        SlotLayer(16).update(torch.ones(2, 1, 3, 4), torch.ones(2, 1, 3, 4))


def test_a_cache_has_a_layer_per_window_and_evicts_only_full_attention():
    cache = SlotCache(16, [4, None, 4, None])
    assert [layer.is_sliding for layer in cache.layers] == [True, False, True, False]
    assert cache.evictable_layers() == [1, 3]
    for index in range(4):
        cache.update(torch.ones(1, 1, 6, DIM), torch.ones(1, 1, 6, DIM), index)
    assert [cache.get_seq_length(index) for index in range(4)] == [6] * 4
    cache.reset()
    assert [cache.get_seq_length(index) for index in range(4)] == [0] * 4


def test_a_window_that_the_capacity_does_not_reach_past_is_none():
    assert [layer.is_sliding for layer in SlotCache(64, [None, 63, 64, 65]).layers] == [False, True, False, False]
    assert SlotCache(64, [None, 63, 64, 65]).evictable_layers() == [0, 2, 3]


def test_with_clear_on_reset_a_sequence_starts_from_clear_slots():
    cache = filled_cache(None, None)
    cache.reset()
    assert all(layer.values.any() for layer in cache.layers), 'without it, nothing is spent on that'
    cache.lengths = [2, 2]
    cache.clear_on_reset()
    assert cache.lengths == [2, 2] and not any(layer.values[:, :, 2:].any() for layer in cache.layers)
    assert not any(layer.keys[:, :, 2:].any() for layer in cache.layers), 'a mask is added to products of keys'
    assert all(layer.values[:, :, 1].any() for layer in cache.layers)
    cache.reset()
    assert not any(layer.values.any() or layer.keys.any() for layer in cache.layers)
    for layer in cache.layers:
        fill(layer, 12)
        layer.keep(torch.arange(3).expand(HEADS, -1))
    cache.layers[0].values[:, :, 3] = 1.0  # a step wrote it
    cache.advance()
    snapshot = cache.layers[1].snapshot()
    cache.reset()
    cache.layers[1].restore(*snapshot)
    assert not cache.layers[0].values.any() and not cache.layers[1].values[:, :, 4:].any()
    cache.reset()
    assert not any(layer.values.any() for layer in cache.layers)


# -- invariants ------------------------------------------------------------------------------------------------------

def filled_cache(*windows):
    cache = SlotCache(16, list(windows))
    for layer in cache.layers:
        fill(layer, 10)
    return cache


def test_a_cache_that_was_filled_and_evicted_is_sound():
    cache = SlotCache(16, [None, 4])
    cache.check()  # before the first update too
    for layer in cache.layers:
        fill(layer, 10)
    cache.check()
    cache.layers[0].keep(torch.arange(3).expand(HEADS, -1))
    cache.check()
    cache.advance()
    assert cache.lengths == [4, 11]
    cache.lengths = [2, 5]
    assert [layer.length for layer in cache.layers] == [2, 5]
    cache.check()
    cache.reset()
    cache.check()


def _shrink(layer):
    layer.keys = layer.keys[:, :, :8]


@pytest.mark.parametrize(('break_it', 'words'), [
    (lambda cache: setattr(cache, 'lengths', [10, 9, 10]), r'different numbers of entries: \[9, 10\]'),
    (lambda cache: setattr(cache, 'lengths', [17, 17, 17]), 'layer 0 holds 17 entries in 16 slots'),
    (lambda cache: setattr(cache, 'lengths', [10, 10, 5]), r'sliding window hold \[5\] entries, others 10'),
    (lambda cache: setattr(cache.layers[1], 'length', -1), 'layer 1 holds -1 entries'),
    (lambda cache: _shrink(cache.layers[1]), r'layer 1 has keys of shape \[1, 2, 8, 4\]'),
    (lambda cache: setattr(cache.layers[0], 'values', cache.layers[0].values[:, :1]), 'layer 0 has keys of shape'),
    (lambda cache: setattr(cache.layers[0], 'is_initialized', False), 'has no slots'),
], ids=['uneven', 'overfull', 'sliding shorter', 'negative', 'slots', 'heads', 'unallocated'])
def test_a_broken_cache_says_what_is_broken(break_it, words):
    cache = filled_cache(None, None, 4)
    cache.check()
    break_it(cache)
    with pytest.raises(ValueError, match=words):
        cache.check()


def test_slots_that_are_filled_by_others_count_as_written():
    cache = SlotCache(8, [None])
    (layer,) = cache.layers
    layer.lazy_initialization(torch.zeros(1, 2, 1, 3))
    cache.clear_on_reset()
    keys, values = layer.refill(5)
    keys[:], values[:] = 1.0, 2.0
    assert cache.lengths == [5] and keys.shape == values.shape == (1, 2, 5, 3)
    assert layer.filled()[0].eq(1).all() and layer.filled()[1].eq(2).all()
    cache.reset()
    assert not layer.keys.any() and not layer.values.any()
