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

"""The time of a response is the sum of the times of its steps, with a bend and without."""
import math
import random

import pytest

from timebill_ros.timing.step_time import StepTime


@pytest.mark.parametrize(('steps', 'n_keep', 'n', 'seconds'), [
    (StepTime(1.0, 0.0), 10, 0, 0.0),
    (StepTime(1.0, 0.0), 10, 1, 0.0),  # token 0 comes from prefill
    (StepTime(1.0, 0.5), 10, 2, 10.5),
    (StepTime(1.0, 0.5), 10, 4, 10.5 + 11.5 + 12.5),
    (StepTime(0.0, 0.5), 10, 4, 1.5),
    (StepTime(1.0, 0.5, 2.0, 11), 10, 4, 10.5 + 11.5 + 12.5 + 2.0),
    (StepTime(0.0, 0.0, 1.0, 5), 10, 3, 5 + 6),
    (StepTime(0.0, 0.0, 1.0, 12), 10, 3, 0.0),
])
def test_by_hand(steps, n_keep, n, seconds):
    assert steps.decode(n_keep, n) == seconds


@pytest.mark.parametrize('seed', range(50))
def test_a_response_takes_the_sum_of_its_steps(seed):
    rng = random.Random(seed)
    steps = StepTime(rng.uniform(0, 1), rng.uniform(0, 1), rng.choice([0.0, rng.uniform(0, 3)]), rng.randint(0, 60))
    n_keep, n = rng.randint(0, 50), rng.randint(1, 40)
    assert steps.decode(n_keep, n) == pytest.approx(sum(steps(n_keep + i) for i in range(n - 1)))
    assert steps.scaled(1.5).decode(n_keep, n) == pytest.approx(1.5 * steps.decode(n_keep, n))


@pytest.mark.parametrize('seed', range(20))
def test_it_never_falls_with_the_length_or_the_cache_rounding_included(seed):
    rng = random.Random(seed)
    steps = StepTime(10 ** rng.uniform(-12, 2), 10 ** rng.uniform(-9, 1), 10 ** rng.uniform(-12, 0), rng.randint(0, 90))
    for n in range(1, 60):
        times = [steps.decode(n_keep, n) for n_keep in range(100)]
        assert times == sorted(times)
    for n_keep in (0, 1, 50, 99):
        times = [steps.decode(n_keep, n) for n in range(1, 100)]
        assert times == sorted(times) and math.isfinite(times[-1])
