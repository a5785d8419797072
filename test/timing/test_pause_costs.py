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

"""What giving way costs is measured where there is room, and changes nothing."""
import functools

import tiny_models
import torch

from timebill_ros.inference.asides import Asides
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prefix_store import PrefixStore
from timebill_ros.timing import fitting, pause_costs
from timebill_ros.timing.profile import Identity, Profile


@functools.cache
def load():
    return CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1)


def test_it_is_measured_and_the_sequence_stays_as_it_is():
    model = load()
    model.prefixes, model.asides = PrefixStore(model.cache, 16, 8), None
    model.reset()
    model.prefill(tiny_models.prompt_ids(100), chunk_tokens=50)
    before = [states.clone() for layer in model.cache.layers for states in layer.filled()]
    assert pause_costs.measure(model, 100) == {}, 'nothing can give way'
    model.asides = Asides(model)
    assert pause_costs.measure(model, 129) == {}, 'there is no room'
    [[n, seconds]] = pause_costs.measure(model, 100)['pause']
    assert n == 100 and seconds > 0
    after = [states for layer in model.cache.layers for states in layer.filled()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    model.check()
    assert model.asides.room == 128


def test_its_fit_is_part_of_the_execution_times():
    steps = {kind: [[n, 1e-3] for n in (10, 100)] for kind in ('prefill', 'step')}
    times = fitting.fit({**steps, 'pause': [[n, 1e-3 + 1e-5 * n] for n in (10, 100, 1000)]})
    assert abs(times.pause(500) - 6e-3) < 1e-9 and times.estimate('pause', 500) == times.pause(500)
    assert fitting.fit(steps).pause(500) == 0.0, 'not measured'
    assert times.of_costs(times.costs()) == times


def test_a_profile_of_an_earlier_version_has_it_measured():
    model = load()
    model.prefixes, model.asides = PrefixStore(model.cache, 16, 8), None
    steps = {kind: [[n, 1e-3] for n in (10, 100)] for kind in ('prefill', 'step')}
    profile = Profile(Identity('device', 'model', 'none', 'float32'), fitting.fit(steps), points=steps)
    assert pause_costs.added_to(profile, model) is profile, 'nothing can give way'
    model.asides = Asides(model)
    added = pause_costs.added_to(profile, model)
    assert added.times.pause(100) > 0 and {n for n, _ in added.points['pause']} == {16, 64, 128}
    assert pause_costs.added_to(added, model) is added
    assert profile.times.pause(100) == 0 and model.cache.lengths == [0, 0, 0] and model.asides.room == 128
