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

"""A monitor's subscriptions: the topics of the named node, with a QoS that goes with what the node publishes."""
from types import SimpleNamespace

import rclpy
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible

from timebill_ros.monitoring.subscription import servers, subscribe
from timebill_ros.msg import DeadlineStats, RequestStatus
from timebill_ros.node.stats import QOS


class Node:
    """Remembers subscriptions; its graph is given."""

    def __init__(self, topics=()):
        self.made, self._topics = {}, dict(topics)

    def create_subscription(self, kind, topic, callback, qos, event_callbacks):
        self.made[topic] = SimpleNamespace(kind=kind, callback=callback, qos=qos, events=event_callbacks)
        return self.made[topic]

    def get_topic_names_and_types(self):
        return [(topic, kinds) for topic, (kinds, _) in self._topics.items()]

    def count_publishers(self, topic):
        return self._topics[topic][1]


def test_both_topics_of_the_server_are_heard():
    node = Node()
    made = subscribe(node, '/robot/timebill', 'on status', 'on stats')
    assert {topic: (one.kind, one.callback) for topic, one in node.made.items()} == {
        '/robot/timebill/status': (RequestStatus, 'on status'), '/robot/timebill/stats': (DeadlineStats, 'on stats')}
    assert made == list(node.made.values())
    heard = node.made['/robot/timebill/stats'].qos
    assert isinstance(heard, QoSProfile) and qos_check_compatible(QOS, heard)[0] != QoSCompatibility.ERROR
    assert heard.durability == QOS.durability  # so that the latest comes at once


def test_servers_are_nodes_that_publish_stats():
    ours, others = ['timebill_ros/msg/DeadlineStats'], ['std_msgs/msg/String']
    node = Node({'/b/timebill/stats': (ours, 1), '/a/timebill/stats': (ours, 2), '/gone/stats': (ours, 0),
                 '/else/stats': (others, 1), '/a/other': (ours, 1)})
    assert servers(node) == ['/a/timebill', '/b/timebill']


def test_subscriptions_can_be_destroyed_while_another_thread_spins():
    """Event handlers of a subscription that goes would raise InvalidHandle there."""
    rclpy.init()
    try:
        node = rclpy.create_node('monitor')
        for subscription in subscribe(node, '/timebill', print, print):
            assert list(subscription.event_handlers) == []
    finally:
        rclpy.shutdown()
