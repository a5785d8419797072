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

"""Tasks that the engine answers by a deadline: what a client holds, on a clock that the model's work moves on."""
from dataclasses import replace

import pytest
from mock_model import TIMES, FakeClock, MockModel, MockPredictions

from timebill_ros.bench.live_answers import LiveAnswer, answer_live
from timebill_ros.codes import Strategy
from timebill_ros.engine import Engine
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.planning.tracker import Tracker
from timebill_ros.tasks.scored_task import ScoredTask

TASK = ScoredTask('1', 'family', [{'role': 'user', 'content': 'x' * 1000}], 100, lambda text: {'score': len(text) / 30})
UNHURRIED_S = TIMES.prefill(1000) + TIMES.steps.decode(1000, 31)


def live(budget_s, strategy, **model):
    clock = FakeClock()
    engine = Engine(MockModel(clock, **model), MockPredictions(clock, 30), TIMES, Tracker('fixed', k=2.0),
                    prefill_chunk_tokens=100, clock=clock)
    return answer_live(engine, TASK, budget_s=budget_s, strategy=strategy, margin_s=0.03).answer


@pytest.mark.parametrize('strategy', [Strategy.TRUNCATE, Strategy.KILL])
def test_with_time_enough_the_answer_is_whole_and_promised(strategy):
    answer = live(10.0, strategy)
    assert answer.promised and answer.natural and answer.late_s == pytest.approx(UNHURRIED_S - 10.0, abs=0.05)
    assert (answer.n, answer.eviction_ratio, answer.variant, answer.verdict, answer.error) == (
        31, 0.0, 'float32', 'FITS', '')
    assert answer.score(TASK) == 1.0


def test_a_cut_answer_counts_for_what_came():
    answer = live(0.6 * UNHURRIED_S, Strategy.TRUNCATE)
    assert not answer.natural and 0 < answer.score(TASK) < 1 and answer.late_s <= -0.03 + 1e-9
    killed = live(0.6 * UNHURRIED_S, Strategy.KILL)
    assert killed.score(TASK) == 0.0 and killed.error and not killed.natural


def test_a_prompt_that_cannot_be_read_in_time_is_no_promise():
    answer = live(0.05, Strategy.TRUNCATE)
    assert (answer.promised, answer.natural, answer.text, answer.error) == (False, False, '', 'INFEASIBLE')
    assert answer.verdict == 'INFEASIBLE' and answer.eviction_ratio == 0.0


def test_a_late_result_is_worth_nothing():
    answer = live(10.0, Strategy.TRUNCATE)
    assert replace(answer, late_s=0.001).score(TASK) == 0.0
    assert LiveAnswer(True, False, -1.0, '', 0, 'FITS', 0.0, '', 'UNKNOWN').score(TASK) == 0.0


def test_a_model_that_became_slow_breaks_its_promise():
    answer = live(1.5 * UNHURRIED_S, Strategy.TRUNCATE, slowness=1.0,
                  on_step=lambda n: None)
    slow = live(2.2 * UNHURRIED_S, Strategy.KILL, slowness=4.0)
    assert answer.natural and slow.promised and not slow.natural and slow.late_s <= 0


def test_a_failure_of_the_engine_ends_the_measurement():
    def fail(n):
        raise ValueError('a fault')
    with pytest.raises(ModelError, match=r'task 1 within 10\.000 s under KILL failed: ValueError: a fault'):
        live(10.0, Strategy.KILL, on_step=fail)
