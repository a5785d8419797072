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

"""Messages from other threads, and the standstill of a pause."""
from monitor_messages import stats, status

from timebill_ros.codes import Phase
from timebill_ros.rqt import watch as watch_module
from timebill_ros.rqt.watch import Watch


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_messages_wait_until_they_are_taken():
    watch = Watch(Clock())
    watch.hear_stats(stats(0.0))
    watch.hear_status(status('a', Phase.QUEUED, 0.0))
    assert watch.shown()[0].stats is None
    assert watch.take_arrived() and not watch.take_arrived()
    board, history, now = watch.shown()
    assert board.stats is not None and len(board.goals()) == len(history.points()) == 1 and now == 100.0


def test_a_message_counts_from_when_it_came():
    clock = Clock()
    watch = Watch(clock)
    watch.hear_stats(stats(0.0))
    clock.now = 105.0
    watch.take_arrived()
    assert watch.shown()[0].stats_heard_s == 100.0


def test_a_pause_holds_what_is_shown_and_loses_nothing():
    clock = Clock()
    watch = Watch(clock)
    watch.hear_status(status('a', Phase.QUEUED, 0.0))
    watch.take_arrived()
    watch.pause()
    clock.now = 200.0
    watch.hear_status(status('a', Phase.DONE, 1.0))
    watch.hear_status(status('b', Phase.QUEUED, 1.0))
    assert watch.take_arrived()
    watch.pause()  # once more: it stays as it was
    board, _, now = watch.shown()
    assert watch.is_paused and now == 100.0
    assert [(goal.request_id, goal.is_over) for goal in board.goals()] == [('a', False)]
    watch.resume()
    board, _, now = watch.shown()
    assert now == 200.0 and [goal.request_id for goal in board.goals()] == ['a', 'b']


def test_a_picture_moves_while_a_goal_is_held():
    watch = Watch(Clock())
    assert not watch.moves
    watch.hear_status(status('a', Phase.DECODE, 0.0))
    watch.take_arrived()
    assert watch.moves
    watch.pause()
    assert not watch.moves
    watch.resume()
    watch.hear_status(status('a', Phase.DONE, 0.0))
    watch.take_arrived()
    assert not watch.moves


def test_whoever_never_looks_does_not_grow(monkeypatch):
    monkeypatch.setattr(watch_module, 'MOST_ARRIVED', 3)
    watch = Watch(Clock())
    for number in range(9):
        watch.hear_status(status(str(number), Phase.DONE, 0.0))
    watch.take_arrived()
    assert [goal.request_id for goal in watch.shown()[0].goals()] == ['6', '7', '8']
