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

"""What is kept of the stats, for how long, and what a clock that goes back does."""
from monitor_messages import START_S, stats

from timebill_ros.rqt.stats_history import KEPT_S, StatsHistory


def history_of(*messages) -> StatsHistory:
    history = StatsHistory()
    for message in messages:
        history.take(message)
    return history


def test_a_point_tells_rate_and_factors():
    (point,) = history_of(stats(1.0, miss_rate=0.1, miss_rate_is_current=True, timing_factor=1.5,
                                prefill_factor=0.75)).points()
    assert (point.at_s - START_S, point.miss_rate, point.allowed, point.step_factor, point.prefill_factor) == (
        1.0, 0.1, 0.05, 1.5, 0.75)


def test_a_rate_that_is_only_the_last_known_one_is_none():
    assert history_of(stats(1.0, miss_rate=0.1)).points()[0].miss_rate is None


def test_what_is_old_is_forgotten():
    history = history_of(*(stats(at_s) for at_s in (0.0, 10.0, KEPT_S + 5.0)))
    assert [point.at_s - START_S for point in history.points()] == [10.0, KEPT_S + 5.0]


def test_time_that_stands_still_or_goes_back():
    assert len(history_of(stats(1.0), stats(1.0, timing_factor=2.0)).points()) == 1
    assert [point.at_s - START_S for point in history_of(stats(1.0), stats(2.0), stats(0.0)).points()] == [0.0]


def test_a_snapshot_stays_as_it_is():
    history = history_of(stats(1.0))
    kept = history.snapshot()
    history.take(stats(2.0))
    assert (len(kept.points()), len(history.points())) == (1, 2)
