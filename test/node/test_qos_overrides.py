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

"""What a node is given as qos_overrides takes effect, is refused, or gets a warning."""
from __future__ import annotations

from types import SimpleNamespace

import pytest
import rclpy
from node_client import wait_until
from node_process import worker_program
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from timebill_ros.node import qos_overrides
from timebill_ros.node.server_node import TimebillNode


class Node(SimpleNamespace):
    """A node's names, and what it warns of."""

    def __init__(self):
        super().__init__(warnings=[])

    def resolve_topic_name(self, topic):
        return topic.replace('~', '/ns/timebill')

    def get_fully_qualified_name(self):
        return '/ns/timebill'

    def get_logger(self):
        return SimpleNamespace(warning=self.warnings.append)


STATUS = 'qos_overrides./ns/timebill/status.publisher'


@pytest.mark.parametrize('name, value', [
    (f'{STATUS}.depth', 5), (f'{STATUS}.durability', 'transient_local'), (f'{STATUS}.history', 'keep_all'),
    ('qos_overrides./diagnostics.publisher.reliability', 'best_effort'),
    ('qos_overrides./ns/timebill/stats.publisher.durability', 'volatile'),
    ('qos_overrides./clock.subscription.reliability', 'reliable'), ('queue_size', 5)])
def test_what_is_taken(name, value):
    node = Node()
    qos_overrides.check(node, {name: value})
    assert not node.warnings


@pytest.mark.parametrize('name, value, words', [
    (f'{STATUS}.depth', 0, 'from 1 up, got 0'), (f'{STATUS}.depth', 'deep', "got 'deep'"),
    (f'{STATUS}.reliability', 'sometimes', 'reliable, best_effort'), (f'{STATUS}.deadline', 1, 'policies'),
    ('qos_overrides./ns/timebill/status.subscription.depth', 1, 'can override'),
    ('qos_overrides./ns/timebill/generate/_action/feedback.publisher.depth', 9, 'can override'),
    ('qos_overrides./clock.publisher.depth', 9, 'can override'),
    ('qos_overrides./diagnostics.depth', 9, 'can override')])
def test_what_cannot_take_effect_is_refused(name, value, words):
    with pytest.raises(RuntimeError) as caught:
        qos_overrides.check(Node(), {name: value})
    assert name in str(caught.value) and words in str(caught.value)


def test_what_concerns_other_nodes_gets_a_warning():
    node = Node()
    qos_overrides.check(node, {'qos_overrides./scan.subscription.depth': 3})
    (warning,) = node.warnings
    assert '/scan' in warning and 'ignored' in warning


def test_overrides_take_effect_and_cannot_change_later(tmp_path):
    given = {f'qos_overrides./diagnostics.publisher.{name}': value for name, value in {
        'reliability': 'best_effort'}.items()} | {
        'qos_overrides./timebill/status.publisher.durability': 'transient_local',
        'qos_overrides./clock.subscription.reliability': 'reliable', 'use_sim_time': True,
        'worker_python': worker_program('stub_worker.py', tmp_path)}
    context = rclpy.Context()
    rclpy.init(context=context)
    node = TimebillNode(context=context, parameter_overrides=[Parameter(name, value=value)
                                                              for name, value in given.items()])
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS

        def profiles(ask, topic):
            return wait_until(lambda: [found.qos_profile for found in ask(topic)], 20.0)

        (diagnostics,) = profiles(node.get_publishers_info_by_topic, '/diagnostics')
        (status,) = profiles(node.get_publishers_info_by_topic, '/timebill/status')
        assert (diagnostics.reliability, status.reliability) == (ReliabilityPolicy.BEST_EFFORT,
                                                                 ReliabilityPolicy.RELIABLE)
        assert status.durability == DurabilityPolicy.TRANSIENT_LOCAL
        assert ReliabilityPolicy.RELIABLE in [profile.reliability for profile in profiles(
            node.get_subscriptions_info_by_topic, '/clock')], 'rclpy has a subscription of its own beside it'
        for name in (STATUS.replace('/ns', '') + '.durability', 'qos_overrides./diagnostics.publisher.depth'):
            (result,) = node.set_parameters([Parameter(name, value='volatile')])
            assert not result.successful and name in result.reason
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
