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

"""Goals that give way in the bench: another thread asks for it, and texts are those of undisturbed runs."""
import pytest
import tiny_models

from timebill_ros.bench import prefix_pauses
from timebill_ros.bench.prefix_goals import Goal, turn
from timebill_ros.codes import ErrorCode, FinishReason
from timebill_ros.engine import Engine
from timebill_ros.inference import prefix_check
from timebill_ros.inference.asides import Asides
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prefix_store import PrefixStore
from timebill_ros.inference.prompt_tiles import TILE
from timebill_ros.planning.tracker import Tracker
from timebill_ros.request import Outcome, Timing
from timebill_ros.timing.execution_time import ExecutionTimes


@pytest.fixture(scope='module')
def engine():
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1, dtype='float32')
    prefix_check.use_way(model, 'tiles')
    model.prefixes = PrefixStore(model.cache, TILE, 32)
    model.asides = Asides(model)
    times = ExecutionTimes(a=0, b=1e-6, c=0, p=0, q=1e-5)
    return Engine(model, None, times, Tracker('fixed', k=1), prefill_chunk_tokens=TILE)


def test_goals_that_come_while_another_one_runs_are_answered_in_its_pauses(engine):
    long, short = Goal([turn('user', 'w1 w2 w3 w4')], 150), Goal([turn('user', 'w5 w6')], 4)
    alone = [prefix_pauses.run(engine, goal, 600.0) for goal in (long, short)]
    urgent = prefix_pauses.Urgent(engine, short, 600.0)
    found = prefix_pauses.run(engine, long, 600.0, urgent=urgent, at_s=(0.0, 0.0))
    assert len(urgent.runs) == 2 and found.outcome.timing.preemptions >= 1
    assert found.outcome.text == alone[0].outcome.text
    assert [each.outcome.text for each in urgent.runs] == [alone[1].outcome.text] * 2
    assert found.on_time and all(each.on_time for each in (*alone, *urgent.runs)), 'there is no hurry'
    assert found.outcome.timing.paused_s >= urgent.ran_s > 0


def test_goals_are_as_long_as_the_machine_lets_them_be(engine, monkeypatch):
    def run(engine, goal, budget_s):
        assert budget_s == prefix_pauses.UNHURRIED_S
        took_s = seconds * (0.1 + 0.01 * goal.max_new_tokens)
        timing = Timing(prompt_tokens=10, generated_tokens=goal.max_new_tokens, prefill_s=0.1 * seconds,
                        decode_s=0.01 * seconds * (goal.max_new_tokens - 1))
        outcome = Outcome(ErrorCode.NONE, '', 'text', FinishReason.LENGTH, timing)
        return prefix_pauses.Run(outcome, budget_s, took_s, True)

    monkeypatch.setattr(prefix_pauses, 'run', run)
    seconds = 1.01
    long, long_s, short, short_s = prefix_pauses.goals_of(engine)
    assert (long_s, short_s, short.max_new_tokens) == (3.0, 0.3, 4) and long.max_new_tokens == 154
    seconds = 10.0
    long, long_s, short, short_s = prefix_pauses.goals_of(engine)
    assert short_s == pytest.approx(1.4 / prefix_pauses.USED) and long_s == pytest.approx(10 * short_s)
    assert long.max_new_tokens == 130 or long.max_new_tokens == 131
    assert prefix_pauses.tokens_within(-1.0, 0.1) == 2


def test_what_is_late_or_cut_is_not_on_time(engine):
    long = Goal([turn('user', 'w1 w2 w3 w4')], 150)
    assert not prefix_pauses.run(engine, long, 0.01).on_time
