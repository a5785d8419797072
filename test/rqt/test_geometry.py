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

"""Where things are: nothing overlaps, and a click finds its row."""
import pytest

from timebill_ros.rqt.geometry import BAR, LESS, NAMES, RIGHT, Geometry, plot_area

SIZES = [(480, 360), (800, 600), (1180, 760), (2500, 1400)]


@pytest.mark.parametrize(('width', 'height'), SIZES[1:])
def test_nothing_overlaps(width, height):
    geometry = Geometry(width, height, 7, 16)
    boxes = [geometry.head, geometry.legend, geometry.names, geometry.rows, geometry.plots[0]]
    assert all(above.bottom <= below.y for above, below in zip(boxes, boxes[1:], strict=False))
    assert geometry.rows.bottom <= geometry.axis_top and geometry.axis_top + 32 <= geometry.plots[0].y
    assert geometry.plots[0].right < geometry.plots[1].x and geometry.plots[1].right <= width
    assert geometry.plots[0].bottom <= height
    assert geometry.row(geometry.count - 1).bottom <= geometry.rows.bottom
    inside = plot_area(geometry.plots[0], 16, 49)
    assert inside.width > 100 and inside.height > 16 and inside.bottom + 16 <= geometry.plots[0].bottom


def test_a_low_window_shows_goals_rather_than_plots():
    low, high = Geometry(1000, 340, 7, 16), Geometry(1000, 480, 7, 16)
    assert low.plots == () and low.count >= 6 and low.axis_top + 32 <= 340
    assert len(high.plots) == 2 and high.count >= 6


@pytest.mark.parametrize(('width', 'height'), SIZES)
def test_columns_follow_one_another_and_a_narrow_window_has_fewer(width, height):
    geometry = Geometry(width, height, 7, 16)
    columns = list(geometry.columns().values())
    assert all(left.right == right.x for left, right in zip(columns, columns[1:], strict=False))
    left_out = set(NAMES) - set(geometry.columns())
    assert left_out == set(LESS[:len(left_out)]) and BAR in geometry.columns()
    assert (left_out == set()) == (width > 1000)
    assert set(RIGHT) <= set(NAMES)


def test_a_click_finds_its_row():
    geometry = Geometry(1180, 760, 7, 16)
    for i in range(geometry.count):
        box = geometry.row(i)
        assert geometry.row_at(box.x, box.y) == geometry.row_at(box.right - 1, box.bottom - 1) == i
    assert geometry.row_at(100, geometry.rows.y - 1) is None
    assert geometry.row_at(100, geometry.row(geometry.count - 1).bottom) is None
    assert geometry.row_at(0, geometry.rows.y) is None


def test_twenty_goals_have_room_on_a_screen():
    assert Geometry(1180, 820, 7, 16).count >= 20
