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

"""Estimates follow from the coefficients."""
import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timebill_ros.timing.execution_time import FRESH, NEVER, WIDE, ExecutionTimes

TRUE = ExecutionTimes(a=4e-9, b=1.9e-4, c=0.02, p=6e-7, q=0.028, e_1=2e-6, e_0=1e-3, a_p=1e-9, b_p=5e-5, c_p=4e-3)


def test_prefill_in_chunks_is_the_sum_of_its_chunks():
    """Each chunk has a cost of its own, so the time over the length is a staircase on a parabola."""
    times = dataclasses.replace(TRUE, d=0.01, chunk_tokens=100)
    assert [times.chunks(n) for n in (1, 100, 101, 350)] == [1, 1, 2, 4] and TRUE.chunks(350) == 1
    assert times.prefill(350) == pytest.approx(TRUE.prefill(350) + 4 * 0.01)
    chunks = [times.chunk(start, min(100, 350 - start)) for start in range(0, 350, 100)]
    assert sum(chunks) == pytest.approx(times.prefill(350))
    assert chunks[1] < chunks[2] > chunks[3], 'later chunks attend to more tokens, and the last one is shorter'


def test_a_variant_has_step_times_of_its_own_and_shares_the_rest():
    times = dataclasses.replace(TRUE, variants={'int8': {'p': 1e-7, 'q': 0.01, 'bend': 0.0, 'knee': 0}})
    int8 = times.of_variant('int8')
    assert int8.step(1000) == pytest.approx(0.0101) and int8.prefill(1000) == times.prefill(1000)
    assert times.of_variant('float32') is times
    assert times.estimate('step:int8', 1000) == int8.step(1000) and times.estimate('step', 1000) == times.step(1000)


def test_a_kind_of_sampling_takes_longer_than_greedy_by_what_its_draw_takes_longer():
    int8 = {'p': 1e-7, 'q': 0.01, 'bend': 0.0, 'knee': 0}
    times = dataclasses.replace(TRUE, variants={'int8': int8},
                                draws={'greedy': 1e-4, 'temperature': 1.1e-3, 'top_k': 5e-5})
    assert times.of_sampling('greedy') is times
    assert times.of_sampling('temperature').step(100) == pytest.approx(times.step(100) + 1e-3)
    assert times.of_sampling('temperature').of_variant('int8').step(0) == pytest.approx(0.011)
    assert times.of_sampling('top_k') is times, 'a step includes a greedy draw, and nothing is quicker'
    assert times.of_sampling('top_p') is times, 'not measured'
    assert times.of_sampling('temperature+penalty').step(100) == times.of_sampling('temperature').step(100)
    penalised = dataclasses.replace(times, draws={**times.draws, 'greedy+penalty': 4e-4})
    assert penalised.of_sampling('greedy+penalty').step(100) == pytest.approx(times.step(100) + 3e-4)
    assert penalised.of_sampling('temperature+penalty').step(100) == pytest.approx(times.step(100) + 1.3e-3)
    masked = dataclasses.replace(penalised, draws={**penalised.draws, 'greedy+grammar': 3e-4}, forced_s=2e-3)
    assert masked.of_sampling('greedy+grammar').step(100) == pytest.approx(times.step(100) + 2e-4)
    assert masked.of_sampling('temperature+penalty+grammar').step(100) == pytest.approx(times.step(100) + 1.5e-3)
    assert masked.estimate('forced', 100) == 2e-3 and ExecutionTimes.of_costs(masked.costs()) == masked
    assert ExecutionTimes.of_costs(penalised.costs()) == penalised
    assert times.estimate('draw:temperature', 500) == 1.1e-3


@pytest.mark.parametrize(('forced_s', 'least'), [
    (0.0, NEVER), (1e-4, 2), (0.002, 3), (0.0045, 5), (0.0099, 9), (0.01, NEVER), (0.05, NEVER)])
def test_known_tokens_take_the_quicker_way(forced_s, least):
    """A step of several takes about the same for two tokens as for WIDE; a step takes 10 ms."""
    times = ExecutionTimes(a=0, b=1e-4, c=1e-3, p=1e-6, q=0.01, forced_s=forced_s)
    assert times.wide_from == least
    for width in range(1, 40):
        at_once = forced_s * max(width - 1, WIDE - 1) if forced_s else math.inf
        assert times.beyond(0, width) == pytest.approx(min((width - 1) * 0.01, at_once))
        assert times.beyond(1000, width) <= (width - 1) * times.step(1000)


SMALL = st.one_of(st.just(0.0), st.floats(1e-12, 1e-2))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(a_p=SMALL, b_p=SMALL, c_p=SMALL, b=SMALL, n_x=st.integers(1, 100_000))
def test_predictor_bound_is_the_longest_input_that_prefill_hides(a_p, b_p, c_p, b, n_x):
    times = ExecutionTimes(a=0, b=b, c=1e-3, p=0, q=0, a_p=a_p, b_p=b_p, c_p=c_p)
    bound, hidden = times.predictor_bound(n_x), times.prefill(n_x)
    assert 0 <= bound <= n_x
    if bound > 0:
        assert times.prediction(bound) <= hidden * (1 + 1e-9)
    if bound < n_x:
        assert times.prediction(bound + 1) >= hidden * (1 - 1e-9)


def test_of_a_prompt_with_a_known_beginning_only_the_rest_takes_time():
    times = dataclasses.replace(TRUE, g_1=1e-6, g_0=0.03)
    assert times.prefix(1000) == times.prefill(1000 + FRESH, 1000) == pytest.approx(0.031)
    assert times.prefill(1010, 1000) == pytest.approx(0.031), 'fewer new tokens than measured take as long'
    more = times.prefill(1500, 1000) - times.prefix(1000)
    assert more == pytest.approx(times.prefill(1500) - times.prefill(1000 + FRESH))
    assert times.prefill(1500, 0) == TRUE.prefill(1500)
    assert times.estimate('prefix', 1000) == times.prefix(1000)
    assert ExecutionTimes.of_costs(times.costs()) == times


def test_what_known_beginnings_save_counts_only_where_it_was_measured():
    assert TRUE.prefill(1500, 1000) == TRUE.prefill(1500) and not TRUE.knows_prefixes


def test_less_of_the_predictor_hides_behind_the_rest_of_a_prompt():
    times = dataclasses.replace(TRUE, g_1=1e-6, g_0=0.03)
    bound = times.predictor_bound(1000, 900)
    assert times.prediction(bound) <= times.prefill(1000, 900) < times.prediction(bound + 1)
    assert bound < times.predictor_bound(1000)
