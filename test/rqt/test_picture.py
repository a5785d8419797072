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

"""The whole picture, from messages that were recorded while the demonstration ran, and what scrolling shows."""
import pytest
import status_recording
from monitor_messages import stats, status

from timebill_ros.codes import Phase, Verdict
from timebill_ros.monitoring.wording import Tone
from timebill_ros.rqt.axes import AXES
from timebill_ros.rqt.picture import most_back, picture
from timebill_ros.rqt.watch import Watch

MESSAGES = status_recording.read()


def watch_of(messages, now: float = 0.0) -> Watch:
    """A Watch that has heard (topic, message) pairs."""
    watch = Watch(lambda: now)
    for topic, message in messages:
        (watch.hear_status if topic == 'status' else watch.hear_stats)(message)
    watch.take_arrived()
    return watch


def shown(watch, **options):
    return picture(watch, '/timebill', **{'count': 20, **options})


def words(said) -> str:
    return ''.join(piece.text for piece in said)


@pytest.mark.parametrize('axis', AXES)
def test_the_demonstration_as_it_was_recorded(axis):
    watch = watch_of((topic, message) for topic, _, message in MESSAGES)
    found = shown(watch, axis=axis)
    ended = {message.request_id: message for topic, _, message in MESSAGES
             if topic == 'status' and message.phase >= Phase.DONE}
    assert len(found.rows) == 20 and found.hidden == (len(ended) - 20, 0)
    assert [row.request_id for row in found.rows] == list(ended)[-20:]
    for row in found.rows:
        message = ended[row.request_id]
        assert f'{message.response_time_s:.2f} s' in words(row.cells['state'])
        assert row.is_missed == message.overrun and row.verdict in set(Verdict)
        assert not row.parts or 0.0 <= row.parts[0].begin <= row.parts[-1].end <= 1.0
        late = [part for part in row.parts if part.is_late]
        assert bool(late) <= (message.response_time_s > message.time_budget_s)
    assert {part.phase for row in found.rows for part in row.parts} == {Phase.QUEUED, Phase.PREFILL, Phase.DECODE}
    assert any(row.is_missed for row in found.rows) and not all(row.is_missed for row in found.rows)
    assert len({row.verdict for row in found.rows}) >= 3, 'the demonstration has generous and hopeless budgets'
    assert 'active' in words(found.head[0]) and 'nan' not in repr(found).lower()
    assert all(any(line.pieces for line in plot.lines) for plot in found.plots)


def test_every_instant_of_the_recording_can_be_drawn():
    now = 0.0
    watch = Watch(lambda: now)
    held = 0
    for topic, heard_s, message in MESSAGES:
        now = heard_s
        (watch.hear_status if topic == 'status' else watch.hear_stats)(message)
        watch.take_arrived()
        found = shown(watch, selected=message.request_id if topic == 'status' else '')
        held += sum(row.expected is not None for row in found.rows)
        assert topic == 'stats' or not message.request_id or found.account
    assert held > 0, 'goals that run have an expected end'


def test_before_anything_is_heard_there_is_the_hint():
    found = shown(watch_of([]), hint='nobody is there')
    assert found.head == [[('nobody is there', Tone.WARN)]] and not found.rows and not found.plots
    assert '/timebill/stats' in words(shown(watch_of([])).head[0])


def test_a_pause_is_said():
    watch = watch_of([('stats', stats(0.0))])
    assert 'PAUSED' not in words(shown(watch).head[0])
    watch.pause()
    assert 'PAUSED' in words(shown(watch).head[0])


@pytest.mark.parametrize(('count', 'back', 'names', 'hidden'), [
    (3, 0, 'ahi', (6, 0)),  # what is held is seen, whatever came later
    (3, 1, 'fgh', (5, 1)), (3, 6, 'abc', (0, 6)), (3, 99, 'abc', (0, 6)), (20, 5, 'abcdefghi', (0, 0))])
def test_scrolling_back(count, back, names, hidden):
    goals = [status(name, Phase.DONE if name != 'a' else Phase.DECODE, 0.0) for name in 'abcdefghi']
    found = shown(watch_of([('status', goal) for goal in goals]), count=count, back=back)
    assert (''.join(row.request_id for row in found.rows), found.hidden) == (names, hidden)
    assert most_back(9, 3) == 6 and most_back(2, 3) == 0


def test_the_account_is_of_the_goal_that_was_clicked():
    watch = watch_of([('status', status(name, Phase.DONE, 0.0)) for name in 'ab'])
    assert shown(watch).account == [] and dict(shown(watch, selected='a').account)['goal'] == 'a'
    assert shown(watch, selected='gone').account == []
