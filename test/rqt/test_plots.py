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

"""The plots: lines within their frames, gaps where nothing is known, labels."""
import pytest
from monitor_messages import START_S, stats

from timebill_ros.rqt.colours import LINES
from timebill_ros.rqt.plots import miss_rate_plot, span_s, timing_plot
from timebill_ros.rqt.stats_history import StatsHistory


def points_of(*messages):
    history = StatsHistory()
    for message in messages:
        history.take(message)
    return history.points()


def line(plot, name):
    return next(line for line in plot.lines if line.name == name)


def test_the_miss_rate_is_drawn_against_epsilon():
    points = points_of(stats(0.0, miss_rate=0.1, miss_rate_is_current=True), stats(60.0, miss_rate=0.05,
                                                                                   miss_rate_is_current=True))
    plot = miss_rate_plot(points, stats(60.0, promised=20, missed=1), START_S + 60.0)
    ((first, last),) = line(plot, 'missed').pieces
    ((low, _),) = line(plot, 'allowed').pieces
    assert (first[0], last[0]) == pytest.approx((0.0, 1.0)) and first[1] == pytest.approx(2 * last[1])
    assert last[1] == pytest.approx(low[1]) and line(plot, 'allowed').is_dashed
    assert '1 of the last 20' in plot.said[1].text and {'0 %', '10 %'} <= {tick.label for tick in plot.y_ticks}


def test_a_rate_that_is_not_known_leaves_a_gap():
    known = dict(miss_rate=0.1, miss_rate_is_current=True)
    points = points_of(stats(0.0, **known), stats(1.0), stats(2.0, **known), stats(3.0, **known))
    pieces = line(miss_rate_plot(points, stats(3.0), START_S + 3.0), 'missed').pieces
    assert [len(piece) for piece in pieces] == [1, 2]
    assert line(miss_rate_plot(points_of(stats(0.0)), stats(0.0), START_S), 'missed').pieces == ()


def test_factors_are_drawn_against_the_profile():
    plot = timing_plot(points_of(stats(0.0, timing_factor=3.0, prefill_factor=0.5)), stats(0.0, timing_factor=3.0),
                       START_S)
    (((_, steps),),) = line(plot, 'steps').pieces
    (((_, one),),) = line(plot, 'as profiled').pieces
    assert steps == pytest.approx(3 * one) and 'steps 3.00' in plot.said[0].text


@pytest.mark.parametrize('make', [miss_rate_plot, timing_plot])
@pytest.mark.parametrize('fields', [{}, dict(timing_factor=50.0, prefill_factor=0.01), dict(miss_rate_allowed=0.0),
                                    dict(miss_rate=1.0, miss_rate_is_current=True)])
def test_everything_is_inside_its_frame_and_has_a_colour(make, fields):
    plot = make(points_of(stats(0.0, **fields), stats(30.0, **fields)), stats(30.0, **fields), START_S + 30.0)
    assert {line.name for line in plot.lines} <= set(LINES)
    assert all(0.0 <= x <= 1.0 and 0.0 <= y <= 1.0 for line in plot.lines for piece in line.pieces for x, y in piece)
    assert len(plot.y_ticks) >= 2 and all(0.0 <= tick.place <= 1.0 + 1e-9 for tick in (*plot.y_ticks, *plot.x_ticks))


@pytest.mark.parametrize(('age_s', 'span'), [(0.0, 60.0), (61.0, 120.0), (599.0, 600.0), (5000.0, 600.0)])
def test_the_axis_grows_with_what_there_is(age_s, span):
    assert span_s(points_of(stats(0.0)), START_S + age_s) == span
    assert miss_rate_plot(points_of(stats(0.0)), stats(0.0), START_S + age_s).x_ticks[-1].label == 'now'


def test_without_points_there_are_frames():
    assert miss_rate_plot([], stats(0.0), START_S).y_ticks and timing_plot([], stats(0.0), START_S).x_ticks
