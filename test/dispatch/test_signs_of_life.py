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

"""When a silent worker counts as hung: by what it was asked, how long it may compute, and what it said."""
import math

import pytest

from timebill_ros.dispatch.signs_of_life import (
    CHARACTER_S,
    ESTIMATE_S,
    PING_S,
    SECOND_LOOK_S,
    SILENCE_PAUSES,
    SILENCE_S,
    SignsOfLife,
)

RUN = {'op': 'run', 'request': {'prompt': '', 'messages': []}}
PROMPT = 'x' * 100_000


class Watched(SignsOfLife):
    """A worker that is watched on a clock that stands still until a test moves it."""

    def __init__(self, pause_s=0.0):
        self.now = 1000.0
        super().__init__(lambda: self.now)
        self.watch(pause_s)

    def found_after_s(self):
        """Return how long the worker has to be silent from now on until it counts as hung."""
        started = self.now
        while not self.silent_s():
            self.now = self.next_timer_s()
        return self.now - started


@pytest.mark.parametrize(('pause_s', 'question', 'least_s'), [
    (0.0, RUN, SILENCE_S),
    (2.0, RUN, SILENCE_S + SILENCE_PAUSES * 2.0),
    (0.0, {'op': 'ping'}, SILENCE_S),
    (0.0, {'op': 'estimate', 'request': {'prompt': ''}}, SILENCE_S + ESTIMATE_S),
    (0.0, {'op': 'prepare', 'request': {'prompt': PROMPT}}, SILENCE_S + CHARACTER_S * len(PROMPT)),
    (0.0, {'op': 'run', 'request': {'prompt': PROMPT}}, SILENCE_S + CHARACTER_S * len(PROMPT)),
    (0.0, {'op': 'run', 'request': {'messages': [{'role': 'user', 'content': PROMPT}]}},
     SILENCE_S + CHARACTER_S * len(PROMPT)),
])
def test_how_long_it_may_be_silent(pause_s, question, least_s):
    life = Watched(pause_s)
    life.sent(question)
    assert life.found_after_s() == pytest.approx(least_s + SECOND_LOOK_S + 2 * pause_s)


def test_each_message_begins_the_silence_anew():
    life = Watched()
    life.sent(RUN)
    for _ in range(5):
        life.now += SILENCE_S - 0.1
        assert not life.silent_s()
        life.heard({'event': 'alive'})
    assert life.found_after_s() == pytest.approx(SILENCE_S + SECOND_LOOK_S)


def test_a_message_after_the_first_suspicion_clears_it():
    life = Watched()
    life.sent(RUN)
    life.now += 100.0
    assert not life.silent_s()
    life.heard({'event': 'text'})
    assert life.found_after_s() == pytest.approx(SILENCE_S + SECOND_LOOK_S)


@pytest.mark.parametrize('answer', ['done', 'pong', 'estimate'])
def test_one_that_owes_nothing_is_asked_and_not_suspected(answer):
    life = Watched()
    life.sent(RUN)
    life.now += 1.0
    life.heard({'event': answer})
    life.now += PING_S - 0.1
    assert not life.wants_ping() and not life.silent_s()
    life.now += 0.1
    assert life.wants_ping() and not life.silent_s()
    life.sent({'op': 'ping'})
    assert not life.wants_ping()
    assert life.found_after_s() == pytest.approx(SILENCE_S + SECOND_LOOK_S)


def test_one_that_has_become_slower_may_be_silent_for_longer():
    life = Watched(1.0)
    life.heard({'event': 'done', 'tracked': {'timing_factor': 3.0, 'prefill_factor': 2.0}})
    life.sent(RUN)
    assert life.found_after_s() == pytest.approx(SILENCE_S + SILENCE_PAUSES * 3.0 + SECOND_LOOK_S + 2 * 3.0)


def test_one_that_is_not_ready_is_not_watched():
    life = Watched()
    life.sent(RUN)
    life.forget()
    assert life.next_timer_s() == math.inf and not life.wants_ping() and not life.silent_s()
