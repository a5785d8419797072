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

"""The layer whose states tell the lengths is found."""
import numpy as np
import pytest

from timebill_ros.training.layer_choice import choose_layer


@pytest.mark.parametrize('telling', [4, 6, 8])
def test_the_layer_that_tells_is_chosen(telling):
    rng = np.random.default_rng(telling)
    lengths = rng.integers(1, 100, 80)
    whole = lengths < 90
    states = {depth: rng.normal(size=(80, 12)).astype(np.float16) for depth in (4, 6, 8)}
    states[telling][:, 0] = np.log(lengths)
    choice = choose_layer(states, np.minimum(lengths, 90), whole)
    assert choice.depth == telling and set(choice.gains) == {4, 6, 8}
    assert choice.gains[telling][0] > 5 * choice.gains[telling][1] > 0


def test_few_labels_choose_nothing():
    states = {depth: np.ones((3, 4), dtype=np.float16) for depth in (5, 7, 9)}
    assert choose_layer(states, np.array([1, 2, 3]), np.array([True] * 3)).depth == 7
