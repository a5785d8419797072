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

"""The node that a client talks through: lost answers of services, an end that is told, threads that begin at once."""
import threading
import time
from types import SimpleNamespace

import pytest
import rclpy
from answered_future import Future
from rclpy.signals import SignalHandlerOptions

from timebill_ros.asking.connection import Connection
from timebill_ros.asking.failures import ServerUnavailable
from timebill_ros.client import TimebillClient

WAIT_S = 60.0  # for what takes no time on a quiet machine


@pytest.mark.parametrize('n_lost', [0, 1, 3, 1000])
def test_a_service_whose_answer_is_lost_is_asked_again(n_lost):
    asked, removed = [], []

    def call_async(request):
        asked.append(Future(None if len(asked) < n_lost else 'the answer'))
        return asked[-1]

    service = SimpleNamespace(call_async=call_async, remove_pending_request=removed.append, srv_name='/ask')
    connection = object.__new__(Connection)
    if n_lost < 1000:
        assert connection.call(service, 'request', WAIT_S, again_s=0.02) == 'the answer'
        assert len(asked) == n_lost + 1
    else:
        with pytest.raises(ServerUnavailable, match='/ask did not answer in 0.1 s'):
            connection.call(service, 'request', 0.1, again_s=0.02)
    assert removed == asked, 'rclpy keeps none of them'


@pytest.fixture
def connection():
    context = rclpy.Context()
    rclpy.init(context=context, args=[], signal_handler_options=SignalHandlerOptions.NO)
    made = Connection('connection', context)
    made.start()
    yield made
    made.close()
    rclpy.try_shutdown(context=context)


def test_what_was_given_to_the_thread_is_done_before_it_ends(connection):
    done = []
    for number in range(100):
        connection.on_executor(lambda number=number: done.append(number))
    connection.close()
    assert done == list(range(100)) and connection.lost == 'the client was closed'
    connection.on_executor(lambda: done.append('late'))
    connection.close()  # a second time
    assert 'late' not in done


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_a_callback_that_raises_is_told_as_the_reason(connection):
    def fail():
        raise RuntimeError('of the test')

    connection.on_executor(fail)
    connection._thread.join(WAIT_S)
    assert connection.lost == 'a callback of the client raised RuntimeError: of the test'


def test_a_context_that_was_shut_down_is_told_as_the_reason(connection):
    rclpy.shutdown(context=connection.node.context)
    connection._thread.join(WAIT_S)
    assert connection.lost == "the program's ROS context was shut down"


def test_a_context_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match='not initialised'):
        Connection('connection', rclpy.Context())


def test_clients_that_threads_make_at_once_are_made_one_after_another():
    making, most = [], []

    class Slow(TimebillClient):
        def __init__(self):
            self._connect('/nobody', watch_status=False)

        def _create_interfaces(self, server):
            making.append(self)
            most.append(len(making))
            time.sleep(0.02)
            making.remove(self)

        def start(self):
            pass

    threads = [threading.Thread(target=Slow) for _ in range(4)]
    for step in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            step(thread)
    assert most == [1] * 4
