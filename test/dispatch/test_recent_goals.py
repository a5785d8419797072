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

"""The window of promised goals, and the speed of the last answer."""
import math

import pytest

from timebill_ros.codes import ErrorCode, FinishReason, Verdict
from timebill_ros.dispatch.recent_goals import WINDOW_GOALS, WINDOW_S, RecentGoals
from timebill_ros.request import Outcome, Timing


def ended(verdict=Verdict.FITS, reason=FinishReason.EOS, code=ErrorCode.NONE, **timing) -> Outcome:
    return Outcome(code, 'why' if code else '', '' if code else 'text', reason, Timing(verdict=verdict, **timing))


def counted(recent: RecentGoals, now: float) -> tuple[int, int]:
    rate = recent.miss_rate(now, 0.05)
    return rate.promised, rate.missed


@pytest.mark.parametrize(('outcome', 'expected'), [
    (ended(), (1, 0)),
    (ended(reason=FinishReason.DEADLINE), (1, 1)),
    (ended(tardiness_s=0.5), (1, 1)),
    (ended(Verdict.AT_RISK, FinishReason.DEADLINE), (0, 0)),
    (ended(reason=FinishReason.CANCELED, code=ErrorCode.CANCELED), (0, 0)),
    (ended(reason=FinishReason.ERROR, code=ErrorCode.INACTIVE), (0, 0)),
    (ended(reason=FinishReason.ERROR, code=ErrorCode.WORKER_LOST), (1, 1)),
])
def test_what_counts(outcome, expected):
    recent = RecentGoals()
    recent.observe(outcome, 0.0)
    assert counted(recent, 0.0) == expected


def test_the_window_goes_back_so_far():
    recent = RecentGoals()
    recent.observe(ended(reason=FinishReason.DEADLINE), 0.0)
    recent.observe(ended(), 100.0)
    assert counted(recent, WINDOW_S) == (2, 1)
    assert counted(recent, WINDOW_S + 1) == (1, 0)
    assert counted(recent, WINDOW_S + 101) == (0, 0)


def test_the_window_holds_so_many_goals():
    recent = RecentGoals()
    recent.observe(ended(reason=FinishReason.DEADLINE), 0.0)
    for _ in range(WINDOW_GOALS):
        recent.observe(ended(), 1.0)
    assert counted(recent, 1.0) == (WINDOW_GOALS, 0)


def test_the_speed_is_that_of_the_last_answer_that_was_decoded():
    recent = RecentGoals()
    assert recent.tokens_per_s is None
    recent.observe(ended(generated_tokens=30, decode_s=2.0), 0.0)
    recent.observe(ended(generated_tokens=0, decode_s=math.nan), 1.0)
    assert recent.tokens_per_s == 15.0
