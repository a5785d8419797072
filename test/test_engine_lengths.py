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

"""Where the engine takes lengths from: a prediction beside prefill, the marginal, or earlier answers."""
import math

import pytest
from engine_bench import Bench

from timebill_ros.codes import ErrorCode, FinishReason, Strategy


@pytest.mark.parametrize(('predictions', 'predicted', 'reported'), [
    (dict(length=20), 20, True), (dict(length=5000), 256, True),
    (dict(late=True), 50, False), (dict(error=RuntimeError('no memory for it')), 50, False),  # the marginal median
    (None, 128, False),  # half of what the request allows: nothing is known
], ids=str)
def test_the_plan_uses_the_best_prediction_there_is(predictions, predicted, reported):
    outcome = Bench(predictions=predictions).run()
    assert outcome.timing.predicted_tokens == predicted and outcome.error_code is ErrorCode.NONE
    assert math.isnan(outcome.timing.prediction_s) == math.isnan(outcome.timing.hidden_prediction_s) == (not reported)


def test_without_a_predictor_the_lengths_of_earlier_answers_are_learned():
    bench = Bench()
    first = bench.run().timing
    for _ in range(12):
        last = bench.run().timing
    assert first.predicted_tokens == 128 and abs(last.predicted_tokens - last.generated_tokens) <= 4
    other = Bench()
    other.engine.tracker.restore(bench.engine.tracker.state())
    assert other.run().timing.predicted_tokens == last.predicted_tokens, 'kept over a restart'


@pytest.mark.parametrize('drop', ['kill', 'all'])
def test_nothing_is_refused_for_a_length_that_nobody_knows(drop):
    """Half of 256 tokens would take 2.5 s; the answer has 30 and is there in time."""
    bench = Bench()
    bench.engine.drop_infeasible = drop
    outcome = bench.run(1.0, strategy=Strategy.KILL)
    assert (outcome.error_code, outcome.finish_reason) == (ErrorCode.NONE, FinishReason.EOS)


@pytest.mark.parametrize(('seconds', 'hidden'), [(0.03, 0.03), (0.11, 0.11), (0.5, 0.11)])
def test_the_hidden_part_of_a_prediction_is_what_prefill_covers(seconds, hidden):
    timing = Bench(predictions=dict(seconds=seconds)).run().timing
    assert timing.prediction_s == pytest.approx(seconds) and timing.hidden_prediction_s == pytest.approx(hidden)


@pytest.mark.parametrize(('n_x', 'setting', 'bound'), [(1000, 0, 1000), (1000, 300, 300), (40, 0, 64)])
def test_the_predictor_reads_what_prefill_hides(n_x, setting, bound):
    bench = Bench(predictions={})
    bench.engine.lengths.max_tokens = setting
    bench.run(n_x=n_x)
    assert bench.predictions.bounds == [bound]


def test_without_a_prediction_nothing_is_dropped():
    bench = Bench()
    bench.engine.drop_infeasible = 'all'
    assert bench.run(0.25).finish_reason is FinishReason.DEADLINE
