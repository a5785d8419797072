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

"""What known beginnings save is measured for a profile that does not tell it, at lengths that do not take long."""
from dataclasses import replace

import pytest
import tiny_models

from timebill_ros.inference import prefix_check
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prefix_store import PrefixStore
from timebill_ros.timing import prefix_costs
from timebill_ros.timing.execution_time import FRESH, ExecutionTimes
from timebill_ros.timing.profile import Profile
from timebill_ros.timing.profiling import identity

CHUNK = 64
TIMES = ExecutionTimes(a=0.0, b=1e-4, c=0.0, p=1e-6, q=1e-3)


@pytest.fixture(scope='module')
def kept():
    """A model with a store of prompts."""
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1)
    way, _ = prefix_check.choose_way(model, CHUNK)
    prefix_check.use_way(model, way)
    unit = prefix_check.unit_of(way, CHUNK)
    model.prefixes = PrefixStore(model.cache, unit, 1024 // unit)
    return model


def profile(model, lengths, times=TIMES):
    return Profile(identity(model, None), times, points={'prefill': [[n, 0.1] for n in lengths]})


def known(model, n):
    """How much of a prompt of `n` tokens is gone on from."""
    return (n - FRESH) // model.prefixes.unit * model.prefixes.unit


def test_the_shortest_and_the_longest_length_are_measured_and_other_times_stay(kept):
    before = profile(kept, (64, 128, 256, 450))
    after = prefix_costs.added_to(before, kept, CHUNK)
    assert [n for n, _ in after.points['prefix']] == [known(kept, 128), known(kept, 450)] * prefix_costs.REPEATS
    assert all(seconds > 0 for _, seconds in after.points['prefix'])
    assert after.times.knows_prefixes and not before.times.knows_prefixes and 'prefix' not in before.points
    assert replace(after.times, g_1=0.0, g_0=0.0) == before.times and after.identity == before.identity
    kept.check()


def test_prompts_that_take_long_are_left_out_but_for_the_shortest(kept):
    slow = profile(kept, (128, 256, 450), replace(TIMES, b=1.0))
    assert {n for n, _ in prefix_costs.added_to(slow, kept, CHUNK).points['prefix']} == {known(kept, 128)}


def test_a_profile_stays_where_there_is_nothing_to_measure(kept, monkeypatch):
    short = profile(kept, (64,))
    assert prefix_costs.lengths_of(short, kept) == [] and prefix_costs.added_to(short, kept, CHUNK) is short
    monkeypatch.setattr(kept, 'prefixes', None)
    whole = profile(kept, (128, 256))
    assert prefix_costs.added_to(whole, kept, CHUNK) is whole
