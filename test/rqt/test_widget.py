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

"""The window offscreen, with recorded messages: what is drawn, clicks, pause, history, another node. Needs Qt."""
import os

import pytest
import status_recording

os.environ.setdefault('QT_QPA_PLATFORM', 'offscreen')
pytest.importorskip('python_qt_binding', reason='Qt is not installed (Debian: python3-python-qt-binding)',
                    exc_type=ImportError)

from python_qt_binding.QtCore import QEvent, QPoint, QPointF, Qt  # noqa: E402
from python_qt_binding.QtGui import QColor, QImage, QMouseEvent, QPalette  # noqa: E402
from python_qt_binding.QtWidgets import QApplication  # noqa: E402

from timebill_ros.codes import Phase  # noqa: E402
from timebill_ros.monitoring.goal_board import REMEMBERED  # noqa: E402
from timebill_ros.rqt import colours, widget  # noqa: E402
from timebill_ros.rqt.axes import AXES  # noqa: E402
from timebill_ros.rqt.geometry import BAR  # noqa: E402

MESSAGES = status_recording.read()


@pytest.fixture(scope='module')
def application():
    return QApplication.instance() or QApplication([])


@pytest.fixture
def window(application):
    """Return a function that makes a window which shows a recording."""
    made = []

    def make(messages=MESSAGES, size=(1400, 900), servers=('/timebill',)):
        replay = status_recording.Replay(messages)
        shown = widget.DeadlinesWidget(replay.listen, lambda: list(servers), '/timebill', replay.clock)
        shown.replay = replay
        shown.resize(*size)
        shown.show()
        application.processEvents()
        shown.look()
        made.append(shown)
        return shown

    yield make
    for shown in made:
        shown.stop()
        shown.close()


def drawn(shown) -> QImage:
    return shown.canvas.grab().toImage()


def colours_in(image: QImage, box) -> set[str]:
    """Return the colours on the middle line of a box."""
    y = box.y + box.height // 2
    return {QColor(image.pixel(x, y)).name() for x in range(box.x, box.right)}


def click(shown, row: int) -> None:
    box = shown.canvas.geometry_now.row(row)
    at = QPoint(box.x + 20, box.y + box.height // 2)
    event = QMouseEvent(QEvent.Type.MouseButtonPress, QPointF(at), Qt.MouseButton.LeftButton, Qt.MouseButton.LeftButton,
                        Qt.KeyboardModifier.NoModifier)
    shown.canvas.mousePressEvent(event)


def test_bars_have_the_colours_of_their_promises(window):
    shown = window()
    image, geometry = drawn(shown), shown.canvas.geometry_now
    bar = geometry.columns()[BAR]
    rows = shown.canvas.picture.rows
    assert len(rows) >= 15
    decoded = 0
    for i, row in enumerate(rows):
        lasting = [part for part in row.parts if part.phase == Phase.DECODE and part.end - part.begin > 0.02]
        if lasting and not lasting[0].is_late:
            decoded += 1
            box = geometry.row(i)
            seen = colours_in(image, type(box)(bar.x, box.y, bar.width, box.height))
            assert colours.of_verdict(row.verdict) in seen, (i, row)
            assert (colours.LATE in seen) == (row.is_missed or any(part.is_late for part in row.parts))
    assert decoded >= 5


@pytest.mark.parametrize('size', [(600, 480), (1000, 700), (2400, 1400)])
@pytest.mark.parametrize('axis', AXES)
def test_it_draws_in_windows_of_every_size(window, size, axis):
    shown = window(size=size)
    shown.axes.setCurrentText(axis)
    image = drawn(shown)
    assert image.width() > 300 and len({image.pixel(x, y) for x in range(0, image.width(), 3)
                                        for y in range(0, image.height(), 3)}) > 10


def test_a_window_that_becomes_smaller_shows_fewer_goals(window, application):
    shown = window(size=(1200, 1000))
    latest = shown.canvas.picture.rows[-1].request_id
    shown.resize(1200, 500)
    application.processEvents()
    rows = shown.canvas.picture.rows
    assert len(rows) == shown.canvas.geometry_now.count < 20 and rows[-1].request_id == latest
    assert len(shown.canvas.picture.fitting(3)) == 3 and shown.canvas.picture.fitting(3)[-1].request_id == latest


def test_a_dark_window_has_light_words(window, application):
    shown = window()
    palette = QPalette()
    for role, colour in ((QPalette.ColorRole.Window, '#2d2d2d'), (QPalette.ColorRole.Base, '#232323'),
                         (QPalette.ColorRole.WindowText, '#f0f0f0')):
        palette.setColor(role, QColor(colour))
    shown.canvas.setPalette(palette)
    image = drawn(shown)
    assert QColor(image.pixel(2, 2)).name() == '#2d2d2d'
    assert max(QColor(image.pixel(x, y)).lightness() for x in range(300) for y in range(8, 60)) > 150


def test_a_click_shows_the_account_of_the_goal(window):
    shown = window()
    assert not shown.account.isVisible()
    click(shown, 3)
    assert shown.account.isVisible()
    text = shown.account.toPlainText()
    assert shown.canvas.picture.rows[3].request_id in text and 'budget' in text and 'tokens' in text
    click(shown, 10 ** 4)  # below the rows
    assert shown.account.toPlainText() == text
    click(shown, 3)
    assert not shown.account.isVisible(), 'a second click puts it away'


def test_pause_holds_the_picture_and_going_on_shows_what_came(window):
    half = len(MESSAGES) // 2
    shown = window(MESSAGES[:half])
    before = [row.request_id for row in shown.canvas.picture.rows]
    shown.pause.setChecked(True)
    for topic, heard_s, message in MESSAGES[half:]:
        shown.replay.now = heard_s
        (shown.watch.hear_status if topic == 'status' else shown.watch.hear_stats)(message)
    shown.look()
    assert [row.request_id for row in shown.canvas.picture.rows] == before and shown.pause.text() == 'Go on'
    shown.pause.setChecked(False)
    assert [row.request_id for row in shown.canvas.picture.rows] != before


def test_the_history_can_be_scrolled(window):
    shown = window(size=(1000, 600))
    latest = [row.request_id for row in shown.canvas.picture.rows]
    assert shown.history.maximum() > 0 and shown.history.value() == shown.history.maximum()
    shown.history.setValue(0)
    first = MESSAGES[[topic for topic, _, _ in MESSAGES].index('status')][2].request_id
    assert shown.canvas.picture.rows[0].request_id == first and shown.canvas.picture.hidden[1] > 0
    shown.canvas.scrolled.emit(-10 ** 4)  # the wheel, down
    assert [row.request_id for row in shown.canvas.picture.rows] == latest


def test_the_last_200_goals_are_kept(window):
    status = next(message for topic, _, message in MESSAGES if topic == 'status')
    many = [('status', 0.0, type(status)(**{**vars(status), 'request_id': f'{number:032d}', 'phase': Phase.DONE}))
            for number in range(REMEMBERED + 20)]
    shown = window(many)
    assert sum(shown.canvas.picture.hidden) + len(shown.canvas.picture.rows) == REMEMBERED


def test_another_node_begins_anew(window):
    shown = window(servers=('/a/timebill', '/timebill'))
    click(shown, 0)
    assert [shown.servers.itemText(i) for i in range(shown.servers.count())] == ['/a/timebill', '/timebill']
    shown.set_server(' a/timebill ')
    assert shown.server == '/a/timebill' and shown.replay.stopped == 1
    assert shown.canvas.picture.server == '/a/timebill' and not shown.canvas.picture.account


def test_a_node_that_is_not_there_is_told_of_with_those_that_are(window):
    shown = window([], servers=('/b/timebill',))
    shown.redraw()
    (line,) = shown.canvas.picture.head
    assert '/timebill/stats' in line[0].text and 'There are: /b/timebill' in line[0].text
    drawn(shown)


def test_ten_pictures_a_second_at_most(window):
    shown = window()
    assert widget.PERIOD_MS >= 100 and shown._timer.interval() == widget.PERIOD_MS
    pictures = []
    shown.canvas.show_picture = pictures.append
    for _ in range(2 * widget.IDLE_LOOKS):
        shown.look()
    assert len(pictures) == 2  # nothing moves


def test_stopping_ends_the_subscriptions(window):
    shown = window()
    shown.stop()
    shown.stop()
    assert shown.replay.stopped == 1 and not shown._timer.isActive()
