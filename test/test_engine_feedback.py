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

"""What the engine tells the tracker about a request: what was measured, and what the profile says of the same work."""
import pytest
from engine_bench import ANSWER, N_X, Bench
from mock_model import TIMES

from timebill_ros.codes import Verdict


def told(bench):
    seen = []
    bench.engine.tracker.observe = seen.append
    return seen


@pytest.mark.parametrize('slowness', [1.0, 1.4])
@pytest.mark.parametrize(('budget_s', 'verdict'), [(10.0, Verdict.FITS), (0.70, Verdict.FITS_WITH_EVICTION)])
def test_decoding_is_timed_from_the_plan_to_the_end_and_set_against_the_same_work(slowness, budget_s, verdict):
    bench = Bench(predictions={}, slowness=slowness)
    seen = told(bench)
    timing = bench.run(budget_s + (slowness - 1) * TIMES.prefill(N_X)).timing
    lesson, = seen
    assert timing.verdict is verdict and lesson.promised and lesson.ended == (timing.generated_tokens > len(ANSWER))
    work_s = TIMES.steps.decode(timing.kept_tokens, timing.generated_tokens)
    work_s += TIMES.eviction(N_X) if verdict is Verdict.FITS_WITH_EVICTION else 0.0
    assert lesson.decode_profiled_s == pytest.approx(work_s) and lesson.decode_s == pytest.approx(slowness * work_s)
    assert lesson.prefill_profiled_s == pytest.approx(TIMES.prefill(N_X))
    assert lesson.prefill_s == pytest.approx(slowness * TIMES.prefill(N_X))
    assert (lesson.generated_tokens, lesson.pessimistic_tokens, lesson.max_tokens) == (
        timing.generated_tokens, 40, 256)


def test_prefill_teaches_also_where_the_goal_is_dropped_after_it():
    bench = Bench(predictions={}, slowness=1.2)
    bench.engine.drop_infeasible = 'all'
    outcome = bench.run(0.25)
    assert outcome.timing.verdict is Verdict.INFEASIBLE and outcome.timing.generated_tokens == 0
    assert bench.engine.tracker.prefill.state()[-1][-1] == pytest.approx(1.2)
