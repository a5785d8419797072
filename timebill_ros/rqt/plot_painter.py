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

"""Draws a plot over the last minutes. Qt."""
from __future__ import annotations

from python_qt_binding.QtCore import QPointF, Qt
from python_qt_binding.QtGui import QColor, QPen, QPolygonF

from timebill_ros.monitoring.wording import Said, Tone
from timebill_ros.rqt import colours
from timebill_ros.rqt.geometry import Box, plot_area
from timebill_ros.rqt.pens import Pens
from timebill_ros.rqt.plots import Plot

LABEL = 7  # characters of the labels at the left


def draw_plot(pens: Pens, box: Box, plot: Plot, em: int, line: int) -> None:
    """Draw `plot` in `box`: heading, lines, labels, and the names of the lines."""
    pens.say(Box(box.x, box.y, box.width, line), plot.said)
    area = plot_area(box, line, LABEL * em)
    pens.panel(area)
    for tick in plot.y_ticks:
        y = area.bottom - tick.place * area.height
        pens.line(area.x, y, area.right, y, pens.faint(pens.text, 30))
        pens.say(Box(box.x, round(y) - line // 2, LABEL * em - 4, line), [Said(tick.label, Tone.FAINT)], is_right=True)
    for i, tick in enumerate(plot.x_ticks):
        wide = pens.metrics.horizontalAdvance(tick.label)
        shift = (0, wide // 2, wide)[0 if not i else 2 if i == len(plot.x_ticks) - 1 else 1]
        pens.say(Box(area.at(tick.place) - shift, area.bottom + 2, wide + 2, line), [Said(tick.label, Tone.FAINT)])
    for curve in plot.lines:
        pen = QPen(QColor(colours.LINES[curve.name]), 1.5 if curve.is_dashed else 2.5)
        if curve.is_dashed:
            pen.setStyle(Qt.PenStyle.DashLine)
        pens.painter.setPen(pen)
        pens.painter.setBrush(Qt.BrushStyle.NoBrush)
        for piece in curve.pieces:
            points = [QPointF(area.x + x * area.width, area.bottom - min(y, 1.0) * area.height) for x, y in piece]
            if len(points) == 1:
                pens.painter.drawPoint(points[0])
            else:
                pens.painter.drawPolyline(QPolygonF(points))
    _names(pens, area, plot, em, line)


def _names(pens: Pens, area: Box, plot: Plot, em: int, line: int) -> None:
    """Name the lines, each beside a piece of it, at the top of the plot."""
    x = area.x + em
    for curve in plot.lines:
        if x + 3 * em + pens.metrics.horizontalAdvance(curve.name) > area.right:
            break  # a narrow window
        middle = area.y + 2 + line // 2
        pens.line(x, middle, x + 2 * em, middle, QColor(colours.LINES[curve.name]), 1.5 if curve.is_dashed else 2.5,
                  is_dashed=curve.is_dashed)
        x = pens.say(Box(x + 3 * em, area.y + 2, area.right - x - 3 * em, line), [Said(curve.name)]) + 2 * em
