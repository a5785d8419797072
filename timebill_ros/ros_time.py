"""Where simulated ROS time lies on the monotonic clock, learned from /clock messages. Pure: no rclpy.

The mapping is renewed with each message: its pace is that of the last second of messages, its offset that of the
message which arrived with the least delay (messages come late by some jitter, never early). A goal's deadline in ROS
time moves with it, under these rules:

- ROS time stands still and /clock says so: the deadline moves away with real time, but for `timeout_s` at most.
- /clock stands still for longer, or no message comes at all: the last mapping holds, and the deadline is met in real
  time. No goal lives for ever because a simulation was paused.
- ROS time jumps back: goals held keep the instants that they have (a new `epoch` begins); the pace is kept.
- ROS time jumps forward: deadlines come nearer by the jump; the pace is kept.
"""
from __future__ import annotations

import math
import time
from collections import deque

from timebill_ros.deadline import Clock

WINDOW_S = 1.0  # of messages whose pace is measured
MOST_MESSAGES = 64  # kept of a window: /clock may come at 1 kHz
LEAST_S = 0.2  # a pace measured over less is not believed
BACK_S = 0.005  # going back by less is rounding
FORWARD_S = 1.0  # a jump, where it is also FORWARD_TIMES as much as the pace explains
FORWARD_TIMES = 10.0
SLOWEST, FASTEST = 0.01, 100.0  # bounds of the pace


class RosTime:
    """`observe` is called from one thread; what the others read is replaced as a whole."""

    def __init__(self, timeout_s: float, clock: Clock = time.monotonic):
        self._timeout_s, self._clock = timeout_s, clock
        self.epoch = 0
        self.factor = 1.0  # simulated seconds per real second
        self._window: deque[tuple[float, float]] = deque(maxlen=MOST_MESSAGES)  # (ROS time, arrival)
        self._anchor: tuple[float, float, float] | None = None  # ROS time, the instant when it was that, pace
        self._last = (-math.inf, -math.inf)  # the newest ROS time, and when it had last advanced
        self._jumped_s = -math.inf

    def observe(self, ros_s: float) -> None:
        """A /clock message has just arrived."""
        if not (math.isfinite(ros_s) and ros_s >= 0):
            return
        now = self._clock()
        before_s, advanced_s = self._last
        step_s = ros_s - before_s
        if step_s < -BACK_S and self._anchor is not None:
            self.epoch += 1
            self._jumped_s = now
            self._restart(ros_s, now)
        elif step_s > FORWARD_S and step_s > FORWARD_TIMES * self.factor * (now - self._window[-1][1]
                                                                            if self._window else math.inf):
            self._restart(ros_s, now)
        elif step_s <= 0:
            if now - advanced_s <= self._timeout_s:  # it stands still: so does its distance from now
                self._restart(max(ros_s, before_s), now)
            return
        elif self._window and self._window[-1][0] == before_s and now - advanced_s > WINDOW_S:
            self._restart(ros_s, now)  # it goes on after a pause, which says nothing of its pace
        else:
            self._renew(ros_s, now)
        self._last = (ros_s, now)

    def _restart(self, ros_s: float, now: float) -> None:
        self._window.clear()
        self._window.append((ros_s, now))
        self._anchor = (ros_s, now, self.factor)

    def _renew(self, ros_s: float, now: float) -> None:
        window = self._window
        if len(window) < 2 or now - window[-1][1] >= WINDOW_S / MOST_MESSAGES:
            window.append((ros_s, now))
        while len(window) > 2 and now - window[0][1] > WINDOW_S:
            window.popleft()
        first_ros_s, first_s = window[0]
        if now - first_s >= LEAST_S:
            self.factor = min(max((ros_s - first_ros_s) / (now - first_s), SLOWEST), FASTEST)
        # The message that came with the least delay puts ROS time at its earliest.
        earliest_s = min(at_s + (ros_s - then_s) / self.factor for then_s, at_s in [*window, (ros_s, now)])
        self._anchor = (ros_s, earliest_s, self.factor)

    @property
    def state(self) -> str:
        """'none': no message ever; 'stopped': no advance for `timeout_s`; 'jumped': back, lately; else 'live'."""
        now = self._clock()
        if self._anchor is None:
            return 'none'
        if now - self._last[1] > self._timeout_s:
            return 'stopped'
        return 'jumped' if now - self._jumped_s < self._timeout_s else 'live'

    def instant(self, ros_deadline_s: float) -> float | None:
        """The monotonic instant of a ROS time by the newest mapping; None where the last instant given holds."""
        anchor = self._anchor
        if anchor is None or self._clock() - self._last[1] > self._timeout_s:
            return None
        ros_s, at_s, pace = anchor
        return at_s + (ros_deadline_s - ros_s) / pace

    def left_s(self, ros_deadline_s: float) -> float | None:
        """Real seconds from now to a ROS time, at the pace of now; None without any message.

        Where ROS time stands still it is as far away as if it went on now: a goal that is released then has its time.
        """
        anchor, now = self._anchor, self._clock()
        if anchor is None:
            return None
        ros_s, at_s, pace = anchor
        if now - self._last[1] > self._timeout_s:
            at_s = now
        return at_s + (ros_deadline_s - ros_s) / pace - now
