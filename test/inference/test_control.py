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

"""What other threads write into a running request stops it."""
import pytest

from timebill_ros.deadline import Deadline
from timebill_ros.inference.control import Control


@pytest.mark.parametrize(('canceled', 'now', 'stop'), [(False, 8.0, False), (False, 9.5, True), (True, 8.0, True)])
def test_should_stop(canceled, now, stop):
    assert Control(Deadline(10.0, lambda: now), margin_s=1.0, canceled=canceled).should_stop() is stop


def test_each_question_counts_as_a_look():
    control = Control(Deadline(10.0, lambda: 0.0))
    for _ in range(3):
        control.should_stop()
    assert control.looks == 3


def test_prefill_is_stopped_where_the_deadline_comes_before_the_next_look():
    now = [0.0]
    control = Control(Deadline(10.0, lambda: now[0]), margin_s=1.0)

    def stops_at(instant):
        now[0] = instant
        return control.should_stop()

    # The last of these looks was long after the one before, as after a pause; those before were a second apart.
    assert not any(map(stops_at, (0.0, 1.0, 2.0, 3.0, 7.9)))
    assert [stops_at(instant) for instant in (7.95, 8.0, 8.94, 8.99)] == [False, False, False, True]
