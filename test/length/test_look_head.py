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


"""The head on looks: an answer's own states count where they tell something, and cost little where they do not."""
import numpy as np
import pytest

from timebill_ros.length.hidden_state_head import FEWEST, fit
from timebill_ros.length.label_grid import Labels
from timebill_ros.length.look_head import fit_looks

H = 12


def looks(n, *, prompt, own, seed=0):
    """States [n, 3 H] of looks and labels of what was left; `prompt`, `own`: how much each of the two tells."""
    draw = np.random.default_rng(seed)
    states = draw.normal(size=(n, 3 * H)).astype(np.float32)
    states[:, H:] *= 50  # of another size
    hints = prompt * states[:, 0] + own * states[:, H] / 50
    left = np.maximum(1, 2 ** (5 + hints + 0.2 * draw.normal(size=n))).astype(int)
    return states, Labels(np.minimum(left, 100), left <= 100, 4)


def crps(head, states, labels):
    return float(np.mean(labels.crps(np.array([head.cdf(state) for state in states]))))


def test_where_own_states_tell_nothing_it_is_as_good_as_without_them():
    (states, labels), (asked, truth) = looks(60, prompt=0.8, own=0.0), looks(300, prompt=0.8, own=0.0, seed=1)
    alone = crps(fit(states[:, :H], labels), asked[:, :H], truth)
    together = crps(fit(states, labels), asked, truth)
    found = crps(fit_looks(states, H, labels), asked, truth)
    assert found < 1.03 * alone < together


@pytest.mark.parametrize('prompt', [0.0, 0.5])
def test_where_they_tell_much_they_count(prompt):
    (states, labels), (asked, truth) = looks(150, prompt=prompt, own=0.8), looks(300, prompt=prompt, own=0.8, seed=1)
    alone = crps(fit(states[:, :H], labels), asked[:, :H], truth)
    head = fit_looks(states, H, labels)
    assert crps(head, asked, truth) < 0.75 * alone and head.is_better
    assert crps(head, asked, truth) < 1.1 * crps(fit(states, labels), asked, truth)


def test_few_looks_are_refused():
    states, labels = looks(FEWEST - 1, prompt=1.0, own=1.0)
    with pytest.raises(ValueError, match=f'at least {FEWEST}'):
        fit_looks(states, H, labels)
