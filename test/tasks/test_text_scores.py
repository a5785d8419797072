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

"""The scores of answers in plain text: values worked out by hand, and what holds for every scorer."""
import random

import pytest

from timebill_ros.tasks.text_scores import SCORERS

CLASSES = ('City', 'City or town', 'Food')

# metric, text, answers, score
VALUES = [
    ('subspan', 'It was  the G. Hannelius!', ['G. Hannelius'], 1.0),
    ('subspan', 'it is Hannelius', ['G. Hannelius'], 0.0),
    ('subspan', 'The code is 9530kg.', ['9530'], 1.0),
    ('subspan', 'in the year of an eclipse', ['year of eclipse'], 1.0),  # articles
    ('subspan', 'second', ['first', 'SECOND'], 1.0),
    ('subspan', 'anything', ['the'], 0.0),  # nothing is left of this answer, which is in every text
    ('f1', 'The red, red house', ['red house'], 2 * 2 / (3 + 2)),
    ('f1', 'house', ['a red house', 'boat'], 2 * 1 / (1 + 2)),
    ('f1', 'boat', ['house'], 0.0),
    ('rouge_l', 'police killed the gunman', ['police kill the gunman'], 2 * 3 / (4 + 4)),  # as in Lin's paper
    ('rouge_l', 'the gunman kill police', ['police kill the gunman'], 2 * 2 / (4 + 4)),
    ('rouge_l', 'Police: KILL the gunman!', ['x', 'police kill the gunman'], 1.0),
    ('lines', 'Rome: 1234\n lima :  9530 \n', ['Rome: 1234', 'Lima: 9530'], 1.0),
    ('lines', 'Rome: 1234\nLima: 95', ['Rome: 1234', 'Lima: 9530'], 0.5),  # cut by a deadline
    ('lines', 'Rome: 1234 Lima: 9530', ['Rome: 1234', 'Lima: 9530'], 0.0),
    ('lines', 'Paris: 1\nRome: 1234', ['Rome: 1234'], 1.0),
    ('choice', 'Type: City or town', ['City or town'], 1.0),  # "City" is only a part of the right one
    ('choice', 'City', ['City'], 1.0),
    ('choice', 'Food or City', ['City'], 0.5),
    ('choice', 'Food', ['City'], 0.0),
]


@pytest.mark.parametrize(('metric', 'text', 'answers', 'score'), VALUES)
def test_values(metric, text, answers, score):
    assert SCORERS[metric](text, answers, CLASSES) == pytest.approx(score)


def test_every_scorer_has_values_here():
    assert {metric for metric, *_ in VALUES} == set(SCORERS)


@pytest.mark.parametrize('metric', SCORERS)
def test_what_holds_for_every_scorer(metric):
    scorer, rng = SCORERS[metric], random.Random(metric)
    assert scorer('', ['City'], CLASSES) == 0.0
    assert scorer('City', ['City'], CLASSES) == 1.0
    for _ in range(100):
        text, *answers = (' '.join(rng.choice(['City', 'Food', 'the', 'or', 'town', '\n', 'é', ',']) for _ in range(
            rng.randint(0, 12))) for _ in range(3))
        assert 0.0 <= scorer(text, answers, CLASSES) <= 1.0
