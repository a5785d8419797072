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

"""What is foreseen of a scripted answer is what the script says."""
from __future__ import annotations

import pytest

from timebill_ros.length.pessimistic_length import expected
from timebill_ros.worker.scripted_lengths import LongestForeseen, ScriptedLengths, foreseen


@pytest.mark.parametrize('predicted, pessimistic', [(1, 1), (1, 2), (7, 7), (7, 40), (1, 8191)])
def test_the_median_is_predicted_and_the_longest_pessimistic(predicted, pessimistic):
    lengths = foreseen(predicted, pessimistic)
    assert lengths.median() == predicted
    assert LongestForeseen().pessimistic(lengths, 10_000) == pessimistic
    assert LongestForeseen().pessimistic(lengths, 1) == 1, 'N_max is a limit'


def test_an_answer_that_outgrows_its_lengths():
    lengths, rule = foreseen(7, 40), LongestForeseen()
    assert expected(lengths, 100) == 7 and expected(lengths, 100, 7) == 40 and expected(lengths, 100, 40) == 100
    assert rule.pessimistic(lengths, 100, 39) == 40 and rule.pessimistic(lengths, 100, 40) == 100


def test_a_prediction_is_there_at_once_and_of_the_prompt_rendered_last():
    now = [(3, 4)]
    lengths = ScriptedLengths(lambda: now[0], (5, 6))
    first = lengths.submit('', 64).result(0)
    now[0] = (9, 9)
    assert (first.distribution.median(), lengths.submit('', 64).result(0).distribution.median()) == (3, 9)
    assert first.seconds == 0 and lengths.marginal().median() == 5
