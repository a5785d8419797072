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

"""The rows of lengths from hidden states: what each has learned from, and that they read the prompts."""
import numpy as np
import tiny_models

from timebill_ros.bench import state_rows
from timebill_ros.bench.state_rows import OFFLINE, Goal, Learned, read_states
from timebill_ros.inference.model import CausalLM

LIMIT = 256


def goals(n, seed=0):
    """Goals whose states tell their lengths; a few are cut at the limit."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        state = draw.normal(size=12).astype(np.float32)
        length = int(2 ** (6 + state[0] + 0.2 * draw.normal())) + 1
        made.append(Goal(state, 100, min(length, LIMIT), length <= LIMIT))
    return made


def test_each_row_has_learned_from_as_many_goals_as_it_says(monkeypatch):
    monkeypatch.setattr(state_rows, 'CHECKPOINTS', (50, 200, 1000))
    learned, tests = Learned(goals(220), LIMIT), goals(150, seed=1)
    errors = {}
    for goal in tests:
        for name, found in learned.predict(goal.state, goal.prompt_tokens).items():
            errors.setdefault(name, []).append(abs(min(found.median(), LIMIT) - goal.n))
    assert set(errors) == {'states, after 50 goals', 'states, after 200 goals', OFFLINE}
    constant = np.mean([abs(np.median([goal.n for goal in tests]) - goal.n) for goal in tests])
    means = {name: np.mean(found) for name, found in errors.items()}
    assert means['states, after 200 goals'] < means['states, after 50 goals'] < 0.9 * constant, (means, constant)
    assert means[OFFLINE] < 0.7 * constant, (means, constant)


def test_states_are_read_of_each_prompt():
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1)
    (one, n_one), (other, n_other), (again, _) = read_states(model, ['w9 w10 w11', 'w40 w41', 'w9 w10 w11'])
    assert (n_one, n_other) == (3, 2) and (one == again).all() and abs(one - other).max() > 0.01
