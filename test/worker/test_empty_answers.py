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

"""A warning where empty answers succeed often, and at most one in a while."""
from __future__ import annotations

import pytest

from timebill_ros.codes import ErrorCode, FinishReason
from timebill_ros.request import Outcome
from timebill_ros.worker import empty_answers
from timebill_ros.worker.empty_answers import EmptyAnswers

EMPTY, STOPPED = Outcome(finish_reason=FinishReason.EOS), Outcome(finish_reason=FinishReason.STOP)
TEXT = Outcome(text='a cup', finish_reason=FinishReason.EOS)
LATE = Outcome(ErrorCode.DEADLINE_MISSED, 'too late', finish_reason=FinishReason.DEADLINE)


@pytest.mark.parametrize(('outcomes', 'warnings'), [
    ([EMPTY, EMPTY], 0),
    ([EMPTY, EMPTY, EMPTY], 1),
    ([EMPTY, TEXT, TEXT, STOPPED, LATE, TEXT, EMPTY], 1),
    ([EMPTY, EMPTY, *[TEXT] * empty_answers.WINDOW, EMPTY], 0),  # long ago
    ([LATE] * 9, 0),  # its text is empty too, but that is no success
    ([TEXT] * 9, 0),
    ([EMPTY] * 50, 1),  # one warning, not fifty
])
def test_many_empty_answers_are_warned_of_once(outcomes, warnings, caplog):
    answers = EmptyAnswers(lambda: 7.0)
    for outcome in outcomes:
        answers.observe(outcome)
    assert caplog.text.count('have an empty text') == warnings


def test_the_warning_comes_again_after_a_while_and_says_what_ended_the_answers(caplog):
    now = [0.0]
    answers = EmptyAnswers(lambda: now[0])
    for now[0] in (0.0, 1.0, 2.0, 3.0, empty_answers.QUIET_S + 2.5):
        answers.observe(STOPPED)
    assert caplog.text.count('have an empty text') == 2
    assert 'a stop string came first in 3' in caplog.text and 'sampling.stop' in caplog.text
