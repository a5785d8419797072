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

"""Which goals have lost the program that sent them.

goal_senders.py says which program sent a goal, where rclpy lets it. Elsewhere ROS still tells which programs have a
client of the action. A goal belongs to one of the programs that had one when the goal came, and has lost its own for
sure once none of these is left. Programs that came later do not count.

A program is told by the first 12 bytes of its endpoints' GUIDs, which all endpoints of one DDS participant share. One
that closes its client vanishes at once. One that is killed vanishes when its DDS lease is over, with Fast DDS after
20 s.
"""
from __future__ import annotations

import threading
import time
from collections.abc import Callable

from timebill_ros.deadline import Clock
from timebill_ros.node.goal_senders import PREFIX_BYTES

EARLY_S = 10.0  # how long it is remembered who sent a goal that is not watched yet
GONE_S = 2.0  # a program that vanishes for less may be making its client again


class ClientWatch:
    """Watches the senders of goals. `present()` returns the programs that have a client of the action now.

    `identified()` returns, by request id, the program that sent the goal, as far as that has become known since it was
    last asked.

    Any thread may call it. A goal that came while no program was seen is not watched: there the RMW does not show
    clients, and their absence says nothing.
    """

    def __init__(self, present: Callable[[], frozenset[bytes]],
                 identified: Callable[[], dict[str, bytes]] = dict, clock: Clock = time.monotonic):
        self._present, self._identified, self._clock = present, identified, clock
        self._lock = threading.Lock()
        self._senders: dict[str, frozenset[bytes]] = {}  # by request id: programs of which one has sent the goal
        self._absent_since: dict[str, float] = {}  # by request id: when all of them were first found gone
        self._early: dict[str, tuple[bytes, float]] = {}  # senders of goals that are not watched yet, and since when

    def add(self, request_id: str) -> None:
        """Watch the sender of a goal that has just come."""
        senders = self._present()
        if senders:
            with self._lock:
                self._senders[request_id] = senders
                if request_id in self._early:
                    self._identify(request_id, self._early.pop(request_id)[0], senders)

    def _identify(self, request_id: str, sender: bytes, present: frozenset[bytes]) -> None:
        # Only if it was seen: another RMW may write a GUID in another way than its endpoints have it.
        if sender in self._senders[request_id] or sender in present:
            self._senders[request_id] = frozenset([sender])

    def forget(self, request_id: str) -> None:
        """Watch no more for a goal that has ended."""
        with self._lock:
            self._senders.pop(request_id, None)
            self._absent_since.pop(request_id, None)

    def abandoned(self) -> list[str]:
        """Return the goals whose sender has been gone for GONE_S. Ask about every second."""
        identified, now = self._identified(), self._clock()
        if not self._senders and not identified:
            return []
        present = self._present()
        with self._lock:
            for request_id, sender in identified.items():
                if request_id in self._senders:
                    self._identify(request_id, sender, present)
                else:  # its goal is just being taken, or has ended
                    self._early[request_id] = sender, now
            self._early = {name: early for name, early in self._early.items() if now - early[1] < EARLY_S}
            for request_id, senders in self._senders.items():
                if senders & present:
                    self._absent_since.pop(request_id, None)
                else:
                    self._absent_since.setdefault(request_id, now)
            return [request_id for request_id, since_s in self._absent_since.items() if now - since_s >= GONE_S]


def programs_with_a_client(node, action: str) -> frozenset[bytes]:
    """Return the programs that have a client of an action of `node` now, each by its GUIDs' first bytes.

    They are those that can send goals. Where the RMW shows no such endpoints (it names services in another way than
    DDS does), they are those that subscribe to the action's feedback, as every action client does.
    """
    requests = f'rq{node.resolve_service_name(f"{action}/_action/send_goal")}Request'
    endpoints = node.get_publishers_info_by_topic(requests, no_mangle=True) or \
        node.get_subscriptions_info_by_topic(f'{action}/_action/feedback')
    return frozenset(bytes(endpoint.endpoint_gid[:PREFIX_BYTES]) for endpoint in endpoints)
