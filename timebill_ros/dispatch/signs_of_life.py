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

"""Tells a worker that hangs from one that computes or has nothing to do.

A worker that owes an answer shows life with everything it sends: text while it decodes, and while it reads a prompt
how often prefill has looked at the request's control (worker/streamer.py). Both come from counters that the computation
itself advances, so a worker whose computation hangs falls silent although its other threads live. A worker that owes
nothing is asked from time to time; its main thread answers.
"""
from __future__ import annotations

import math

from timebill_ros.deadline import Clock

# The worker counts as hung when it owes an answer and says nothing for
# SILENCE_S + SILENCE_PAUSES * (the longest time for which it computes without looking up) + an allowance for the task.
# SILENCE_S leaves room for a disk on which the worker saves what it learned, and for other programs.
SILENCE_S = 4.0
SILENCE_PAUSES = 5
# And once more silent for this long and for two pauses: this process may have stood still itself, with messages unread.
SECOND_LOOK_S = 0.25
PING_S = 2.0  # an idle worker is asked this long after its last message
CHARACTER_S = 2e-5  # allowance for each character of a prompt, because tokenizing a long one may take seconds
ESTIMATE_S = 5.0  # allowance for an estimate, which may wait for a length prediction

# What the worker is sent and owes an answer to, and what answers. It serves one after the other.
QUESTIONS = ('run', 'estimate', 'prepare', 'ping')
ANSWERS = ('done', 'estimate', 'prepared', 'pong')


class SignsOfLife:
    """Watches one worker after another. It has no thread: the supervisor tells it of messages and asks it in time."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._slower = 1.0  # how many times longer than profiled the worker has seen its work take
        self.forget()

    def forget(self) -> None:
        """Watch nothing: there is no worker, or one that is still loading."""
        self._is_on = False
        self._n_owed = 0  # questions that were sent and not answered yet
        self._allowance_s = 0.0
        self._heard_s = self._clock()  # when the worker said something, or was first asked
        self._suspected_s = math.inf  # when the silence was noticed

    def watch(self, longest_pause_s: float) -> None:
        """Watch a worker that is ready and looks up at least every `longest_pause_s`."""
        self.forget()
        self._pause_s = longest_pause_s
        self._is_on = True

    def sent(self, message: dict) -> None:
        """Take note of a message to the worker."""
        if message['op'] not in QUESTIONS:
            return
        if not self._n_owed:
            self._heard_s, self._allowance_s = self._clock(), 0.0
        self._n_owed += 1
        self._allowance_s = max(self._allowance_s, _allowance_s(message))

    def heard(self, event: dict) -> None:
        """Take note of a message from the worker."""
        self._heard_s, self._suspected_s = self._clock(), math.inf
        if event['event'] in ANSWERS:
            self._n_owed = max(0, self._n_owed - 1)
        tracked = event.get('tracked')
        if isinstance(tracked, dict):
            self._slower = max(1.0, tracked.get('timing_factor', 1.0), tracked.get('prefill_factor', 1.0))

    def next_timer_s(self) -> float:
        """Return the instant at which `wants_ping` or `silent_s` has to be asked next."""
        if not self._is_on:
            return math.inf
        if not self._n_owed:
            return self._heard_s + PING_S
        pause_s = self._pause_s * self._slower
        if self._suspected_s < math.inf:
            return self._suspected_s + SECOND_LOOK_S + 2 * pause_s
        return self._heard_s + SILENCE_S + SILENCE_PAUSES * pause_s + self._allowance_s

    def wants_ping(self) -> bool:
        """Whether an idle worker is to be asked now whether it lives."""
        return not self._n_owed and self._clock() >= self.next_timer_s()

    def silent_s(self) -> float:
        """Return the seconds for which a worker that hangs has been silent; 0 while it does not count as hung."""
        now = self._clock()
        if not self._n_owed or now < self.next_timer_s():
            return 0.0
        if self._suspected_s < math.inf:
            return now - self._heard_s
        self._suspected_s = now
        return 0.0


def _allowance_s(question: dict) -> float:
    """Return the seconds for which the worker may be silent in addition, because of what it is asked."""
    request = question.get('request', {})
    characters = len(request.get('prompt', '')) + sum(len(m.get('content', '')) for m in request.get('messages', []))
    return characters * CHARACTER_S + (ESTIMATE_S if question['op'] == 'estimate' else 0.0)
