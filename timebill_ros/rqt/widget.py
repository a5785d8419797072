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

"""The contents of the window: which node, pause, the picture, and the account of the goal that was clicked. Qt."""
from __future__ import annotations

import html
import time
from collections.abc import Callable

from python_qt_binding.QtCore import QSize, Qt, QTimer, Signal
from python_qt_binding.QtGui import QPainter
from python_qt_binding.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollBar,
    QSplitter,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from timebill_ros.monitoring import wording
from timebill_ros.rqt.axes import AXES
from timebill_ros.rqt.painter import geometry_for, paint
from timebill_ros.rqt.picture import Picture, most_back, picture
from timebill_ros.rqt.watch import Watch

PERIOD_MS = 100  # between two looks: 10 pictures a second at most
IDLE_LOOKS = 10  # with nothing new, a picture only after so many looks
SEARCH_LOOKS = 20  # nodes are looked for after so many looks
LEAST_WIDTH, LEAST_HEIGHT = 480, 300  # pixels
WIDTH, HEIGHT = 1100, 720  # where nobody says otherwise
ACCOUNT_CHARACTERS = 36


class Canvas(QWidget):
    """Shows a picture. `clicked` has the request_id of a goal, `scrolled` the rows to go back.

    `resized` tells that there is room for more rows or fewer.
    """

    clicked = Signal(str)
    scrolled = Signal(int)
    resized = Signal()

    def __init__(self):
        super().__init__()
        self.setMinimumSize(LEAST_WIDTH, LEAST_HEIGHT)
        self.picture: Picture | None = None

    def sizeHint(self):  # noqa: N802
        return QSize(WIDTH, HEIGHT)

    @property
    def geometry_now(self):
        return geometry_for(self.font(), self.width(), self.height())

    def show_picture(self, shown: Picture) -> None:
        self.picture = shown
        self.update()

    def paintEvent(self, event):  # noqa: N802
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(self.font())
        if self.picture is not None:
            paint(painter, self.palette(), self.geometry_now, self.picture)
        painter.end()

    def mousePressEvent(self, event):  # noqa: N802
        at = event.position() if hasattr(event, 'position') else event.pos()  # Qt 6 and Qt 5
        geometry = self.geometry_now
        row = geometry.row_at(at.x(), at.y())
        rows = self.picture.fitting(geometry.count) if self.picture is not None else []
        if row is not None and row < len(rows):
            self.clicked.emit(rows[row].request_id)

    def resizeEvent(self, event):  # noqa: N802
        self.resized.emit()

    def wheelEvent(self, event):  # noqa: N802
        self.scrolled.emit(1 if event.angleDelta().y() > 0 else -1)


class DeadlinesWidget(QWidget):
    """The window's contents.

    `listen(server, watch)` has a Watch hear a node, and returns a function that ends this; `find_servers()` returns the
    names of the nodes that there are. `clock`: returns seconds of the monotonic clock.
    """

    def __init__(self, listen: Callable, find_servers: Callable[[], list[str]], server: str, clock=time.monotonic):
        super().__init__()
        self.setObjectName('TimebillDeadlines')
        self.setWindowTitle('LLM Deadlines')
        self._listen, self._find_servers, self._clock = listen, find_servers, clock
        self._stop_listening: Callable[[], None] = lambda: None
        self.watch = Watch(clock)
        self._server, self._selected, self._html = '', '', ''
        self._looks, self._back = 0, 0
        self._build()
        self.set_server(server)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.look)
        self._timer.start(PERIOD_MS)

    def _build(self) -> None:
        self.servers = QComboBox()
        self.servers.setEditable(True)
        self.servers.setMinimumContentsLength(24)
        self.servers.setToolTip('the name of the node; the list has those that were found')
        self.pause = QPushButton('Pause')
        self.pause.setCheckable(True)
        self.pause.setToolTip('hold the picture; what happens meanwhile is shown afterwards')
        self.axes = QComboBox()
        self.axes.addItems(list(AXES))
        self.axes.setToolTip('bars of the length of their budgets, or on one axis of time')
        self.canvas, self.history = Canvas(), QScrollBar(Qt.Orientation.Vertical)
        self.account = QTextBrowser()
        self.account.hide()  # until a goal is clicked
        self.account.setMinimumWidth(ACCOUNT_CHARACTERS * self.fontMetrics().averageCharWidth())
        bar = QHBoxLayout()
        for part in (QLabel('Node:'), self.servers, QLabel('Bars:'), self.axes, self.pause):
            bar.addWidget(part)
        bar.addWidget(QLabel('   Click a goal for its account.'))
        bar.addStretch(1)
        left = QWidget()
        row = QHBoxLayout(left)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.canvas, 1)
        row.addWidget(self.history)
        self.splitter = QSplitter(Qt.Orientation.Horizontal)
        self.splitter.addWidget(left)
        self.splitter.addWidget(self.account)
        self.splitter.setStretchFactor(0, 4)
        self.splitter.setStretchFactor(1, 1)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(4, 4, 4, 4)
        whole.addLayout(bar)
        whole.addWidget(self.splitter, 1)
        # While somebody types, each letter would be another node: only a name that is chosen or entered counts.
        self.servers.lineEdit().editingFinished.connect(lambda: self.set_server(self.servers.currentText()))
        self.servers.activated.connect(lambda _: self.set_server(self.servers.currentText()))
        self.axes.currentIndexChanged.connect(lambda _: self.redraw())
        self.pause.toggled.connect(self._on_pause)
        self.history.valueChanged.connect(self._on_scroll)
        self.canvas.clicked.connect(self.select)
        self.canvas.resized.connect(self.redraw)
        self.canvas.scrolled.connect(lambda rows: self.history.setValue(self.history.value() - rows))

    @property
    def server(self) -> str:
        return self._server

    def set_server(self, server: str) -> None:
        """Show another node, and forget the one before."""
        server = '/' + server.strip().strip('/')
        self.servers.setEditText(server)
        if server == self._server:
            return
        self._stop_listening()
        self._server, self.watch, self._selected, self._back = server, Watch(self._clock), '', 0
        self.pause.setChecked(False)
        self._stop_listening = self._listen(server, self.watch)
        self.redraw()

    def look(self) -> None:
        """Take what has arrived, and draw where something has changed. The timer calls it."""
        self._looks += 1
        if self._looks % SEARCH_LOOKS == 1:
            self._search()
        has_news = self.watch.take_arrived()
        if (has_news and not self.watch.is_paused) or self.watch.moves or self._looks % IDLE_LOOKS == 0:
            self.redraw()

    def redraw(self) -> None:
        """Work out the picture and show it."""
        count = self.canvas.geometry_now.count
        self._set_range(most_back(len(self.watch.shown()[0].goals()), count), count)
        shown = picture(self.watch, self._server, count=count, back=self._back, axis=self.axes.currentText(),
                        selected=self._selected, hint=self._hint())
        self.canvas.show_picture(shown)
        self.account.setVisible(bool(shown.account))
        text = _as_html(shown.account)
        if text != self._html:  # not again and again under somebody's selection
            self._html = text
            self.account.setHtml(text)

    def select(self, request_id: str) -> None:
        """Show the account of a goal, or put it away where it is shown already."""
        self._selected = '' if request_id == self._selected else request_id
        self.redraw()

    def stop(self) -> None:
        """End looking and listening."""
        self._timer.stop()
        self._stop_listening()
        self._stop_listening = lambda: None

    def _set_range(self, most: int, count: int) -> None:
        """Let the history be scrolled `most` rows back. The latest goals are at the bottom, as in a log that grows.

        Whoever has scrolled back goes on to see the same goals when others come.
        """
        if self.history.maximum() == most:
            return
        value = self.history.value() if self._back else most
        self.history.blockSignals(True)
        self.history.setRange(0, most)
        self.history.setPageStep(count)
        self.history.setValue(value)
        self.history.blockSignals(False)
        self._back = most - self.history.value()

    def _search(self) -> None:
        """Offer the nodes that there are."""
        found = self._find_servers()
        if found != [self.servers.itemText(i) for i in range(self.servers.count())]:
            text = self.servers.currentText()
            self.servers.blockSignals(True)
            self.servers.clear()
            self.servers.addItems(found)
            self.servers.setEditText(text)
            self.servers.blockSignals(False)

    def _hint(self) -> str:
        others = [name for i in range(self.servers.count()) if (name := self.servers.itemText(i)) != self._server]
        found = f'. There are: {", ".join(others)}' if others else ''
        return wording.unheard(self._server) + found

    def _on_pause(self, is_paused: bool) -> None:
        self.pause.setText('Go on' if is_paused else 'Pause')
        (self.watch.pause if is_paused else self.watch.resume)()
        self.redraw()

    def _on_scroll(self, value: int) -> None:
        self._back = self.history.maximum() - value
        self.redraw()


def _as_html(rows: list[tuple[str, str]]) -> str:
    style = 'padding-right:8px; white-space:nowrap'
    cells = [f'<td style="{style}"><b>{html.escape(name)}</b></td><td>{html.escape(value)}</td>'
             for name, value in rows]
    return f'<table>{"".join(f"<tr>{pair}</tr>" for pair in cells)}</table>'
