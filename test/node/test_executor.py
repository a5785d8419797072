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

"""The server's executor: each callback goes to the pool once, and no exception ends the executor."""
from __future__ import annotations

import threading
import time

import pytest
import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from std_srvs.srv import Trigger

from timebill_ros.node.executor import PoolExecutor


class Logger:
    def __init__(self):
        self.errors = []

    def error(self, text):
        self.errors.append(text)


@pytest.fixture
def node():
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('pooled', context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture
def make(node):
    """Start an executor of `num_threads`; return it and the list of tasks that its pool was given."""
    made = []

    def make(num_threads):
        executor, given = PoolExecutor(num_threads, Logger(), context=node.context), []
        submit = executor._pool.submit
        executor._pool.submit = lambda function, task, begun: (given.append(task), submit(function, task, begun))
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin)
        thread.start()
        made.append((executor, thread))
        return executor, given

    yield make
    for executor, thread in made:
        executor.shutdown(1.0)
        thread.join(5.0)
        assert not thread.is_alive()


def wait_for(event: threading.Event) -> None:
    assert event.wait(20.0)


def test_a_callback_that_cannot_begin_yet_is_given_once(node, make):
    executor, given = make(1)
    began, go_on, after = threading.Event(), threading.Event(), threading.Event()
    executor.create_task(lambda: (began.set(), go_on.wait(20.0)))
    wait_for(began)
    waiting = executor.create_task(after.set)
    for _ in range(30):  # each makes the executor look for work again
        executor.wake()
        time.sleep(0.01)
    assert given.count(waiting) == 1 and not after.is_set()
    go_on.set()
    wait_for(after)


def test_callbacks_run_side_by_side(node, make):
    executor, _ = make(2)
    both = threading.Barrier(3)
    for _ in range(2):
        executor.create_task(both.wait, 20.0)
    both.wait(20.0)


def test_a_callback_that_raises_is_logged_and_others_go_on(node, make):
    executor, _ = make(2)
    after = threading.Event()

    def fails():
        raise ValueError('of the test')

    executor.create_task(fails)
    executor.create_task(after.set)
    wait_for(after)
    until = time.monotonic() + 20.0
    while not executor._logger.errors and time.monotonic() < until:
        time.sleep(0.01)
    assert 'ValueError: of the test' in executor._logger.errors[0]


def test_a_coroutine_that_waits_is_resumed(node, make):
    executor, _ = make(2)
    future, done = rclpy.task.Future(), threading.Event()

    async def waits():
        await future
        done.set()

    executor.create_task(waits)
    time.sleep(0.05)
    assert not done.is_set()
    future.set_result(1)
    executor.wake()
    wait_for(done)


def test_a_timer_of_a_node_goes_on_while_a_callback_blocks(node, make):
    ticks, go_on, began = [], threading.Event(), threading.Event()
    node.create_timer(0.01, lambda: ticks.append(1), callback_group=ReentrantCallbackGroup())
    executor, _ = make(2)
    executor.create_task(lambda: (began.set(), go_on.wait(20.0)))
    wait_for(began)
    before, until = len(ticks), time.monotonic() + 20.0
    while len(ticks) < before + 10 and time.monotonic() < until:
        time.sleep(0.01)
    go_on.set()
    assert len(ticks) >= before + 10


def test_shutdown_waits_for_the_answer_of_a_service_that_takes_time(node, make):
    asked, go_on = threading.Event(), threading.Event()

    def answer(_, response):
        asked.set()
        assert go_on.wait(20.0)
        response.success, response.message = True, 'late'
        return response

    service = node.create_service(Trigger, 'slow', answer)
    client = node.create_client(Trigger, 'slow')
    executor, _ = make(4)
    assert client.wait_for_service(20.0)
    client.call_async(Trigger.Request())
    wait_for(asked)
    assert executor.shutdown(0.05) is False  # it still runs
    threading.Timer(0.2, go_on.set).start()
    assert executor.shutdown(20.0) is True and go_on.is_set()
    node.destroy_service(service)
    assert not executor._logger.errors


def test_no_callback_begins_after_shutdown(node, make):
    executor, given = make(2)
    began, go_on, after = threading.Event(), threading.Event(), threading.Event()
    executor.create_task(lambda: (began.set(), go_on.wait(20.0)))
    wait_for(began)
    ends = threading.Thread(target=executor.shutdown, args=(20.0,))
    ends.start()
    while not executor._is_ending:
        time.sleep(0.001)
    executor.create_task(after.set)
    time.sleep(0.1)
    go_on.set()
    ends.join(20.0)
    assert not ends.is_alive() and not after.is_set() and len(given) == 1
