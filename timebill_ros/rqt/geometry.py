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

"""Where things are in the window, in pixels, worked out from its size and the font's. No Qt."""
from __future__ import annotations

from dataclasses import dataclass

BAR = 'bar'
# The columns of a row and their widths in characters; the bar has what is left. A narrow window has no room for those
# of LESS, the first of which goes first.
COLUMNS = {'released': 9, 'request': 10, 'budget': 8, 'promise': 19, BAR: 0, 'slack': 8, 'tokens': 9, 'state': 22}
NAMES = {'released': 'released', 'request': 'goal', 'budget': 'budget', 'promise': 'promise', 'slack': 'slack, s',
         'tokens': 'tokens', 'state': 'state, or end after'}
RIGHT = ('budget', 'slack', 'tokens')  # columns of numbers
LESS = ('tokens', 'released', 'promise', 'request')
SHORTEST_BAR = 30  # characters
HEAD_LINES = 3
LEGEND_LINES, LEGEND_WIDTH = 2, 108  # twice as many lines in a window with fewer characters
PLOT_LINES = 8  # of the two plots, with heading and labels
FEWEST_ROWS = 6  # beside plots
MARGIN = 8  # pixels
GAP = 8


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def bottom(self) -> int:
        return self.y + self.height

    def at(self, place: float) -> int:
        """Return the x of a place from 0 to 1."""
        return self.x + round(place * self.width)


@dataclass(frozen=True)
class Geometry:
    """The window, from top to bottom: head, legend, names of the columns, rows, axis, plots.

    `width`, `height`: pixels of the window; `em`, `line`: pixels of a character's width and of a line.
    """

    width: int
    height: int
    em: int
    line: int

    @property
    def head(self) -> Box:
        return Box(MARGIN, MARGIN, self.inner, HEAD_LINES * self.line)

    @property
    def legend(self) -> Box:
        lines = LEGEND_LINES if self.inner >= LEGEND_WIDTH * self.em else 2 * LEGEND_LINES
        return Box(MARGIN, self.head.bottom + GAP, self.inner, lines * self.line)

    @property
    def names(self) -> Box:
        return Box(MARGIN, self.legend.bottom + GAP, self.inner, self.line)

    @property
    def rows(self) -> Box:
        top = self.names.bottom + 4
        bottom = self.axis_top - 2
        return Box(MARGIN, top, self.inner, max(bottom - top, self.row_height))

    @property
    def axis_top(self) -> int:
        below = self.plots[0].y - GAP if self.plots else self.height - MARGIN
        return below - 2 * self.line

    @property
    def plots(self) -> tuple[Box, ...]:
        """The boxes of the two plots, headings and labels included; none where a low window would have no rows then."""
        others = self.names.bottom + 4 + 2 * self.line + GAP + MARGIN + 2
        if self.height - others - PLOT_LINES * self.line < FEWEST_ROWS * self.row_height:
            return ()
        tall = PLOT_LINES * self.line
        top, wide = self.height - MARGIN - tall, (self.inner - 3 * GAP) // 2
        return Box(MARGIN, top, wide, tall), Box(MARGIN + wide + 3 * GAP, top, wide, tall)

    @property
    def inner(self) -> int:
        return self.width - 2 * MARGIN

    @property
    def row_height(self) -> int:
        return self.line + 4

    @property
    def count(self) -> int:
        """How many rows there is room for."""
        return max(1, self.rows.height // self.row_height)

    def row(self, i: int) -> Box:
        """Return the box of row `i`, counted from the top."""
        return Box(MARGIN, self.rows.y + i * self.row_height, self.inner, self.row_height)

    def row_at(self, x: float, y: float) -> int | None:
        """Return the number of the row at a point, None where there is none."""
        i = int((y - self.rows.y) // self.row_height)
        return i if 0 <= i < self.count and MARGIN <= x < self.width - MARGIN else None

    def columns(self) -> dict[str, Box]:
        """Return the columns that there is room for, by their names, as boxes of the height of a row at y 0."""
        names = list(COLUMNS)
        for name in LESS:
            if self._bar_width(names) >= SHORTEST_BAR * self.em:
                break
            names.remove(name)
        bar = max(self._bar_width(names), self.em)
        boxes, x = {}, MARGIN
        for name in names:
            wide = bar if name == BAR else COLUMNS[name] * self.em
            boxes[name] = Box(x, 0, wide, self.row_height)
            x += wide
        return boxes

    def _bar_width(self, names: list[str]) -> int:
        return self.inner - self.em * sum(COLUMNS[name] for name in names)


def plot_area(plot: Box, line: int, label_width: int) -> Box:
    """Return where the lines of a plot are drawn: below its heading, above and beside its labels."""
    top = line + line // 2  # the uppermost label is half a line above
    return Box(plot.x + label_width, plot.y + top, plot.width - label_width - 2, plot.height - top - line - 4)
