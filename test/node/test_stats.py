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

"""What ~/stats says: never NaN, the last known values, and at once to whoever comes late."""
from __future__ import annotations

import math
import types

import pytest
import rclpy
from builtin_interfaces.msg import Time
from node_client import make_goal, wait_until
from node_process import scripted
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from scripted_model import LONG

from timebill_ros.codes import FinishReason, Verdict
from timebill_ros.dispatch.recent_goals import RecentGoals
from timebill_ros.dispatch.worker_facts import WorkerFacts
from timebill_ros.msg import DeadlineStats
from timebill_ros.node.stats import FRESH_S, STATES, Stats
from timebill_ros.request import Outcome, Timing

NOW_S = 1000.0
LATE = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def job(left_s=5.0, worst_s=math.nan, tokens_per_s=None, waits=False):
    return types.SimpleNamespace(waits=waits, tokens_per_s=tokens_per_s, remaining_s=lambda now: (0.0, worst_s),
                                 request=types.SimpleNamespace(deadline_s=NOW_S + left_s))


def dispatcher(*held, **facts):
    return types.SimpleNamespace(counts={'accepted': 3, 'answered_onboard': 2, 'answered_offboard': 1},
                                 settings={'miss_rate': 0.1}, recent=RecentGoals(), onboard_s=0.75,
                                 tier=types.SimpleNamespace(state=1, running=2, asked=4, seconds=0.5),
                                 held=lambda: list(held), facts=WorkerFacts('Abacus', **facts))


def check(message: DeadlineStats) -> DeadlineStats:
    doubles = [name for name, kind in message.get_fields_and_field_types().items() if kind == 'double']
    assert len(doubles) == 11 and all(math.isfinite(getattr(message, name)) for name in doubles)
    return message


@pytest.mark.parametrize('state', STATES)
def test_without_a_model_there_is_the_state_and_no_nan(state):
    message = check(Stats().report(state, None, False, NOW_S))
    assert message.lifecycle_state == STATES[state]
    flags = [name for name in message.get_fields_and_field_types() if name.endswith('_is_current')]
    assert len(flags) == 5 and not any(getattr(message, flag) for flag in flags)
    assert (message.timing_factor, message.running, message.device) == (1.0, 0, '')


def test_a_model_that_is_loaded_is_a_state_too():
    assert Stats().report('unconfigured', dispatcher(), False, NOW_S).lifecycle_state == message_state('CONFIGURING')
    assert Stats().report('inactive', dispatcher(), False, NOW_S).lifecycle_state == message_state('INACTIVE')


def message_state(name: str) -> int:
    return getattr(DeadlineStats, f'STATE_{name}')


def test_goals_slack_and_speed_stay_as_last_known():
    stats, busy = Stats(), [job(5.0, 2.0, 30.0), job(9.0, waits=True)]
    served = dispatcher()
    served.held = lambda: busy
    message = check(stats.report('active', served, True, NOW_S))
    assert (message.running, message.waiting, message.accepted, message.degraded) == (1, 1, 3, True)
    assert (message.smallest_slack_s, message.smallest_slack_is_current) == (3.0, True)
    assert (message.tokens_per_second, message.tokens_per_second_is_current) == (30.0, True)
    busy.clear()
    message = check(stats.report('active', served, False, NOW_S))
    assert (message.running, message.smallest_slack_s, message.smallest_slack_is_current) == (0, 3.0, False)
    assert (message.tokens_per_second, message.tokens_per_second_is_current) == (30.0, False)
    served.recent.observe(Outcome(text='a', finish_reason=FinishReason.EOS, timing=Timing(
        generated_tokens=10, decode_s=0.5)), NOW_S)
    message = stats.report('active', served, False, NOW_S)
    assert (message.tokens_per_second, message.tokens_per_second_is_current) == (20.0, False)
    assert stats.report('active', dispatcher(), False, NOW_S).tokens_per_second == 0.0  # another model


def test_promises_and_misses_of_the_window():
    stats, served = Stats(), dispatcher()
    assert check(stats.report('active', served, False, NOW_S)).miss_rate_allowed == 0.1
    for reason in (FinishReason.EOS, FinishReason.DEADLINE):
        served.recent.observe(Outcome(text='a', finish_reason=reason, timing=Timing(verdict=Verdict.FITS)), NOW_S)
    message = check(stats.report('active', served, False, NOW_S))
    assert (message.promised, message.missed, message.miss_rate, message.miss_rate_is_current) == (2, 1, 0.5, True)
    message = check(stats.report('active', served, False, NOW_S + message.window_s + 1))
    assert (message.promised, message.missed, message.miss_rate, message.miss_rate_is_current) == (0, 0, 0.5, False)


def test_both_tiers():
    message = check(Stats().report('active', dispatcher(), False, NOW_S))
    assert (message.onboard_answered, message.offboard_answered, message.offboard_asked) == (2, 1, 4)
    assert (message.offboard_state, message.offboard_running) == (DeadlineStats.OFFBOARD_ASKED, 2)
    assert (message.onboard_s, message.offboard_s) == (0.75, 0.5)
    assert Stats().report('unconfigured', None, False, NOW_S).offboard_state == DeadlineStats.OFFBOARD_NONE


def test_the_device_where_it_can_be_read():
    stats = Stats()
    served = dispatcher(device_state={'memory_used': 3, 'memory_total': 8}, device_state_s=NOW_S)
    message = check(stats.report('active', served, False, NOW_S + FRESH_S))
    assert (message.device, message.device_memory_used, message.device_memory_total) == ('Abacus', 3, 8)
    assert message.device_memory_used_is_current and not message.device_temperature_is_current
    served.facts.device_state = {'memory_used': 4, 'memory_total': 8, 'temperature': 61.5}
    message = stats.report('active', served, False, NOW_S + FRESH_S)
    assert (message.device_temperature, message.device_temperature_is_current) == (61.5, True)
    message = check(stats.report('active', served, False, NOW_S + FRESH_S + 1))  # a long goal: nothing was read since
    assert (message.device_memory_used, message.device_memory_used_is_current) == (4, False)
    assert (message.device_temperature, message.device_temperature_is_current) == (61.5, False)


def test_factors_are_those_of_the_worker_and_never_nan():
    served = dispatcher(tracked={'timing_factor': 1.5, 'prefill_factor': math.nan, 'time_bound': 1.2, 'unusual': False})
    message = check(Stats().report('active', served, False, NOW_S))
    assert (message.timing_factor, message.prefill_factor, message.time_bound) == (1.5, 1.0, 1.2)


class Listener:
    """Subscribes to a node's stats when it is made, and keeps what it hears."""

    def __init__(self, topic: str):
        self.heard: list[DeadlineStats] = []
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node('listener', context=self._context)
        self._node.create_subscription(DeadlineStats, topic, self.heard.append, LATE)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)

    def hear(self, condition):
        def look():
            self._executor.spin_once(0.1)
            return condition()

        return wait_until(look)

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


def test_over_dds(tmp_path):
    with scripted(tmp_path, start_s=1.5) as node:  # long enough to be heard configuring at 2 Hz
        listener = Listener(f'{node.server}/stats')
        try:
            listener.hear(lambda: listener.heard)
            assert listener.heard[0].lifecycle_state == DeadlineStats.STATE_UNCONFIGURED
            node.start()
            states = listener.hear(lambda: {m.lifecycle_state for m in listener.heard}.issuperset(
                {DeadlineStats.STATE_CONFIGURING, DeadlineStats.STATE_ACTIVE}))
            assert states and not listener.heard[-1].degraded
            sent = node.send(make_goal(max_new_tokens=LONG))
            waiting = node.send(make_goal(max_new_tokens=1))
            found = listener.hear(lambda: next((m for m in listener.heard if m.running and m.waiting and
                                                m.tokens_per_second_is_current), None))
            assert (found.running, found.waiting, found.smallest_slack_is_current) == (1, 1, True)
            assert found.smallest_slack_s < 60 and found.tokens_per_second > 0  # at a high load it is negative
            assert found.device and found.device_memory_total > found.device_memory_used > 0
            place = next(m for m in node.statuses if m.request_id == waiting.id)
            assert (place.queue_position, place.priority, place.strategy, place.time_budget_s) == (1, 0, 3, 60.0)
            assert 0 <= place.header.stamp.sec - place.release.sec < 60
            assert place.deadline.sec - place.release.sec in (59, 60, 61)
            sent.cancel()
            assert listener.hear(lambda: any(m.promised for m in listener.heard))
            for message in listener.heard:
                check(message)
        finally:
            listener.close()


def test_a_refused_goal_has_all_that_it_named(node):
    late = node.send(make_goal(deadline=Time(sec=5), priority=9, overrun_strategy=1, budget_s=None))
    status = wait_until(lambda: next((m for m in node.statuses if m.request_id == late.id), None))
    assert status.deadline.sec + status.deadline.nanosec * 1e-9 == pytest.approx(5.0, abs=0.01)
    assert (status.priority, status.strategy) == (9, 1)
    assert status.time_budget_s == 0 and -30 < status.slack_s < 0, 'a deadline that had passed leaves no time'
    assert 0 < status.tardiness_s == status.response_time_s < 30, 'and the answer to that is late since its release'
    assert abs(status.header.stamp.sec - status.release.sec) <= 5 and (status.wcet_s, status.eviction_ratio) == (0, 0)
