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

"""Who sent a goal: requests and events are matched by number; a client that leaves takes only its own goals along."""
from __future__ import annotations

import itertools
import threading

import pytest
import rclpy
from node_client import make_goal, wait_for, wait_until
from rclpy.action import ActionClient, ActionServer
from rclpy.executors import SingleThreadedExecutor
from test_goal_server import Served

from timebill_ros.action import Generate
from timebill_ros.codes import ErrorCode
from timebill_ros.node.goal_senders import KEPT_S, Matcher

A, B = b'A', b'B'


@pytest.fixture
def matcher():
    matcher = Matcher(clock=lambda: matcher.now)
    matcher.now = 0.0
    return matcher


def test_each_request_is_told_once(matcher):
    matcher.request('first', 1)
    matcher.request('second', 2)
    assert matcher.match([(1, A), (2, B)]) == {'first': A, 'second': B}
    assert matcher.match([]) == {}
    matcher.request('third', 1)
    assert matcher.match([(1, B)]) == {'third': B}


@pytest.mark.parametrize('order', list(itertools.permutations(['request', 'event', 'look'])))
def test_either_may_come_first(matcher, order):
    found = {}
    for what in [*order, 'look']:
        if what == 'request':
            matcher.request('goal', 7)
        else:
            found |= matcher.match([(7, A)] if what == 'event' else [])
    assert found == {'goal': A}


def test_two_of_one_number_are_told_apart_by_their_order(matcher):
    matcher.request('one', 1)
    matcher.request('other', 1)
    assert matcher.match([(1, A)]) == {}, 'the second event is on its way'
    assert matcher.match([(1, B)]) == {'one': A, 'other': B}


def test_a_late_look_matches_no_event_with_a_request_of_another(matcher):
    matcher.request('of A', 1)
    matcher.now = KEPT_S + 5.0  # the process was stopped, and the event waited to be read
    assert matcher.match([(1, A)]) == {'of A': A}
    matcher.request('of B', 1)
    assert matcher.match([(1, B)]) == {'of B': B}


def test_what_finds_no_counterpart_is_forgotten(matcher):
    matcher.request('goal', 1)
    matcher.match([(2, A)])
    matcher.now = KEPT_S
    assert matcher.match([]) == {}
    matcher.request('new', 2)
    assert matcher.match([(1, B)]) == {}
    assert len(matcher._requests) == len(matcher._events) == 1


class Program:
    """Another program with a client of the action, as far as DDS can tell: it has a context of its own."""

    def __init__(self, name):
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node(name, context=self._context)
        self.actions = ActionClient(self._node, Generate, '/timebill/generate')
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()
        assert self.actions.wait_for_server(20.0)

    def send(self):
        futures, sent = [], threading.Event()
        self._executor.create_task(
            lambda: (futures.append(self.actions.send_goal_async(make_goal('endless', 600.0))), sent.set()))
        assert sent.wait(20.0)
        return wait_for(futures[0], 20.0)

    def close(self):
        self._executor.shutdown(1.0)
        self._thread.join(5.0)
        self.actions.destroy()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


@pytest.mark.skipif(not hasattr(ActionServer, 'configure_introspection'), reason='this rclpy cannot introspect actions')
def test_a_client_that_leaves_takes_only_its_own_goals_along():
    """Over DDS; both clients were there before either sent a goal."""
    served = Served()
    leaving, staying = Program('leaving'), Program('staying')
    try:
        gone, kept = leaving.send(), staying.send()
        jobs = {bytes(handle.goal_id.uuid).hex(): handle for handle in (gone, kept)}
        wait_until(lambda: len(served.goals._goals) == 2, 20.0)
        found = {name: served.goals._goals[name].job for name in jobs}
        served.goals.look_for_clients()
        leaving.close()
        lost, held = (found[bytes(handle.goal_id.uuid).hex()] for handle in (gone, kept))

        def lost_has_ended():
            served.goals.look_for_clients()
            served.dispatcher._supervisor._worker._on_event({'event': 'alive'})  # it does not hang
            return lost.outcome

        wait_until(lost_has_ended, 20.0)
        assert lost.outcome.error_code is ErrorCode.CANCELED and 'client is gone' in lost.outcome.error_msg
        assert held.outcome is None
    finally:
        staying.close()
        served.close()
