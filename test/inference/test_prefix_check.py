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

"""Which way prompts go on after a known beginning: the finest one that changes no bit, or none."""
import functools

import pytest
import tiny_models
import torch

from timebill_ros.inference import prefix_check
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prompt_tiles import TILE, PromptTiles

OUR_CACHE = [*tiny_models.EVICTABLE, *tiny_models.SLIDING_ONLY]


@functools.cache
def load(kind, dtype='float32'):
    return CausalLM(str(tiny_models.directory(kind)), device='cpu', threads=1, dtype=dtype)


@pytest.fixture(autouse=True)
def as_it_was():
    yield
    for kind in OUR_CACHE:
        load(kind).use_tiles(None)


@pytest.mark.parametrize('kind', OUR_CACHE)
def test_a_way_is_found_that_changes_no_bit(kind):
    """Which one depends on the processor's kernels: the strict grid of chunks holds in any case."""
    way, why = prefix_check.choose_way(load(kind), 64)
    assert way in ('tiles', 'chunks') and (way == 'tiles' or 'tiles: ' in why), why
    assert load(kind).cache.lengths == [0] * len(load(kind).cache.layers)  # nothing of the trial is left


@pytest.mark.parametrize(('chunk_tokens', 'way', 'why'), [
    (48, 'chunks', 'no multiple of 32'), (500, 'none', 'too short'), (400, 'chunks', 'no multiple of 32')])
def test_chunks_that_suit_no_tiles(chunk_tokens, way, why):
    found, reason = prefix_check.choose_way(load('qwen2'), chunk_tokens)
    assert found == way and why in reason


def test_attention_that_depends_on_the_chunk_is_noticed(monkeypatch):
    """With PyTorch's attention in the place of tiles, a row's bits depend on its chunk: on some machines only."""
    attend = PromptTiles.attend

    def depends(self, query, *others):
        return attend(self, query, *others) * (1 + 1e-6 * (query.shape[2] % 7))

    monkeypatch.setattr(PromptTiles, 'attend', depends)
    way, why = prefix_check.choose_way(load('qwen2'), 64)
    assert way == 'chunks' and 'differ' in why
    assert getattr(next(iter(load('qwen2')._attentions.values())), 'timebill_tiles', None) is None


def test_where_nearly_the_same_is_enough_attention_may_depend_on_the_chunk(monkeypatch):
    attend = PromptTiles.attend

    def depends(self, query, *others):
        return attend(self, query, *others) * (1 + 1e-6 * (query.shape[2] % 7))

    monkeypatch.setattr(PromptTiles, 'attend', depends)
    way, why = prefix_check.choose_way(load('qwen2'), 64, exact=False)
    assert way == 'near' and 'tiles: ' in why and prefix_check.unit_of(way, 64) == TILE


def test_a_model_that_never_gives_the_same_twice_reads_every_prompt_from_its_beginning(monkeypatch):
    prefill = CausalLM.prefill

    def noisy(self, ids, **options):
        logits = prefill(self, ids, **options)
        self.cache.layers[0].keys[:, :, :len(ids)] += torch.rand(()) * 1e-3
        return logits

    monkeypatch.setattr(CausalLM, 'prefill', noisy)
    way, why = prefix_check.choose_way(load('llama'), 64)
    assert way == 'none' and why.count('differ') == 2


def test_near_is_what_rounding_makes_and_not_another_token():
    states = torch.randn(1, 2, 2000, 8, generator=torch.Generator().manual_seed(1))
    assert prefix_check._near(states, states * 1.02)
    assert not prefix_check._near(states, states * 1.1)
    other = states.clone()
    other[:, :, 1200] *= -1
    assert (states - other).norm() < prefix_check.NEAR * states.norm(), 'one token among many hardly shows in all'
    assert not prefix_check._near(states, other)


def test_the_borders_of_a_way():
    assert [prefix_check.unit_of(way, 256) for way in prefix_check.WAYS] == [TILE, TILE, 256, 0]
