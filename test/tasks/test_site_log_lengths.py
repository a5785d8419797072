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

"""The distribution that the lengths of right answers follow."""
import math

import numpy as np
import pytest

from timebill_ros.tasks.site_log import FAMILIES, SiteLogTask, generate
from timebill_ros.tasks.site_log_lengths import length_law
from timebill_ros.training.length_estimates import mean

DETERMINISTIC = [family for family in FAMILIES if family != 'report']


def test_the_length_law_of_one_object_is_that_of_the_rules():
    task = SiteLogTask('report', 'mug @shelf1', 'report quick mug', ('mug @shelf1',), '', (), 'test', 0)
    p = length_law(task).probabilities
    # Mode, newline, two words and the end token are 5 tokens; a note is 4. A quick report is full with probability 0.3:
    # then it has one note for certain, and after each note another with 0.25. In a brief one all come with 0.1.
    for k, expected in enumerate([0.7 * 0.9, 0.7 * 0.09 + 0.3 * 0.75, 0.7 * 0.009 + 0.3 * 0.1875]):
        assert p[5 + 4 * k - 1] == pytest.approx(expected)
    assert set(np.flatnonzero(p) % 4) == {0} and np.flatnonzero(p)[0] == 4
    missing = SiteLogTask('report', 'mug @shelf1', 'report careful saw', ('saw not seen',), '', (), 'test', 0)
    assert length_law(missing).probabilities[6 - 1] == pytest.approx(1)


def test_lengths_of_reports_follow_their_law():
    reports = [generate(seed, split='test', family='report', n_tokens=250) for seed in range(1500)]
    lengths = np.array([task.n_answer_tokens for task in reports])
    laws = [length_law(task) for task in reports]
    # The probability integral transform, with a random draw within each step of a discrete law: u is uniform if and
    # only if the laws are right.
    draws = np.random.default_rng(0).random(len(laws))
    u = np.sort([law.probabilities[:n - 1].sum() + draw * law.probabilities[n - 1]
                 for law, n, draw in zip(laws, lengths, draws, strict=True)])
    ranks = np.arange(len(u) + 1) / len(u)
    distance = max(np.max(ranks[1:] - u), np.max(u - ranks[:-1]))
    assert distance < 1.95 / math.sqrt(len(u))  # Kolmogorov-Smirnov at a level of 0.001; the seeds are fixed
    errors = lengths - [mean(law) for law in laws]
    assert abs(np.mean(errors)) < 3.3 * np.std(errors) / math.sqrt(len(errors))  # the same level
    for level in (0.1, 0.5, 0.9):  # lengths are whole numbers, so the share within a quantile may exceed the level
        below, reached = np.mean([(n < law.quantile(level), n <= law.quantile(level))
                                  for law, n in zip(laws, lengths, strict=True)], axis=0)
        assert below < level + 0.04 and reached > level - 0.04


@pytest.mark.parametrize('family', DETERMINISTIC)
def test_other_lengths_are_certain(family):
    for seed in range(10):
        task = generate(seed, family=family, n_tokens=200)
        law = length_law(task)
        assert mean(law) == law.quantile(0.001) == law.quantile(1.0) == task.n_answer_tokens
