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

"""What the plugin knows of the node that it shows: messages as they arrive, and the standstill of a pause. No Qt."""
from __future__ import annotations

import time
from collections import deque

from timebill_ros.monitoring.goal_board import GoalBoard
from timebill_ros.rqt.stats_history import StatsHistory

MOST_ARRIVED = 10_000  # messages between two looks: whoever never looks must not grow


class Watch:
    """One node. `hear_status` and `hear_stats` may be called by any thread, all else by one thread.

    `clock`: returns seconds of the monotonic clock.
    """

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._board, self._history = GoalBoard(), StatsHistory()
        self._arrived: deque = deque(maxlen=MOST_ARRIVED)  # a deque's append and popleft need no lock
        self._shown: tuple[GoalBoard, StatsHistory, float] | None = None  # while it is paused

    def hear_status(self, m) -> None:
        """Keep a RequestStatus for `take_arrived`."""
        self._arrived.append((self._take_status, m, self._clock()))

    def hear_stats(self, m) -> None:
        """Keep a DeadlineStats for `take_arrived`."""
        self._arrived.append((self._take_stats, m, self._clock()))

    def take_arrived(self) -> bool:
        """Take note of what has arrived; return whether there was anything."""
        has_news = bool(self._arrived)
        while self._arrived:
            take, m, heard_s = self._arrived.popleft()
            take(m, heard_s)
        return has_news

    @property
    def is_paused(self) -> bool:
        return self._shown is not None

    def pause(self) -> None:
        """Show what is known now until `resume`. Messages are taken note of meanwhile."""
        if self._shown is None:
            self._shown = self._board.snapshot(), self._history.snapshot(), self._clock()

    def resume(self) -> None:
        """Show what goes on again."""
        self._shown = None

    def shown(self) -> tuple[GoalBoard, StatsHistory, float]:
        """Return what to show: goals, the stats of the last minutes, and the monotonic instant that they are of."""
        return self._shown or (self._board, self._history, self._clock())

    @property
    def moves(self) -> bool:
        """Whether what is shown changes as time passes: a goal is held."""
        return not self.is_paused and any(not goal.is_over for goal in self._board.goals())

    def _take_status(self, m, heard_s: float) -> None:
        self._board.take_status(m, heard_s)

    def _take_stats(self, m, heard_s: float) -> None:
        self._board.take_stats(m, heard_s)
        self._history.take(m)
