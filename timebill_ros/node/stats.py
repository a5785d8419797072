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

"""What ~/stats says, twice a second: the node counts, a timer reports. No field is ever NaN."""
from __future__ import annotations

import math
import time

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from timebill_ros.dispatch.load import Load, load_of
from timebill_ros.dispatch.recent_goals import WINDOW_S
from timebill_ros.msg import DeadlineStats
from timebill_ros.node import qos_overrides

PERIOD_S = 0.5
FRESH_S = 5.0  # a reading of the device counts as current for so long; an idle worker reads it every 2 s
STATES = {'unconfigured': DeadlineStats.STATE_UNCONFIGURED, 'inactive': DeadlineStats.STATE_INACTIVE,
          'active': DeadlineStats.STATE_ACTIVE, 'finalized': DeadlineStats.STATE_FINALIZED}
# For whoever comes late: the latest message is kept.
QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class LastKnown:
    """Values that may be unknown for a while: each is kept until the next one is known."""

    def __init__(self):
        self._values: dict[str, float] = {}

    def fill(self, message, name: str, value: float | None) -> None:
        """Set the field `name` to `value`, or to the last known one where that is None or NaN; set its flag too."""
        is_current = value is not None and math.isfinite(value)
        if is_current:
            self._values[name] = value
        setattr(message, f'{name.removesuffix("_s")}_is_current', is_current)
        if name in self._values:
            setattr(message, name, self._values[name])

    def forget(self) -> None:
        self._values.clear()


class Stats:
    """Makes the messages. `report` is called by one thread at a time."""

    def __init__(self):
        self._known = LastKnown()
        self._dispatcher = None  # whose values are known

    def report(self, state: str, dispatcher, degraded: bool, now: float) -> DeadlineStats:
        """Return how the node is doing at the monotonic instant `now`; `dispatcher` is None while unconfigured."""
        if dispatcher is not self._dispatcher:  # another model, maybe another device
            self._known.forget()
            self._dispatcher = dispatcher
        message = DeadlineStats(lifecycle_state=STATES[state], degraded=degraded, window_s=WINDOW_S,
                                timing_factor=1.0, prefill_factor=1.0, time_bound=1.0)
        load = Load()
        if dispatcher is not None:
            if state == 'unconfigured':
                message.lifecycle_state = DeadlineStats.STATE_CONFIGURING
            load = load_of(dispatcher.held(), now)
            self._add_counts(message, dispatcher, now)
            self._add_facts(message, dispatcher.facts, now)
        message.running, message.waiting = load.running, load.waiting
        self._known.fill(message, 'smallest_slack_s', load.smallest_slack_s)
        self._known.fill(message, 'tokens_per_second', load.tokens_per_s)
        return message

    def _add_counts(self, message: DeadlineStats, dispatcher, now: float) -> None:
        recent = dispatcher.recent
        rate = recent.miss_rate(now, dispatcher.settings['miss_rate'])
        counts, tier = dispatcher.counts, dispatcher.tier
        message.accepted = counts['accepted']
        message.onboard_answered, message.offboard_answered = counts['answered_onboard'], counts['answered_offboard']
        message.offboard_state, message.offboard_running, message.offboard_asked = tier.state, tier.running, tier.asked
        message.onboard_s, message.offboard_s = dispatcher.onboard_s, tier.seconds
        message.promised, message.missed, message.miss_rate_allowed = rate.promised, rate.missed, rate.allowed
        self._known.fill(message, 'miss_rate', rate.rate)
        self._known.fill(message, 'tokens_per_second', recent.tokens_per_s)  # the flag is set by what runs now

    def _add_facts(self, message: DeadlineStats, facts, now: float) -> None:
        for name in ('timing_factor', 'prefill_factor', 'time_bound'):
            value = facts.tracked.get(name, 1.0)
            setattr(message, name, value if math.isfinite(value) else 1.0)
        message.device = facts.device
        state = facts.device_state if now - facts.device_state_s <= FRESH_S else {}
        used = state.get('memory_used')
        message.device_memory_total = int(facts.device_state.get('memory_total', 0))
        self._known.fill(message, 'device_memory_used', None if used is None else int(used))
        self._known.fill(message, 'device_temperature', state.get('temperature'))


class StatsPublisher:
    """Publishes `report()`, a DeadlineStats, every PERIOD_S on `~/stats`, whatever state the node is in."""

    def __init__(self, node, report, callback_group: CallbackGroup):
        self._node, self._report = node, report
        self._publisher = node.create_publisher(DeadlineStats, '~/stats', QOS,
                                                qos_overriding_options=qos_overrides.OPTIONS)
        # In real time: simulated time may stand still.
        node.create_timer(PERIOD_S, self.publish, callback_group=callback_group,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self) -> None:
        """Publish once."""
        message = self._report(time.monotonic())
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
