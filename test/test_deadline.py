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

"""Deadlines on a clock that tests turn by hand."""
import time

import pytest

from timebill_ros.deadline import Deadline


@pytest.mark.parametrize(('now', 'margin_s', 'remaining', 'expired'), [
    (0.0, 0.0, 10.0, False),
    (9.5, 0.25, 0.5, False),
    (9.5, 0.5, 0.5, True),  # exactly the margin is left: nothing more can be done in it
    (9.5, 0.75, 0.5, True),
    (10.0, 0.0, 0.0, True),
    (12.0, 0.0, -2.0, True),
    (12.0, 1.0, -2.0, True),
])
def test_remaining_and_expired(now, margin_s, remaining, expired):
    deadline = Deadline(10.0, lambda: now)
    assert deadline.remaining() == remaining
    assert deadline.expired(margin_s) is expired


def test_a_deadline_can_be_moved():
    deadline = Deadline(10.0, lambda: 8.0)
    deadline.at_s = 7.0
    assert deadline.expired() and deadline.remaining() == -1.0
    deadline.at_s = 20.0
    assert not deadline.expired() and deadline.remaining() == 12.0


def test_the_default_clock_is_monotonic():
    assert Deadline(0.0).clock is time.monotonic
