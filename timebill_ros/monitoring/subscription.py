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

"""The subscriptions of a monitor: the status and stats topics of one node, with the QoS that these are for."""
from __future__ import annotations

from collections.abc import Callable

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

from timebill_ros.msg import DeadlineStats, RequestStatus

DEPTH = 50  # statuses; several goals may end at once
# Whoever comes late has the latest stats at once.
KEPT = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def subscribe(node, server: str, on_status: Callable, on_stats: Callable) -> list:
    """Have `node` hear the server of that name (as '/timebill'); return the subscriptions.

    `on_status` gets each RequestStatus, `on_stats` each DeadlineStats, in a thread of the node's executor.

    The subscriptions have no handlers of events. An executor of rclpy passes over a subscription that another thread
    destroys while it collects what to wait for, but raises InvalidHandle for its handlers, which would end rqt.
    """
    no_events = SubscriptionEventCallbacks(use_default_callbacks=False)
    return [node.create_subscription(RequestStatus, f'{server}/status', on_status, DEPTH, event_callbacks=no_events),
            node.create_subscription(DeadlineStats, f'{server}/stats', on_stats, KEPT, event_callbacks=no_events)]


def servers(node) -> list[str]:
    """Return the names of the servers that `node` has discovered by now, sorted."""
    kind = 'timebill_ros/msg/DeadlineStats'
    return sorted(topic.removesuffix('/stats') for topic, kinds in node.get_topic_names_and_types()
                  if kind in kinds and topic.endswith('/stats') and node.count_publishers(topic))
