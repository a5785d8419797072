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

"""Promises on tasks of any kind, alone and beside a load, on a clock that the work of the model moves on."""
import random

import pytest
from mock_model import TIMES, FakeClock, MockModel, MockPredictions

from timebill_ros.bench.live_answers import LiveAnswer
from timebill_ros.bench.miss_rate_text import ALONE, BESIDE, _of_before, draw_budget, measure, row
from timebill_ros.engine import Engine
from timebill_ros.planning.tracker import Tracker
from timebill_ros.tasks.scored_task import ScoredTask


def task(number):
    return ScoredTask(str(number), 'family', [{'role': 'user', 'content': 'x' * 500}], 60,
                      lambda text: {'score': len(text) / 30})


@pytest.fixture
def engine():
    clock = FakeClock()
    return Engine(MockModel(clock), MockPredictions(clock, 30), TIMES, Tracker('fixed', k=1.2),
                  prefill_chunk_tokens=100, clock=clock)


def test_each_half_has_its_row_and_the_load_starts_between_them(engine):
    steps = []

    def finished():
        steps.append('task')
        engine.model.calls.clear()  # the script of this model begins again

    rows = measure(engine, [task(i) for i in range(20)], margin_s=0.0, epsilon=0.05, draw=random.Random(3),
                   start_load=lambda: steps.append('load'), progress=finished)
    assert steps == ['task'] * 10 + ['load'] + ['task'] * 10
    assert [found['condition'] for found in rows] == [ALONE, BESIDE]
    for found in rows:
        assert found['n'] == 10 and found['late'] == 0
        assert 0 < found['n_promised'] < 10 and found['miss_rate'] == 0.0  # the clock of this model keeps its word
        assert 0 < found['mean_score'] < 1.1


def test_budgets_leave_from_a_tenth_of_the_longest_answer_to_half_as_much_again(engine):
    longest_s = TIMES.steps.decode(500, 60)
    found = [draw_budget(engine, task(1), random.Random(seed)) - TIMES.prefill(500) for seed in range(200)]
    assert min(found) >= 0.1 * longest_s - 1e-9 and max(found) <= 1.5 * longest_s + 1e-9
    assert min(found) < 0.12 * longest_s and max(found) > 1.3 * longest_s


def test_a_promise_that_is_cut_is_missed_and_what_was_not_promised_is_not():
    def answer(promised, natural):
        return LiveAnswer(promised, natural, -0.1, 'x' * 30, 30, 'FITS', 0.0, '', '')

    found = row('c', [(task(i), answer(*kind)) for i, kind in enumerate([(1, 1), (1, 1), (1, 0), (0, 0)])], 0.05)
    assert (found['n_promised'], found['miss_rate']) == (3, pytest.approx(1 / 3))
    nothing = row('c', [(task(0), answer(False, True))], 0.05)
    assert nothing['miss_rate'] is None and nothing['share_promised'] == 0


@pytest.mark.parametrize('text, kept', [('{"rows": [1]}', {'rows': [1]}), ('{', {}), ('[1]', {})])
def test_what_the_file_held_stays(tmp_path, text, kept):
    path = tmp_path / 'out.json'
    assert _of_before(path) == {}
    path.write_text(text)
    assert _of_before(path) == kept
