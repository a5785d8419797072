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

"""Draws the bar of a goal: what has happened, its deadline, and when it is expected to end. Qt."""
from __future__ import annotations

from python_qt_binding.QtCore import QPointF, QRectF, Qt
from python_qt_binding.QtGui import QBrush, QColor, QPen, QPolygonF

from timebill_ros.codes import Phase
from timebill_ros.rqt import colours
from timebill_ros.rqt.geometry import Box
from timebill_ros.rqt.goal_rows import Row
from timebill_ros.rqt.pens import Pens

PAD = 3  # pixels above and below a bar
CUT = 6  # pixels: the mark at the end of a goal that was cut or late
TRACK_ALPHA = 28


def draw_bar(pens: Pens, box: Box, row: Row) -> None:
    """Draw the bar of `row` in `box`."""
    top, tall = box.y + PAD, box.height - 2 * PAD
    due = box.right if row.deadline is None else box.at(row.deadline)
    track = QRectF(box.at(row.release), top, max(0, due - box.at(row.release)), tall)
    pens.painter.fillRect(track, pens.faint(pens.text, TRACK_ALPHA))
    colour = colours.of_verdict(row.verdict)
    for part in row.parts:
        x = box.at(part.begin)
        draw_part(pens, Box(x, top, max(1, box.at(part.end) - x), tall), part.phase,
                  colours.LATE if part.is_late else colour)
    end = box.at(row.parts[-1].end) if row.parts else box.at(row.release)
    if row.is_missed:
        draw_cut(pens, end, top, tall)
    if row.worst is not None:
        is_late = row.deadline is not None and row.worst > row.deadline
        draw_worst(pens, end, box.at(row.worst), box, is_late=is_late)
    if row.deadline is not None:
        draw_deadline(pens, due, box)
    if row.expected is not None:
        draw_expected(pens, box.at(row.expected), box)
    if row.is_beyond:
        draw_arrow(pens, box)


def draw_part(pens: Pens, box: Box, phase: Phase, colour: str) -> None:
    """Draw a part of a bar: queueing is faint, prefill hatched, decoding solid."""
    shape = QRectF(box.x, box.y, box.width, box.height)
    if phase == Phase.DECODE:
        pens.painter.fillRect(shape, QColor(colour))
        return
    pens.painter.fillRect(shape, pens.faint(colour))
    if phase == Phase.PREFILL:
        pens.painter.fillRect(shape, QBrush(QColor(colour), Qt.BrushStyle.BDiagPattern))
    pens.painter.setBrush(Qt.BrushStyle.NoBrush)
    pens.painter.setPen(QPen(QColor(colour)))
    pens.painter.drawRect(QRectF(box.x + 0.5, box.y + 0.5, max(0.5, box.width - 1), box.height - 1))


def draw_cut(pens: Pens, x: int, top: int, tall: int) -> None:
    """Draw the mark of a goal that was cut or late, at its end."""
    pens.painter.fillRect(QRectF(x - CUT, top - 1, CUT, tall + 2), QColor(colours.LATE))


def draw_deadline(pens: Pens, x: int, box: Box) -> None:
    """Draw a line of the height of the row, so that those of rows above one another meet."""
    pens.line(x, box.y, x, box.bottom, pens.text, 2.0)


def draw_expected(pens: Pens, x: int, box: Box) -> None:
    """Draw a diamond."""
    middle, half = box.y + box.height / 2, box.height / 2 - PAD
    pens.painter.setPen(QPen(pens.text))
    pens.painter.setBrush(QBrush(pens.palette.base()))
    pens.painter.drawPolygon(QPolygonF([QPointF(x - half, middle), QPointF(x, middle - half), QPointF(x + half, middle),
                                        QPointF(x, middle + half)]))


def draw_worst(pens: Pens, begin: int, end: int, box: Box, *, is_late: bool) -> None:
    """Draw a line from the end of the bar to the end in the worst case, red where that is after the deadline."""
    colour, middle = QColor(colours.LATE) if is_late else pens.text, box.y + box.height / 2
    pens.line(begin, middle, end, middle, colour)
    pens.line(end, box.y + 2 * PAD, end, box.bottom - 2 * PAD, colour, 2.0)


def draw_arrow(pens: Pens, box: Box) -> None:
    """Draw an arrow at the right end: the bar goes on."""
    middle, half = box.y + box.height / 2, box.height / 2 - PAD
    pens.painter.setPen(QPen(QColor(colours.LATE)))
    pens.painter.setBrush(QBrush(QColor(colours.LATE)))
    pens.painter.drawPolygon(QPolygonF([QPointF(box.right, middle - half), QPointF(box.right + 1.5 * half, middle),
                                        QPointF(box.right, middle + half)]))
