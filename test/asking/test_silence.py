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

"""A node counts as silent once it has been heard, and only by time in which the client itself receives."""
import pytest

from timebill_ros.asking.silence import ROUND_S, SILENT_S, Silence


class Listener:
    """A silence by a clock of the test's own."""

    def __init__(self):
        self.now_s = 100.0
        self.silence = Silence(lambda: self.now_s)

    def receive(self, seconds: float, round_s: float = 0.1) -> None:
        """Look for messages, one round after another, and find none."""
        for _ in range(round(seconds / round_s)):
            self.now_s += round_s
            self.silence.pass_round()


def test_a_node_that_is_not_heard_any_more_is_silent():
    listener = Listener()
    listener.silence.on_stats()
    listener.receive(SILENT_S - 0.2)
    assert not listener.silence.is_long
    listener.receive(0.4)
    assert listener.silence.is_long and listener.silence.seconds == pytest.approx(SILENT_S + 0.2)
    listener.silence.on_stats()
    assert not listener.silence.is_long, 'it is back'


def test_whatever_comes_of_the_node_is_a_sign_of_life():
    listener = Listener()
    listener.silence.on_stats()
    for _ in range(5):
        listener.receive(SILENT_S - 0.2)
        listener.silence.end()
        assert not listener.silence.is_long


def test_a_node_that_was_never_heard_is_not_silent():
    listener = Listener()
    listener.silence.end()
    listener.receive(10 * SILENT_S)
    assert not listener.silence.is_long, 'it may have no such topic'


def test_a_pause_of_the_client_itself_is_no_silence():
    listener = Listener()
    listener.silence.on_stats()
    listener.receive(3600.0, round_s=3600.0)  # what came meanwhile is taken in the next round
    assert listener.silence.seconds == ROUND_S
