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

"""What it takes to bring entries back is measured where there is a store with room, and changes nothing in it."""
import functools

import tiny_models

from timebill_ros.inference.evictions import Evictions
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prefix_store import PrefixStore
from timebill_ros.timing import fitting, restore_costs
from timebill_ros.timing.profile import Identity, Profile


@functools.cache
def load():
    return CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1)


def test_it_is_measured_in_a_visit_and_the_prompt_is_whole_again():
    model, ids = load(), tiny_models.prompt_ids(100)
    model.prefixes = PrefixStore(model.cache, 16, 8)
    model.reset()
    model.prefill(ids, chunk_tokens=50)
    with Evictions(model, ids, reversible=True) as evictions:
        assert restore_costs.measure(model, evictions) == {}, 'nothing was evicted'
        evictions.evict(20)
        [[n, seconds]] = restore_costs.measure(model, evictions)['restore']
    assert n == 100 and seconds > 0 and model.cache.lengths == [100] * 3
    model.check()
    model.prefixes = None


def test_its_fit_is_part_of_the_execution_times():
    steps = {kind: [[n, 1e-3] for n in (10, 100)] for kind in ('prefill', 'step')}
    times = fitting.fit({**steps, 'restore': [[n, 1e-3 + 1e-5 * n] for n in (10, 100, 1000)]})
    assert abs(times.restore(500) - 6e-3) < 1e-9 and times.estimate('restore', 500) == times.restore(500)
    assert times.knows_restores and not fitting.fit(steps).knows_restores
    assert times.of_costs(times.costs()) == times


def test_a_profile_of_an_earlier_version_has_it_measured():
    model = load()
    model.prefixes = None
    steps = {kind: [[n, 1e-3] for n in (10, 100)] for kind in ('prefill', 'step')}
    profile = Profile(Identity('device', 'model', 'none', 'float32'), fitting.fit(steps), points=steps)
    assert restore_costs.added_to(profile, model) is profile, 'there is no store'
    model.prefixes = PrefixStore(model.cache, 16, 9)
    added = restore_costs.added_to(profile, model)
    assert added.times.restore(100) > 0 and {n for n, _ in added.points['restore']} == {16, 64, 128}
    assert restore_costs.added_to(added, model) is added
    assert model.cache.lengths == [0, 0, 0] and model.prefixes.lendable == 9 * 16
    model.check()
    model.prefixes = None
