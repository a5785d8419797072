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

"""Robots that ask one server, as a queue: who gets an answer by its deadline, and from where.

Questions of a fleet come as a Poisson process. The server has a number of places and serves who came first (M/G/c); a
robot's own model answers one question at a time. Service times are given for each kind of question. numpy is all that
is needed.
"""
from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np

MOST_PAUSE = 64  # longest pause of a robot that the server has failed, in mean times between its questions


@dataclass(frozen=True)
class Kind:
    """A kind of question. Seconds: `server_s` of the server alone; on board, reading takes `read_s` of `onboard_s`."""

    server_s: float
    onboard_s: float
    read_s: float


@dataclass(frozen=True)
class Policy:
    """What robots do. `asks`: they ask the server; `cancels`: they close the connection at the deadline.

    `answers`: their own model answers beside it. `backs_off`: a robot that the server has failed asks its own model
    alone for a while, twice as long with each failure in a row.
    """

    name: str
    asks: bool = True
    cancels: bool = True
    answers: bool = False
    backs_off: bool = False


POLICIES = (
    Policy('server alone, never canceled', cancels=False),
    Policy('server alone, canceled at the deadline'),
    Policy('server, and on board beside it', answers=True),
    Policy('the same, and robots back off', answers=True, backs_off=True),
    Policy('on board alone', asks=False, answers=True),
)


@dataclass
class Shares:
    """Of all questions: answered by the server in time, whole on board in time, cut on board, not at all."""

    questions: int = 0
    server: int = 0
    onboard: int = 0
    cut: int = 0
    nothing: int = 0
    asked: int = 0  # of the server

    def row(self) -> dict:
        """Return the counts as shares, NaN without questions. `on_time`: a whole answer in time, from wherever."""
        n = self.questions or math.nan
        return {'questions': self.questions, 'on_time': (self.server + self.onboard) / n, 'server': self.server / n,
                'onboard': self.onboard / n, 'cut': self.cut / n, 'nothing': self.nothing / n, 'asked': self.asked / n}


def arrivals(robots: int, period_s: float, seconds: float, kinds: int,
             rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return when questions come in `seconds`, of which robot, and of which kind. Each robot: one in `period_s`."""
    n = rng.poisson(robots * seconds / period_s)
    return np.sort(rng.uniform(0.0, seconds, n)), rng.integers(robots, size=n), rng.integers(kinds, size=n)


def simulate(kinds: list[Kind], policy: Policy, *, robots: int, places: int, deadline_s: float, period_s: float,
             network_s: float, seconds: float, seed: int = 0) -> Shares:
    """Return what becomes of the questions of `seconds`, the first tenth left out: the queue begins empty.

    `network_s`: to the server and back. The same seed gives the same questions, whatever the policy.
    """
    times, who, what = arrivals(robots, period_s, seconds, len(kinds), np.random.default_rng(seed))
    chance = np.random.default_rng([seed, 1])
    server = [0.0] * places  # when each place is free, as a heap
    own = [0.0] * robots  # when each robot's model is free
    asks_from, pause = [0.0] * robots, [0.0] * robots
    shares = Shares()
    for at_s, robot, index in zip(times.tolist(), who.tolist(), what.tolist(), strict=True):
        kind, due_s = kinds[index], at_s + deadline_s
        answered_s = float('inf')
        asked = policy.asks and at_s >= asks_from[robot]
        if asked:
            answered_s = _ask_server(server, at_s, due_s, kind.server_s, network_s, policy.cancels)
            if policy.backs_off:
                _back_off(asks_from, pause, robot, at_s, answered_s <= due_s, period_s, chance)
        whole = cut = False
        if policy.answers:
            start_s = max(at_s, own[robot])
            done_s = start_s + kind.onboard_s
            whole, cut = done_s <= due_s, start_s + kind.read_s < due_s
            own[robot] = max(start_s, min(done_s, due_s, answered_s))  # the server's answer ends it
        if at_s >= 0.1 * seconds:
            shares.questions += 1
            shares.asked += asked
            if answered_s <= due_s:
                shares.server += 1
            elif whole:
                shares.onboard += 1
            elif cut:
                shares.cut += 1
            else:
                shares.nothing += 1
    return shares


def _ask_server(server: list[float], at_s: float, due_s: float, takes_s: float, network_s: float,
                cancels: bool) -> float:
    """Return when the answer is there, infinity where it was given up before the server began."""
    start_s = max(at_s + network_s / 2, server[0])
    if cancels and start_s >= due_s:
        return float('inf')
    done_s = start_s + takes_s
    heapq.heapreplace(server, min(done_s, due_s) if cancels else done_s)
    return done_s + network_s / 2


def _back_off(asks_from: list[float], pause: list[float], robot: int, at_s: float, was_in_time: bool, period_s: float,
              chance: np.random.Generator) -> None:
    """Have a robot ask again later after a failure, sooner the more often it succeeds."""
    if was_in_time:
        pause[robot] /= 2
    else:
        pause[robot] = min(max(2 * pause[robot], period_s), MOST_PAUSE * period_s)
        asks_from[robot] = at_s + pause[robot] * chance.uniform(0.5, 1.5)
