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

"""What the painters share: colours of the window's palette, and words that fit their place. Qt."""
from __future__ import annotations

from collections.abc import Iterable

from python_qt_binding.QtCore import QPointF, QRectF, Qt
from python_qt_binding.QtGui import QBrush, QColor, QFontMetrics, QPalette, QPen

from timebill_ros.monitoring.wording import Said, Tone
from timebill_ros.rqt import colours
from timebill_ros.rqt.geometry import Box

FAINT_ALPHA = 70  # of 255


class Pens:
    """A QPainter with a window's palette. Text is drawn in the window's font."""

    def __init__(self, painter, palette: QPalette):
        self.painter, self.palette = painter, palette
        self.metrics = QFontMetrics(painter.font())
        self.text = palette.color(QPalette.ColorRole.WindowText)
        self._tones = colours.tones(palette.color(QPalette.ColorRole.Window).name())

    def colour(self, tone: Tone) -> QColor:
        named = self._tones[tone]
        return self.text if named is None else QColor(named)

    def faint(self, colour: QColor | str, alpha: int = FAINT_ALPHA) -> QColor:
        """Return a colour through which the background shows."""
        seen = QColor(colour)
        seen.setAlpha(alpha)
        return seen

    def panel(self, box: Box) -> None:
        """Draw the background of rows or of a plot."""
        self.painter.setPen(QPen(self.palette.color(QPalette.ColorRole.Mid)))
        self.painter.setBrush(QBrush(self.palette.color(QPalette.ColorRole.Base)))
        self.painter.drawRect(rect(box))

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: QColor, width: float = 1.0, *,
             is_dashed: bool = False) -> None:
        pen = QPen(colour, width)
        if is_dashed:
            pen.setStyle(Qt.PenStyle.DashLine)
        self.painter.setPen(pen)
        self.painter.drawLine(QPointF(x1, y1), QPointF(x2, y2))

    def say(self, box: Box, said: Iterable[Said], *, is_right: bool = False, is_bold: bool = False) -> int:
        """Write in a box, with an ellipsis where there is too little room; return the x after the last character."""
        font = self.painter.font()
        font.setBold(is_bold)
        self.painter.setFont(font)
        metrics = QFontMetrics(font)
        pieces = list(said)
        x = box.x
        if is_right:
            x = max(box.x, box.right - sum(metrics.horizontalAdvance(piece.text) for piece in pieces))
        for text, tone in pieces:
            shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, max(0, box.right - x + 1))
            self.painter.setPen(QPen(self.colour(tone)))
            self.painter.drawText(QPointF(x, box.y + (box.height + metrics.ascent() - metrics.descent()) / 2), shown)
            x += metrics.horizontalAdvance(shown)
        font.setBold(False)
        self.painter.setFont(font)
        return x


def rect(box: Box) -> QRectF:
    """Return a box as Qt has it."""
    return QRectF(box.x, box.y, box.width, box.height)
