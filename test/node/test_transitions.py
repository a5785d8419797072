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

"""Transition callbacks of server_node.py that fail: logged, undone, FAILURE, and the node goes on."""
from __future__ import annotations

import logging

import pytest
import rclpy
from node_process import worker_program
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from scripted_model import parameters

from timebill_ros.dispatch.dispatcher import Dispatcher
from timebill_ros.node import ros_logging
from timebill_ros.node.clock_follower import ClockFollower
from timebill_ros.node.estimate_service import EstimateService
from timebill_ros.node.goal_server import GoalServer
from timebill_ros.node.server_node import TimebillNode

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A configured node in this process, whose worker has no model."""
    package = logging.getLogger('timebill_ros')
    before = package.handlers, package.level, package.propagate
    monkeypatch.setattr(ros_logging, 'bridge', lambda logger: None)
    context = rclpy.Context()
    rclpy.init(context=context)
    given = parameters(worker_python=worker_program('stub_worker.py', tmp_path))
    node = TimebillNode(context=context, parameter_overrides=[Parameter(name, value=value)
                                                              for name, value in given.items()])
    assert node.trigger_configure() == SUCCESS
    yield node
    node.stop()
    node.destroy_node()
    rclpy.shutdown(context=context)
    package.handlers, package.level, package.propagate = before


def label(node) -> str:
    return node._state_machine.current_state[1]


def fail(*_, **__):
    raise ValueError('of the test')


def test_activate_that_fails_leaves_the_node_inactive(node, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(GoalServer, 'start', fail)
        assert node.trigger_activate() == FAILURE
    assert label(node) == node._state == 'inactive' and not node._is_active()
    assert node.trigger_activate() == SUCCESS and node._is_active()


def test_deactivate_that_fails_leaves_the_node_active_and_accepting(node, monkeypatch):
    assert node.trigger_activate() == SUCCESS
    with monkeypatch.context() as broken:
        broken.setattr(GoalServer, 'drain', fail)
        assert node.trigger_deactivate() == FAILURE
    assert label(node) == node._state == 'active' and node._is_active()
    assert node.trigger_deactivate() == SUCCESS and not node._is_active()


@pytest.mark.parametrize('kind, name', [(Dispatcher, 'close'), (GoalServer, 'destroy'), (ClockFollower, 'destroy'),
                                        (EstimateService, 'destroy')])
def test_cleanup_that_fails_frees_all_the_rest_and_can_be_done_again(node, monkeypatch, kind, name):
    dispatcher = node._dispatcher
    with monkeypatch.context() as broken:
        broken.setattr(kind, name, fail)
        assert node.trigger_cleanup() == FAILURE
    assert label(node) == 'inactive'
    assert node.trigger_activate() == FAILURE and label(node) == 'inactive', 'there is nothing to activate'
    assert node.trigger_cleanup() == SUCCESS and label(node) == 'unconfigured'
    assert not any((node._dispatcher, node._goals, node._estimates, node._status, node._clock_follower))
    dispatcher.close()


@pytest.mark.parametrize('kind, name', [(GoalServer, 'drain'), (GoalServer, 'destroy')])
def test_shutdown_that_fails_frees_the_worker_all_the_same(node, monkeypatch, kind, name):
    with monkeypatch.context() as broken:
        broken.setattr(kind, name, fail)
        assert node.trigger_shutdown() == FAILURE
    assert label(node) == 'finalized' and node._dispatcher is None
