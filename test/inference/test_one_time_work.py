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

"""The seconds that a start spends on what later starts find on disk."""
import pytest

from timebill_ros.inference import one_time_work
from timebill_ros.inference.one_time_work import one_time_work as block


@pytest.fixture
def clock(monkeypatch):
    """Return a function that lets so many seconds pass."""
    now = 100.0

    def advance(seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr(one_time_work.time, 'monotonic', lambda: now)
    monkeypatch.setattr(one_time_work, 'total_s', 0.0)
    return advance


def test_blocks_add_up_and_time_between_them_is_not_counted(clock):
    for seconds in (3.0, 4.0):
        with block():
            clock(seconds)
        clock(10.0)
    assert one_time_work.total_s == 7.0


def test_a_result_that_was_not_kept_does_not_count(clock):
    with block() as work:
        clock(5.0)
        work.kept = False
    with pytest.raises(OSError), block():
        clock(6.0)
        raise OSError('the disk is full')
    assert one_time_work.total_s == 0.0


@pytest.mark.parametrize(('outer_kept', 'seconds'), [(True, 6.0), (False, 4.0)])
def test_a_block_in_a_block_counts_once(clock, outer_kept, seconds):
    with block() as outer:
        clock(2.0)
        with block():
            clock(4.0)
        outer.kept = outer_kept
    assert one_time_work.total_s == seconds
