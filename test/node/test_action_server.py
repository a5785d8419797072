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

"""A goal whose acceptance cannot be sent has an owner all the same: it is answered late, or it ends with a status."""
from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from node_client import Result, make_goal, wait_for, wait_until
from rclpy.action.server import RCLError
from test_goal_server import TEXT, Served

from timebill_ros.codes import ErrorCode
from timebill_ros.node import action_server


class Handle:
    """rclpy's handle of an action server; the first `n_failures` goal responses do not reach their client.

    `untold`: which messages with states of goals are not taken by DDS, counted from 1.
    """

    def __init__(self, handle, n_failures=0, untold=()):
        self._handle, self.n_failures, self.untold, self.n_states = handle, n_failures, untold, 0

    def __getattr__(self, name):
        return getattr(self._handle, name)

    def __enter__(self):
        return self._handle.__enter__()

    def __exit__(self, *error):
        return self._handle.__exit__(*error)

    def publish_status(self):
        self.n_states += 1
        if self.n_states in self.untold:
            raise RCLError('of the test: cannot publish data')
        self._handle.publish_status()

    def send_goal_response(self, *arguments):
        if self.n_failures:
            self.n_failures -= 1
            raise RCLError('of the test: timed out')
        self._handle.send_goal_response(*arguments)


@pytest.fixture
def served(monkeypatch):
    monkeypatch.setattr(action_server, 'RETRIES_S', (0.05, 0.1))
    served = Served()
    real = served.goals._server._handle
    yield served
    served.goals._server._handle = real
    served.close()


def nothing_is_left(served):
    return not served.goals._goals and not served.goals._server._coming and not served.goals._clients._senders


def test_a_client_that_is_discovered_late_gets_its_acceptance_and_its_answer(served):
    server = served.goals._server
    server._handle = Handle(server._handle, n_failures=2)
    assert served.ask(make_goal('one', 30.0))[1].text == TEXT
    wait_until(lambda: nothing_is_left(served), 20.0)


def test_acceptances_that_are_sent_again_hold_nobody_up(served, monkeypatch):
    monkeypatch.setattr(action_server, 'RETRIES_S', (600.0,))
    slept = threading.Event()
    monkeypatch.setattr(action_server, 'time', SimpleNamespace(
        sleep=lambda seconds: slept.wait(30.0), monotonic=time.monotonic))
    server = served.goals._server
    server._handle = Handle(server._handle, n_failures=8)
    for _ in range(8):  # more than the executor has threads
        served._executors[1].create_task(lambda: served.actions.send_goal_async(make_goal('endless', 600.0)))
    wait_until(lambda: server._handle.n_failures == 0, 20.0)
    assert served.ask(make_goal('one', 30.0))[1].text == TEXT
    slept.set()


def test_a_goal_whose_client_is_not_reached_ends_and_the_status_topic_says_so(served):
    server = served.goals._server
    server._handle = Handle(server._handle, n_failures=3)
    sent = threading.Event()
    futures = []
    served._executors[1].create_task(lambda: (
        futures.append(served.actions.send_goal_async(make_goal('endless', 600.0))), sent.set()))
    assert sent.wait(20.0)
    (_, outcome), = wait_until(lambda: served.statuses, 20.0)
    assert outcome.error_code is ErrorCode.CANCELED and 'acceptance' in outcome.error_msg
    assert not futures[0].done(), 'the client cannot know of its goal'
    wait_until(lambda: nothing_is_left(served), 20.0)
    assert not any(handle.is_active for handle in server._goal_handles.values()), 'rclpy may forget the goal'
    assert served.ask(make_goal('one', 30.0))[1].text == TEXT, 'the next goal is served'


@pytest.mark.parametrize('untold', [{1}, {2}, {3}, {1, 2, 3}])
def test_a_state_that_cannot_be_published_takes_no_result_away(served, untold):
    """Those of acceptance, start and end. DDS may refuse them after a client was killed."""
    server = served.goals._server
    server._handle = Handle(server._handle, untold=untold)
    assert served.ask(make_goal('one', 30.0))[1].text == TEXT
    wait_until(lambda: nothing_is_left(served), 20.0)
    server._handle.untold = ()
    assert served.ask(make_goal('one', 30.0))[1].text == TEXT, 'the next goal is served'


def test_a_goal_id_that_is_sent_twice_is_refused_and_belongs_to_the_first_goal(served):
    handle = served.send(make_goal('endless', 60.0))
    again = served.send(make_goal('one', 30.0), goal_uuid=handle.goal_id)
    assert not again.accepted
    wait_until(lambda: not served.goals._server._coming and len(served.goals._goals) == 1, 20.0)
    assert wait_for(handle.cancel_goal_async(), 20.0).goals_canceling
    assert served.result(handle)[1].error_code == Result.CANCELED
