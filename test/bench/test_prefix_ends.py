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

"""Fewer tokens to compute: the means over all cuts, and that ends of a tiny model are measured."""
import random

import pytest
import tiny_models

from timebill_ros.bench import prefix_ends
from timebill_ros.bench.prefix_ends import ENDS
from timebill_ros.inference import prefix_check
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prefix_store import PrefixStore
from timebill_ros.inference.prompt_tiles import TILE

LINEAR = {n: float(n) for n in ENDS}


@pytest.mark.parametrize(('exact', 'new', 'now', 'kept'), [
    ([1, 2, 4, 8, 16, 24, 32, 40, 48, 64], 1, 47.5, 16.5), ([32, 40, 48, 64], 1, 47.5, 32.0),
    ([1, 2], 20, 47.5, 35.5), ([], 31, 47.5, 46.53125)])
def test_how_many_tokens_are_computed(exact, new, now, kept):
    row = next(row for row in prefix_ends._compared(LINEAR, TILE, exact) if row['new'] == new)
    assert (row['tokens'], row['tokens_with_queries']) == (now, kept)
    assert row['seconds'] == pytest.approx(now) and row['seconds_with_queries'] == pytest.approx(kept)


def test_what_is_measured_on_a_model():
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1, dtype='float32')
    prefix_check.use_way(model, 'tiles')
    model.prefixes = store = PrefixStore(model.cache, TILE, 8)
    row = prefix_ends.measure(model, TILE, known=100, rounds=2, seconds=0.0, draw=random.Random(0))
    assert (row['known'], row['unit'], row['rounds']) == (96, TILE, 2) and [n for n, _ in row['seconds']] == list(ENDS)
    assert {32, 64} <= set(row['same_states']), 'whole tiles have the bits that they have in a longer chunk'
    layers, heads, kv_heads = (getattr(model.model.config, name) for name in (
        'num_hidden_layers', 'num_attention_heads', 'num_key_value_heads'))
    assert row['block_query_bytes'] / row['block_bytes'] == heads / (2 * kv_heads) and layers > 0
    assert model.prefixes is store and max(model.cache.lengths) == 0
