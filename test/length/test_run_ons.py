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

"""Kinds of prompts whose answers run on: what is one kind, when it counts as running on, and what is forgotten."""
import pytest

from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.run_ons import KINDS, RunOns, kind_of

SHORT, LONG = LengthDistribution.point(12), LengthDistribution.point(200)


def test_a_kind_is_prompts_of_about_the_same_length_and_prediction():
    assert kind_of(SHORT, 900) == kind_of(LengthDistribution.point(14), 1000)
    assert len({kind_of(SHORT, 4), kind_of(SHORT, 900), kind_of(LONG, 900)}) == 3


def test_one_kind_says_nothing_of_another():
    run_ons = RunOns()
    run_ons.observe('a', True)
    assert run_ons.is_likely('a') and not run_ons.is_likely('b')


@pytest.mark.parametrize(('ended', 'ran_on', 'is_likely'), [(0, 0, False), (38, 0, False), (0, 1, True), (1, 1, True),
                                                            (2, 1, False), (4, 2, True), (5, 2, False), (11, 4, False)])
def test_a_kind_runs_on_where_more_than_a_quarter_of_its_answers_do(ended, ran_on, is_likely):
    run_ons = RunOns()
    for i in range(ended + ran_on):
        run_ons.observe('a', i < ran_on)
    assert run_ons.is_likely('a') is is_likely


def test_what_was_long_ago_is_forgotten_and_memory_is_bounded():
    run_ons = RunOns()
    for i in range(200):
        run_ons.observe('a', i < 100)
    assert run_ons.state() == {'a': [0] * 100}
    for _ in range(26):
        run_ons.observe('a', True)
    assert run_ons.is_likely('a')
    for i in range(KINDS + 5):
        run_ons.observe('b', True)
        run_ons.observe(f'{i}', True)
    assert len(run_ons.state()) == KINDS and not run_ons.is_likely('0') and run_ons.is_likely('b')


def test_a_state_survives_and_another_is_refused():
    run_ons, other = RunOns(), RunOns()
    run_ons.observe('a', True)
    run_ons.observe('a', False)
    assert run_ons.state() == {'a': [1, 0]}
    other.restore(run_ons.state())
    assert other.state() == run_ons.state() and other.is_likely('a')
    for state in ([], 3, {'a': 3}, {'a': ['x']}):
        with pytest.raises((ValueError, TypeError, AttributeError)):
            RunOns().restore(state)
