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

"""The prefill of reused prompts: the cuts that are drawn, what is compared, and llama.cpp's side on a stand-in."""
import random
from types import SimpleNamespace

import pytest

from timebill_ros.bench.prefix_reading import CUT, CUTS, Case, Reading, Rival, _Prompts, _summary
from timebill_ros.bench.prefix_ways import BEFORE, NOTHING, REUSED

CASE = Case(100, 20, 4.0, 5.0, 1.0)


@pytest.fixture
def prompts():
    table = SimpleNamespace(num_embeddings=50)
    model = SimpleNamespace(tokenizer=range(60), model=SimpleNamespace(get_input_embeddings=lambda: table))
    return _Prompts(model, CASE, random.Random(1))


def test_prompts_begin_alike_and_are_cut_anywhere(prompts):
    ids, lengths = prompts.fresh(), set()
    assert 100 <= len(ids) < 100 + CUT and max(ids) < 50
    for _ in range(1000):
        other = prompts.like(ids)
        lengths.add(len(other))
        common = len(other) - CASE.new
        assert other[:min(common, len(ids))] == ids[:common]
    assert lengths == set(range(100, 100 + CUT))


class Peer:
    """In the place of llama.cpp: reading a token that it does not hold takes a second."""

    def __init__(self):
        self.held, self.kept, self.happened = [], [], []

    def forget(self):
        self.held = []

    def first_token(self, ids):
        known = next((i for i, (a, b) in enumerate(zip(self.held, ids, strict=False)) if a != b),
                     min(len(self.held), len(ids)))
        self.held = ids
        return float(len(ids) - known)

    def keep(self):
        self.kept = self.held
        return 7

    def take(self):
        self.held = self.kept
        return 0.5


def test_llama_reads_on_from_the_same_prompt_each_time(prompts):
    rival = Rival(Peer(), prompts)
    rival.round()
    rival.round()
    found = rival.summary()
    assert len(rival._reused) == 2 * CUTS and max(rival._reused) <= CASE.new + CUT
    assert 100 <= found['from_nothing_s'] < 100 + CUT and found['copied_back_s'] == 0.5 and found['kept_bytes'] == 7
    assert found['quicker'] == found['from_nothing_s'] / found['reused_s'] > 1


@pytest.mark.parametrize('evicts', [True, False])
def test_rounds_are_compared_in_pairs(evicts):
    def readings(*seconds):
        return [Reading(s, 2 * s, [], 40) for s in seconds]

    times = {NOTHING: readings(10.0, 30.0, 11.0), BEFORE: readings(10.0, 20.0, 11.0), REUSED: readings(1.0, 2.0, 3.0)}
    row = _summary(times, evicts=evicts)
    assert row['quicker'] == 5.5 and row['against_before'] == 1.0 == row['best_against_before']
    assert row['seconds'] == {NOTHING: 11.0, BEFORE: 11.0, REUSED: 2.0} and row['computed'] == 40
    assert (row['rounds'], row['read_on']) == (3, 3) and row.get('evicted_quicker') == (5.5 if evicts else None)
