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

"""Which program sent which goal, where rclpy can introspect an action's services (Kilted and later).

rclpy gives an action server only the sequence number of a request. Service introspection publishes an event for each
request that is taken, with the same number and the GUID of the client. Metadata alone is published, no prompts. The
events are read now and then, not as they come, so accepting a goal costs no more than publishing one.
"""
from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable

from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile

from timebill_ros.action import Generate
from timebill_ros.deadline import Clock

PREFIX_BYTES = 12  # of a GUID: all endpoints of one DDS participant share them
BACKLOG = 2000  # events between two looks: two for each goal
KEPT_S = 10.0  # a request or an event whose counterpart does not come is forgotten after this


class Matcher:
    """Matches requests with events, by sequence number and, because each client has a count of its own, by order.

    Requests are noted in the order in which they are taken, and so are events made. Where one of either kind is missing
    for a number, nothing with this number is matched.
    """

    def __init__(self, clock: Clock = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._requests: list[tuple[int, str, float]] = []  # sequence number, request id, when it came
        self._events: list[tuple[int, bytes, float]] = []  # sequence number, program, when it was read

    def request(self, request_id: str, sequence_number: int) -> None:
        """Take note of a request that was taken; any thread may call this."""
        with self._lock:
            self._requests.append((sequence_number, request_id, self._clock()))

    def match(self, events: Iterable[tuple[int, bytes]]) -> dict[str, bytes]:
        """Return, by request id, the program that sent the request; each request once. `events` are new."""
        now, found = self._clock(), {}
        with self._lock:
            self._events += [(number, program, now) for number, program in events]
            for number in {number for number, _, _ in self._events}:
                programs = [program for other, program, _ in self._events if other == number]
                ids = [request_id for other, request_id, _ in self._requests if other == number]
                if len(ids) == len(programs):  # otherwise one is on its way
                    found |= zip(ids, programs, strict=True)
                    self._events = [event for event in self._events if event[0] != number]
                    self._requests = [request for request in self._requests if request[0] != number]
            # After matching: where the node has stood still, both counterparts may be old, and belong together.
            self._events = [event for event in self._events if now - event[2] < KEPT_S]
            self._requests = [request for request in self._requests if now - request[2] < KEPT_S]
        return found


class GoalSenders:
    """Reads the events of one action server. `note` is told of each request, and `read` asked about every second."""

    def __init__(self, node, server, action: str):
        self._matcher = Matcher()
        self._listener = self._subscription = None
        self.note: Callable[[str, int], None] = lambda request_id, sequence_number: None
        try:
            self._listen(node, server, action)
        except Exception as error:  # an extra: without it, less is known of who sent a goal
            node.get_logger().debug(f'who sent a goal is not introspected: {error}')
            self.destroy()

    def _listen(self, node, server, action: str) -> None:
        """Subscribe on a node of its own that no executor has, so that nothing wakes up for an event."""
        is_secured = os.environ.get('ROS_SECURITY_ENABLE', '').lower() == 'true'
        if is_secured or not hasattr(server, 'configure_introspection'):
            return  # SROS 2's permissions for an action do not include these topics
        from rclpy.service_introspection import ServiceIntrospectionState
        qos = QoSProfile(depth=BACKLOG)
        self._listener = Node(
            f'{node.get_name()}_senders', namespace=node.get_namespace(), context=node.context, enable_rosout=False,
            use_global_arguments=False, start_parameter_services=False,
            parameter_overrides=[Parameter('start_type_description_service', value=False)])
        self._subscription = self._listener.create_subscription(
            Generate.Impl.SendGoalService.Event,
            f'{node.resolve_service_name(f"{action}/_action/send_goal")}/_service_event', lambda event: None, qos)
        server.configure_introspection(node.get_clock(), qos, ServiceIntrospectionState.METADATA)
        self.note = self._matcher.request

    def read(self) -> dict[str, bytes]:
        """Return, by request id, the program that sent the request, of requests not returned before."""
        if self._subscription is None:
            return {}
        events = []
        with self._subscription.handle:
            while (taken := self._subscription.handle.take_message(self._subscription.msg_type, False)) is not None:
                info = taken[0].info
                if info.event_type == info.REQUEST_RECEIVED:
                    events.append((info.sequence_number, bytes(info.client_gid[:PREFIX_BYTES])))
        return self._matcher.match(events)

    def destroy(self) -> None:
        if self._listener is not None:
            self._listener.destroy_node()
        self._listener = self._subscription = None
