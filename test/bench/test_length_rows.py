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

"""Rows of the comparison of length predictors, by hand."""
import pytest

from timebill_ros.bench.length_rows import CONSTANT, WORDS, Case, Comparison, Predicted, measures
from timebill_ros.length.length_distribution import LengthDistribution

LIMIT = 64


def test_measures_by_hand():
    # Two families of means 2 and 12; the predictions are off by 1, 1, 2 and 0.
    found = measures([(2, 2), (2, 2), (13, 13), (13, 13)], [1, 3, 11, 13], ['a', 'a', 'b', 'b'])
    assert found['n'] == 4 and found['mae'] == 1.0
    assert found['rmse'] == pytest.approx((6 / 4) ** 0.5)
    assert found['r2'] == pytest.approx(1 - 6 / (36 + 16 + 16 + 36))
    assert found['r2_within_families'] == pytest.approx(1 - 6 / (1 + 1 + 1 + 1))


def test_mae_is_of_the_median_and_rmse_of_the_mean():
    found = measures([(1, 5), (3, 5)], [1, 3], ['a', 'a'])
    assert found['mae'] == 0 and found['rmse'] == pytest.approx(((16 + 4) / 2) ** 0.5)


def test_a_constant_length_has_no_r2():
    assert measures([(4, 4)], [4], ['a'])['r2'] is None


def sure(n):
    return Predicted.of(LengthDistribution.point(n), LIMIT)


@pytest.fixture
def comparison():
    """Three prompts of two kinds, the first with two responses. The states are off by 1, the constant by 10."""
    cases = [Case(0, 'a', 20, True), Case(0, 'a', 22, True), Case(1, 'b', 30, True), Case(2, 'a', LIMIT, False)]
    return Comparison(cases, {
        CONSTANT: [sure(30), sure(32), sure(40), sure(54)], 'family mean': [Predicted(1.0, 1.0)] * 4,
        'states, offline': [sure(21), sure(21), sure(31), sure(63)]}, LIMIT)


def test_there_is_a_row_for_each_method_and_kind(comparison):
    rows = {(row['method'], row['family']): row for row in comparison.rows()}
    assert len(rows) == 9 and comparison.kinds == ['all', 'a', 'b']
    row = rows['states, offline', 'all']
    assert (row['n'], row['mae'], row['crps'], row['share_censored']) == (4, 1.0, pytest.approx(1.0), 0.25)
    assert rows['states, offline', 'b']['n'] == 1 and rows[CONSTANT, 'a']['crps'] == pytest.approx(10)
    assert rows['family mean', 'all']['crps'] is rows['family mean', 'all']['log_loss'] is None


def test_differences_are_paired_by_prompt(comparison):
    found = {(row['theirs'], row['family'], row['measure']): row for row in comparison.differences()}
    assert {key[0] for key in found} == {CONSTANT}, 'rivals that are not there are left out'
    row = found[CONSTANT, 'all', 'mae']
    assert row['difference'] == pytest.approx([-9.0, -9.0, -9.0]) and row['relative'] == pytest.approx(-0.9)
    assert found[CONSTANT, 'b', 'crps']['difference'][0] == pytest.approx(-9.0)


def test_responses_to_one_prompt_count_as_one_in_an_interval():
    """A prompt with many responses must not make the interval narrow."""
    def found(responses):
        cases = [Case(prompt, 'a', 20, True) for prompt in range(4) for _ in range(responses)]
        both = {WORDS: [sure(20)] * len(cases), 'states': [sure(20 + case.prompt) for case in cases]}
        return Comparison(cases, both, LIMIT).differences()[0]['difference']

    assert found(25) == pytest.approx(found(1)) and found(1)[0] == pytest.approx(1.5)


def test_beyond_the_limit_nothing_is_expected():
    found = Predicted.of(LengthDistribution(100, [0.0, 1.0]), LIMIT)
    assert (found.median, found.mean) == (LIMIT, LIMIT)
