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

"""Draws a `Picture` with a QPainter. Qt."""
from __future__ import annotations

from python_qt_binding.QtCore import QRectF
from python_qt_binding.QtGui import QColor, QFontMetrics, QPalette

from timebill_ros.codes import Verdict
from timebill_ros.monitoring.wording import Said, Tone
from timebill_ros.rqt import bar_painter, colours
from timebill_ros.rqt.geometry import BAR, NAMES, RIGHT, Box, Geometry
from timebill_ros.rqt.legend_painter import draw_legend
from timebill_ros.rqt.pens import Pens, rect
from timebill_ros.rqt.picture import Picture
from timebill_ros.rqt.plot_painter import draw_plot


def geometry_for(font, width: int, height: int) -> Geometry:
    """Return where things are in a window of that size with that QFont."""
    metrics = QFontMetrics(font)
    return Geometry(width, height, max(1, metrics.horizontalAdvance('0')), metrics.height())


def paint(painter, palette: QPalette, geometry: Geometry, picture: Picture) -> None:
    """Draw the whole picture."""
    pens = Pens(painter, palette)
    painter.fillRect(QRectF(0, 0, geometry.width, geometry.height), palette.window())
    for i, said in enumerate(picture.head):
        box = Box(geometry.head.x, geometry.head.y + i * geometry.line, geometry.head.width, geometry.line)
        x = pens.say(box, said[:1], is_bold=i == 0)
        pens.say(Box(x, box.y, box.right - x, box.height), said[1:], is_bold=i == 0)
    draw_legend(pens, geometry.legend, geometry.em, geometry.line)
    _rows(pens, geometry, picture)
    for box, plot in zip(geometry.plots, picture.plots, strict=False):
        draw_plot(pens, box, plot, geometry.em, geometry.line)


def _rows(pens: Pens, geometry: Geometry, picture: Picture) -> None:
    """Draw the goals, one a row, with the names of the columns above and the axis below."""
    columns, area = geometry.columns(), geometry.rows
    bar = columns[BAR]
    for name, column in columns.items():
        if name != BAR:
            cell = _cell(column, geometry.names.y, geometry.names.height, name, geometry.em)
            pens.say(cell, [Said(NAMES[name], Tone.FAINT)], is_right=name in RIGHT)
    pens.panel(area)
    for tick in picture.ticks:
        pens.line(bar.at(tick.place), area.y, bar.at(tick.place), area.bottom, pens.faint(pens.text, 30))
    for i, row in enumerate(picture.fitting(geometry.count)):
        box = geometry.row(i)
        if i % 2:
            pens.painter.fillRect(rect(box), pens.faint(pens.text, 10))
        if row.request_id == picture.selected:
            pens.painter.fillRect(rect(box), pens.faint(pens.palette.color(QPalette.ColorRole.Highlight)))
        for name, column in columns.items():
            if name != BAR:
                pens.say(_cell(column, box.y, box.height, name, geometry.em), row.cells[name], is_right=name in RIGHT)
            elif row.words:
                pens.say(Box(bar.x, box.y, bar.width, box.height), [Said(row.words, Tone.FAINT)])
            else:
                bar_painter.draw_bar(pens, Box(bar.x, box.y, bar.width, box.height), row)
        if 'promise' in columns and row.verdict != Verdict.UNKNOWN:
            chip = Box(columns['promise'].x - geometry.em, box.y + 4, geometry.em // 2, box.height - 8)
            pens.painter.fillRect(rect(chip), QColor(colours.of_verdict(row.verdict)))
    _axis(pens, geometry, picture, bar)


def _cell(column: Box, y: int, tall: int, name: str, em: int) -> Box:
    """Return where the words of a column are, with room to the next one."""
    return Box(column.x + em // 2, y, column.width - (2 * em if name in RIGHT else em), tall)


def _axis(pens: Pens, geometry: Geometry, picture: Picture, bar: Box) -> None:
    """Draw the labels of the axis, what it is, and how many goals are out of sight."""
    y, line = geometry.axis_top, geometry.line
    taken: list[Box] = []
    for tick in sorted(picture.ticks, key=lambda tick: not tick.is_main):
        wide = pens.metrics.horizontalAdvance(tick.label)
        box = Box(min(bar.at(tick.place) - wide // 2, geometry.width - wide), y, wide + geometry.em, line)
        if all(box.right <= other.x or other.right <= box.x for other in taken):
            taken.append(box)
            pens.say(box, [Said(tick.label, Tone.FAINT)])
    wide = pens.metrics.horizontalAdvance(picture.axis_title)
    pens.say(Box(bar.at(0.5) - wide // 2, y + line, wide + 2, line), [Said(picture.axis_title, Tone.FAINT)])
    above, below = picture.hidden
    words = [f'{above} earlier above'] * bool(above) + [f'{below} later below'] * bool(below)
    room = Box(geometry.rows.x, y + line, bar.at(0.5) - wide // 2 - geometry.em - geometry.rows.x, line)
    pens.say(room, [Said(', '.join(words), Tone.FAINT)])
