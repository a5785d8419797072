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

"""Attention in tiles: the values of plain causal attention, and the same bits in whatever chunk a row is."""
import pytest
import torch

from timebill_ros.inference.prompt_tiles import TILE, PromptTiles

D = 16


def states(n_heads, n, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, n_heads, n, D, generator=generator).to(dtype)


def dense(query, key, value, window, scaling, softcap):
    """Attention in double precision with a mask for every pair: [1, H_q, L, D] -> [1, L, H_q, D]."""
    group = query.shape[1] // key.shape[1]
    n_query, n_key = query.shape[2], key.shape[2]
    query, key, value = query.double(), *(x.double().repeat_interleave(group, 1) for x in (key, value))
    logits = query @ key.transpose(2, 3) * scaling
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    at = torch.arange(n_key - n_query, n_key)[:, None]
    keys = torch.arange(n_key)[None]
    visible = keys <= at if window is None else (keys <= at) & (keys > at - window)
    return (logits.masked_fill(~visible, float('-inf')).softmax(-1) @ value).transpose(1, 2)


def chunk(tiles, whole, first, end, window, softcap=None):
    """Attention of the rows from `first` to `end`, over the keys that a cache layer shows them."""
    query, key, value = whole
    shown = max(0, first - window + 1) if window is not None else 0
    return tiles.attend(query[:, :, first:end], key[:, :, shown:end], value[:, :, shown:end], window, 0.3, softcap)


@pytest.mark.parametrize('heads', [(4, 2), (3, 3), (9, 3), (8, 1)], ids=str)
@pytest.mark.parametrize('window', [None, 24, 40, 500], ids=lambda w: f'window_{w}')
@pytest.mark.parametrize('softcap', [None, 2.0], ids=lambda s: f'softcap_{s}')
def test_it_is_causal_attention(heads, window, softcap):
    whole = states(heads[0], 150), states(heads[1], 150, seed=1), states(heads[1], 150, seed=2)
    tiles = PromptTiles(200)
    expected = dense(*whole, window, 0.3, softcap)
    for first, end in ((0, 150), (64, 150), (96, 97), (0, 20)):
        found = chunk(tiles, whole, first, end, window, softcap)
        assert found.is_contiguous() and found.shape == (1, end - first, heads[0], D)
        assert (found - expected[:, first:end]).abs().max() < 1e-5


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('window', [None, 24], ids=lambda w: f'window_{w}')
@pytest.mark.parametrize('softcap', [None, 2.0], ids=lambda s: f'softcap_{s}')
def test_a_row_has_the_same_bits_in_every_chunk(dtype, window, softcap):
    n = 5 * TILE + 7
    whole = states(6, n, dtype), states(2, n, dtype, 1), states(2, n, dtype, 2)
    tiles = PromptTiles(n)
    at_once = chunk(tiles, whole, 0, n, window, softcap)
    for border in range(TILE, n, TILE):
        parts = [chunk(tiles, whole, 0, border, window, softcap), chunk(tiles, whole, border, n, window, softcap)]
        assert torch.equal(torch.cat(parts, dim=1), at_once)


@pytest.mark.parametrize(('first', 'chunk_tokens', 'uses'), [
    (0, 64, True), (32, 64, True), (0, 48, False), (16, 64, False), (0, 1, False)])
def test_tiles_are_used_while_a_prompt_is_read_in_chunks_that_begin_with_one(first, chunk_tokens, uses):
    tiles = PromptTiles(100)
    with tiles.reading(first, chunk_tokens):
        assert tiles.is_reading is uses
    assert not tiles.is_reading
    with pytest.raises(ValueError), tiles.reading(0, 64):
        raise ValueError
    assert not tiles.is_reading


def test_one_mask_serves_all_tiles():
    tiles = PromptTiles(300)
    whole = states(4, 300), states(2, 300, seed=1), states(2, 300, seed=2)
    chunk(tiles, whole, 0, 300, None)
    (mask,) = tiles._masks.values()
    assert mask.shape == (2 * TILE, 320 + TILE)  # the capacity is rounded up to whole tiles
