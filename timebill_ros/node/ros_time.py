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

"""Maps simulated ROS time to the monotonic clock, learned from /clock messages. Pure: no rclpy.

A message arrives late by some jitter, never early. So the mapping is the line that lies before every arrival of about
the last second and is closest to these arrivals. Its slope is the pace: simulated seconds per real second. Each message
renews the mapping, and a goal's deadline in ROS time moves with it, under these rules:

- ROS time stands still and /clock says so: the deadline moves away with real time, but for `timeout_s` at most.
- ROS time stands still for longer, or no message comes at all: the last mapping holds, and the deadline is met in real
  time. No goal lives for ever because a simulation was paused.
- ROS time waits for a slow simulator's next step, for less than some steps took: that is no pause.
- ROS time goes on after a pause: the pace before the pause is used until a new one has been measured.
- ROS time jumps back: goals held keep the instants that they have (a new `epoch` begins); the pace is kept.
- ROS time jumps forward, by more than a second and ten times what the pace explains: deadlines come nearer by the
  jump; the pace is kept.
- NaN, infinite and negative times are ignored, and the pace is bounded to [0.01, 100].
"""
from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from timebill_ros.deadline import Clock

WINDOW_S = 1.25  # the pace is measured on the messages of this long
BIN_S = 0.0125  # one message is kept per bin of this length, because /clock may come at 1 kHz
LEAST_S = 0.75  # the pace is not measured over less than this
STANDING_S = 0.1  # ROS time repeated for less is not a pause: some simulators publish faster than they step
STEPS = 5  # the last steps, whose usual length tells a pause from the wait for the next one
# A silence longer than GAP_S, and than GAP_TIMES the usual distance between messages, is no jitter.
GAP_S = 0.3
GAP_TIMES = 4.0
BACK_S = 0.005  # a step back by less is rounding
# A step longer than FORWARD_S, and than FORWARD_TIMES what the pace explains, is a jump forward.
FORWARD_S = 1.0
FORWARD_TIMES = 10.0
LATEST_S = 2.0 ** 32  # more than a message can hold
SLOWEST, FASTEST = 0.01, 100.0  # bounds of the pace


class Mapping(NamedTuple):
    """At the monotonic instant `at_s` ROS time is `ros_s` and goes on at `pace`. Valid within its `epoch`."""

    ros_s: float
    at_s: float
    pace: float
    epoch: int

    def instant(self, ros_s: float) -> float:
        return self.at_s + (ros_s - self.ros_s) / self.pace


class RosTime:
    """Learns the mapping. One thread calls `observe`; what other threads read is replaced as a whole."""

    def __init__(self, timeout_s: float, clock: Clock = time.monotonic):
        self._timeout_s, self._clock = timeout_s, clock
        self.epoch = 0  # counts jumps back
        self.factor = 1.0  # the pace; while ROS time stands still, the last known
        self._window: deque[tuple[float, float]] = deque()  # (ROS time, arrival)
        self._mapping: Mapping | None = None
        self._last = (-math.inf, -math.inf)  # (the newest ROS time, the instant at which it last advanced)
        self._jumped_s = -math.inf
        self._steps: deque[float] = deque(maxlen=STEPS)  # seconds between instants at which ROS time advanced

    def observe(self, ros_s: float) -> None:
        """Learn from a /clock message that has just arrived."""
        if not 0 <= ros_s < LATEST_S:
            return
        now = self._clock()
        before_s, advanced_s = self._last
        step_s = ros_s - before_s
        if step_s < -BACK_S:
            self.epoch += 1
            self._jumped_s = now
            self._restart(ros_s, now)
        elif step_s <= 0:
            if max(STANDING_S, GAP_TIMES * self._usual_step_s()) <= now - advanced_s <= self._timeout_s:
                self._restart(before_s, now)  # ROS time stands still, so a deadline keeps its distance from now
            return
        elif self._window and self._breaks_off(step_s, now):
            self._restart(ros_s, now)
        else:
            self._renew(ros_s, now)
        if before_s >= 0:
            self._steps.append(now - advanced_s)
        self._last = (ros_s, now)

    def _usual_step_s(self) -> float:
        return median(self._steps) if len(self._steps) == STEPS else 0.0

    def _breaks_off(self, step_s: float, now: float) -> bool:
        """Whether a message is a jump forward, or ends a silence in which ROS time may have stood still."""
        window = self._window
        silent_s = now - window[-1][1]
        apart_s = (window[-1][1] - window[0][1]) / (len(window) - 1) if len(window) > 1 else self._timeout_s
        return silent_s > max(GAP_S, GAP_TIMES * apart_s) or \
            step_s > max(FORWARD_S, FORWARD_TIMES * self.factor * silent_s)

    def _restart(self, ros_s: float, now: float) -> None:
        self._window.clear()
        self._window.append((ros_s, now))
        self._mapping = Mapping(ros_s, now, self.factor, self.epoch)

    def _renew(self, ros_s: float, now: float) -> None:
        window, mapping = self._window, self._mapping
        starts_bin = len(window) < 2 or now // BIN_S > window[-1][1] // BIN_S
        if not starts_bin and now >= mapping.instant(ros_s):
            return  # arrived later than others of its bin, so it tells nothing
        if not starts_bin:
            window.pop()
        window.append((ros_s, now))
        while len(window) > 2 and now - window[0][1] > WINDOW_S:
            window.popleft()
        if now - window[0][1] >= LEAST_S:
            self.factor = min(max(_pace(window), SLOWEST), FASTEST)
        # The message with the least delay puts ROS time earliest, and that one is right.
        earliest_s = min(at_s + (ros_s - then_s) / self.factor for then_s, at_s in window)
        self._mapping = Mapping(ros_s, earliest_s, self.factor, self.epoch)

    @property
    def state(self) -> str:
        """'none': no message ever; 'stopped': no advance for `timeout_s`; 'jumped': back, lately; otherwise 'live'."""
        now = self._clock()
        if self._mapping is None:
            return 'none'
        if now - self._last[1] > self._timeout_s:
            return 'stopped'
        return 'jumped' if now - self._jumped_s < self._timeout_s else 'live'

    def mapping(self) -> Mapping | None:
        """Return a snapshot: later /clock messages do not change it.

        None without any message, or where ROS time has stood still for more than `timeout_s`: deadlines then stay at
        the instants that they were given last.
        """
        return None if self._clock() - self._last[1] > self._timeout_s else self._mapping

    def left_s(self, ros_deadline_s: float) -> float | None:
        """Return the real seconds from now to a ROS time, at the present pace; None without any message.

        Where ROS time stands still, they are counted as if it went on now, so that a goal released then has its time.
        """
        mapping, now = self._mapping, self._clock()
        if mapping is None:
            return None
        if now - self._last[1] > self._timeout_s:
            return (ros_deadline_s - mapping.ros_s) / mapping.pace
        return mapping.instant(ros_deadline_s) - now


def _pace(window: Iterable[tuple[float, float]]) -> float:
    """Return the slope, in ROS seconds per second of arrival, of the line that lies before every arrival.

    Of all such lines it is the closest in the middle of the window. It is an edge of the lower convex hull of arrivals
    over ROS time, which a delay of single messages does not move.
    """
    hull: list[tuple[float, float]] = []
    for x, y in window:
        while len(hull) > 1 and (hull[-1][1] - hull[-2][1]) * (x - hull[-2][0]) >= \
                (y - hull[-2][1]) * (hull[-1][0] - hull[-2][0]):
            hull.pop()
        hull.append((x, y))
    middle_s = (hull[0][1] + hull[-1][1]) / 2
    (x0, y0), (x1, y1) = next((a, b) for a, b in pairwise(hull) if b[1] >= middle_s)
    return (x1 - x0) / (y1 - y0)
