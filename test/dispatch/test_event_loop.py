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

"""One thread takes what is posted, and a bug in one step keeps no other from running."""
import threading

from timebill_ros.dispatch.event_loop import EventLoop


def test_each_event_is_followed_up_and_a_bug_stops_nothing(caplog):
    happened, done = [], threading.Event()
    loop = EventLoop('test', lambda: 60.0, (lambda: happened.append('first'), lambda: 1 / 0,
                                            lambda: happened.append('last')))
    loop.start()
    loop.post(happened.append, 'event')
    loop.post(int, 'no number')
    loop.post(loop.stop)
    loop.post(done.set)  # behind the stop
    loop.join(10.0)
    assert not loop.is_running and not done.is_set()
    assert happened == ['event', 'first', 'last', 'first', 'last', 'first', 'last']
    assert sum(record.exc_info is not None for record in caplog.records) == 4


def test_it_wakes_where_no_event_comes():
    woken = threading.Event()
    loop = EventLoop('test', lambda: 0.01, (woken.set,))
    loop.start()
    assert woken.wait(10.0)
    loop.post(loop.stop)
    loop.join(10.0)


def test_it_goes_on_where_it_cannot_be_said_how_long_to_wait(caplog):
    woken = threading.Event()
    loop = EventLoop('test', lambda: 1 / 0, (woken.set,))
    loop.start()
    assert woken.wait(10.0) and 'next timer' in caplog.text
    loop.post(loop.stop)
    loop.join(10.0)
    assert not loop.is_running
