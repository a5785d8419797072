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

"""Deadlines in simulated time over real DDS: paces, pauses and jumps of /clock while goals run.

Times are judged with wide slack: a wrong clock is off by seconds.
"""
from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from node_client import ABORTED, SUCCEEDED, Result, duration, make_goal, wait_until
from node_process import NodeProcess, scripted
from rosgraph_msgs.msg import Clock as ClockMessage
from scripted_model import LONG
from sim_clock import SimClock

from timebill_ros import settings
from timebill_ros.action import Generate
from timebill_ros.node import translation
from timebill_ros.node.clock_follower import ClockFollower

TIMEOUT_S = 1.0  # parameter clock_timeout_s
SETTLE_S = 1.5  # until a new pace is known
SLACK_S = 1.0  # for goals, renewals and results to travel on a busy machine, which may stall for tenths of seconds


@pytest.fixture(scope='module')
def sim():
    with SimClock() as sim:
        yield sim


@pytest.fixture(scope='module')
def started(sim):
    with NodeProcess(use_sim_time=True, clock_timeout_s=TIMEOUT_S) as node:
        node.start()
        sim.wait_for_subscriber()
        yield node


@pytest.fixture
def node(started, sim):
    """The node, after the clock has run evenly for a while."""
    settle(sim, 1.0)
    yield started
    sim.resume()


def settle(sim: SimClock, factor: float) -> None:
    sim.resume()
    sim.set_factor(factor)
    time.sleep(SETTLE_S)


def endless(sim: SimClock, ahead_s: float, budget_s: float | None = None) -> Generate.Goal:
    """A goal that only its deadline ends, `ahead_s` of simulated time from now."""
    return make_goal(budget_s=budget_s, deadline=translation.stamp(sim.now_s() + ahead_s), max_new_tokens=LONG,
                     overrun_strategy=Generate.Goal.STRATEGY_TRUNCATE)


def ends_after(sent, low_s: float, high_s: float) -> Result:
    """Assert that a goal ends by its deadline, with text, `low_s` to `high_s` after it was sent."""
    status, result = sent.result()
    assert (status, result.finish_reason) == (SUCCEEDED, Result.FINISH_DEADLINE), result
    assert result.text and result.timing.tardiness_s < SLACK_S
    assert low_s <= sent.arrived_s - sent.sent_s <= high_s
    return result


def running(node: NodeProcess, goal: Generate.Goal, for_s: float):
    """Send a goal and wait until it has run for `for_s`."""
    sent = node.send(goal)
    wait_until(lambda: sent.feedback or sent.arrived_s, 10.0)
    assert sent.feedback, f'it ended without a token: {sent.result()}'
    time.sleep(max(0.0, sent.sent_s + for_s - time.monotonic()))
    return sent


# -- the pace --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('factor, ahead_s', [
    (0.3, 0.6), pytest.param(1.0, 2.0, marks=pytest.mark.slow), (3.0, 6.0)])
def test_a_deadline_in_simulated_time_is_met_at_its_pace(started, sim, factor, ahead_s):
    settle(sim, factor)
    real_s = ahead_s / factor
    result = ends_after(started.send(endless(sim, ahead_s)), 0.5 * real_s, 1.1 * real_s + SLACK_S)
    assert result.timing.time_budget_s == pytest.approx(real_s, rel=0.25, abs=0.4)


@pytest.mark.parametrize('factor', [pytest.param(0.3, marks=pytest.mark.slow), 3.0])
def test_a_time_budget_is_in_real_time_at_any_pace(started, sim, factor):
    settle(sim, factor)
    sent = started.send(make_goal(budget_s=1.2, max_new_tokens=LONG))
    result = ends_after(sent, 0.8, 1.2 + SLACK_S)
    assert result.timing.time_budget_s == pytest.approx(1.2)


def test_a_deadline_moves_away_when_the_simulation_slows_down(node, sim):
    sent = running(node, endless(sim, 2.0), 0.5)
    sim.set_factor(0.3)
    ends_after(sent, 4.0, 5.5 + SLACK_S)  # 0.5 s at 1, then 1.5 s at 0.3


def test_a_deadline_comes_nearer_when_the_simulation_speeds_up(started, sim):
    settle(sim, 0.5)
    sent = running(started, endless(sim, 3.0), 0.5)
    sim.set_factor(3.0)
    ends_after(sent, 1.0, 1.4 + SLACK_S)  # 0.5 s at 0.5, then 2.75 s at 3; it would have been 6 s


def test_a_time_budget_bounds_a_deadline_that_moves(node, sim):
    sent = running(node, endless(sim, 2.0, budget_s=3.0), 0.3)
    sim.set_factor(0.1)
    ends_after(sent, 2.5, 3.0 + SLACK_S)  # by its absolute deadline alone it would run for 17 s


# -- pauses ----------------------------------------------------------------------------------------------------------

def test_a_short_pause_that_clock_tells_of_moves_the_deadline_away(node, sim):
    sent = running(node, endless(sim, 1.5), 0.4)
    sim.pause(messages=True)
    time.sleep(0.8)
    sim.resume()
    ends_after(sent, 1.8, 2.3 + SLACK_S)  # without the pause: 1.5 s


def test_a_clock_that_falls_silent_leaves_the_deadline_where_it_was(node, sim):
    sent = running(node, endless(sim, 1.5), 0.4)
    sim.pause(messages=False)
    ends_after(sent, 0.9, 1.5 + SLACK_S)


def test_a_clock_that_goes_on_after_silence_moves_the_deadline_away(node, sim):
    sent = running(node, endless(sim, 2.0), 0.4)
    sim.pause(messages=False)
    time.sleep(0.8)
    sim.resume()
    ends_after(sent, 2.3, 2.8 + SLACK_S)


def test_no_goal_lives_for_ever_because_the_simulation_is_paused(node, sim):
    sent = running(node, endless(sim, 1.5), 0.4)
    sim.pause(messages=True)
    ends_after(sent, 1.8, 1.5 + TIMEOUT_S + SLACK_S)


@pytest.mark.parametrize('messages', [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_goal_released_in_a_long_pause_has_its_time_and_ends(node, sim, messages):
    sim.pause(messages=messages)
    time.sleep(TIMEOUT_S + 0.3)
    ends_after(node.send(endless(sim, 1.2)), 0.7, 1.2 + SLACK_S)


def clock_warnings(node: NodeProcess, since_s: float) -> list[str | None]:
    """What each diagnostics message since then said about /clock; None: nothing wrong."""
    return [status.message if status.level == DiagnosticStatus.WARN and '/clock' in status.message else None
            for came_s, message in list(node.diagnostics) if came_s > since_s
            for status in message.status if status.name == f'{node.server}: deadlines']


def is_degraded(node: NodeProcess) -> bool:
    sent = node.send(make_goal('one'))
    sent.result()
    node.wait_for_phase(sent, 4)
    return [message.degraded for message in node.statuses if message.request_id == sent.id][-1]


def test_status_and_diagnostics_warn_while_the_clock_stands(node, sim):
    assert not is_degraded(node)
    sim.pause(messages=True)
    time.sleep(TIMEOUT_S + 0.3)
    stood_s = time.monotonic()
    assert is_degraded(node)
    warning = wait_until(lambda: [*filter(None, clock_warnings(node, stood_s))], 10.0, 'no warning of a paused clock')
    assert 'stands still' in warning[0]
    wait_until(lambda: any(message.degraded for message in node.statuses if not message.request_id), 10.0,
               'told without being asked')
    settle(sim, 1.0)
    went_on_s = time.monotonic()
    assert not is_degraded(node)
    assert wait_until(lambda: clock_warnings(node, went_on_s), 10.0)[-1] is None
    wait_until(lambda: not [message.degraded for message in node.statuses if not message.request_id][-1], 10.0)


# -- jumps -----------------------------------------------------------------------------------------------------------

def test_a_goal_keeps_its_deadline_when_time_jumps_back_and_later_ones_go_by_the_new_time(node, sim):
    sent = running(node, endless(sim, 1.5), 0.4)
    sim.jump(sim.now_s() - 300.0)
    ends_after(sent, 0.9, 1.5 + SLACK_S)
    ends_after(node.send(endless(sim, 1.2)), 0.8, 1.2 + SLACK_S)
    assert is_degraded(node) or time.monotonic() > sent.sent_s + 0.4 + TIMEOUT_S


def test_a_jump_forward_brings_the_deadline_nearer(node, sim):
    sent = running(node, endless(sim, 50.0), 0.4)
    sim.jump(sim.now_s() + 48.4)
    ends_after(sent, 1.0, 1.6 + SLACK_S)


# -- other nodes -----------------------------------------------------------------------------------------------------

def test_without_a_clock_message_absolute_deadlines_are_invalid_and_budgets_are_served(sim, tmp_path):
    sim.pause(messages=False)
    with scripted(tmp_path, use_sim_time=True) as node:
        node.start()
        status, result = node.ask(make_goal(budget_s=None, deadline=translation.stamp(5.0)))
        assert (status, result.error_code, result.text) == (ABORTED, Result.INVALID_GOAL, '')
        assert '5.000' in result.error_msg and 'no /clock message' in result.error_msg
        status, result = node.ask(make_goal('one', 20.0))
        assert (status, result.text) == (SUCCEEDED, 'two three')
        assert is_degraded(node), 'use_sim_time without a clock is a fault of the setup'
        sim.resume()
        wait_until(lambda: node.ask(endless(sim, 1.0))[0] == SUCCEEDED, 10.0)


def test_by_the_monotonic_clock_a_deadline_is_mapped_once(sim, tmp_path):
    with scripted(tmp_path, use_sim_time=True, deadline_clock='monotonic') as node:
        node.start()
        settle(sim, 1.0)
        # This node may find /clock seconds after it has started: until then it refuses an absolute deadline.
        wait_until(lambda: node.ask(endless(sim, 1.0))[1].finish_reason == Result.FINISH_DEADLINE)
        sent = running(node, endless(sim, 3.0), 0.4)
        sim.set_factor(0.1)
        ends_after(sent, 2.4, 3.0 + SLACK_S)


# -- the follower by itself --------------------------------------------------------------------------------------------

class StandIn:
    """The part of a node that the follower uses; the test sets its ROS time."""

    def __init__(self, *, use_sim_time: bool):
        self.use_sim_time, self.now_s = use_sim_time, 1.7e9

    def get_parameter(self, name):
        assert name == 'use_sim_time'
        return SimpleNamespace(value=self.use_sim_time)

    def get_clock(self):
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=int(self.now_s * 1e9)))


@pytest.mark.parametrize('step_s', [-3600.0, 3600.0])
def test_a_step_of_the_systems_clock_moves_no_deadline(step_s):
    system, renewed = StandIn(use_sim_time=False), []
    defaults = settings.check({'model': 'any'})
    follower = ClockFollower(system, defaults, lambda *mapping: renewed.append(mapping))

    def request(goal):  # as the server does at release
        absolute_s = translation.seconds(goal.deadline)
        return translation.to_request(goal, 'ab' * 16, release_s=50.0, deadline_in_s=follower.left_s(absolute_s),
                                      settings=defaults, margin_s=0.0, model_sampling={})

    absolute = request(Generate.Goal(prompt='one', deadline=translation.stamp(1.7e9 + 2.0)))
    budget = request(Generate.Goal(prompt='one', time_budget=duration(3.0), deadline=translation.stamp(1.7e9 + 9.0)))
    system.now_s += step_s
    assert not follower.moves and not renewed
    assert absolute.deadline_s == pytest.approx(52.0, abs=1e-5) and budget.deadline_s == pytest.approx(53.0)
    assert follower.left_s(1.7e9 + 2.0) == pytest.approx(2.0 - step_s, abs=1e-5), 'goals to come go by the new time'


def test_a_renewal_that_is_late_knows_nothing_of_a_jump_after_it(monkeypatch):
    simulated, renewed = StandIn(use_sim_time=True), []
    monkeypatch.setattr(ClockFollower, '_listen', lambda self: None)
    follower = ClockFollower(simulated, settings.check({'model': 'any'}), lambda *mapping: renewed.append(mapping))
    follower._on_clock(ClockMessage(clock=translation.stamp(500.0)))
    (instant, epoch), came_s = renewed[0], time.monotonic()
    follower._on_clock(ClockMessage(clock=translation.stamp(2.0)))
    assert (epoch, instant(510.0)) == (0, pytest.approx(came_s + 10.0, abs=1.0)), 'not 508 s ahead'
