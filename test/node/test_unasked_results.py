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

"""Goals whose result nobody asks for: told once, and not where the client has asked, early or late."""
from timebill_ros.node.unasked_results import KEPT_S, WAIT_S, UnaskedResults


class FakeClock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_a_goal_that_nobody_asks_for_is_told_once():
    clock = FakeClock()
    unasked = UnaskedResults(clock)
    unasked.accept('lost')
    clock.now += WAIT_S / 2
    unasked.accept('later')
    assert unasked.overdue() == []
    clock.now += WAIT_S / 2
    assert unasked.overdue() == ['lost'] and unasked.overdue() == []
    clock.now += WAIT_S / 2
    assert unasked.overdue() == ['later']


def test_a_goal_that_is_asked_for_is_not_told():
    clock = FakeClock()
    unasked = UnaskedResults(clock)
    unasked.accept('after')
    unasked.ask('after')
    unasked.ask('before')  # its client had the acceptance sooner than this hears of it
    unasked.accept('before')
    clock.now += WAIT_S
    assert unasked.overdue() == []


def test_what_is_asked_for_again_is_forgotten():
    clock = FakeClock()
    unasked = UnaskedResults(clock)
    unasked.accept('one')
    for _ in range(2):
        unasked.ask('one')
    assert unasked._asked
    clock.now += KEPT_S
    assert unasked.overdue() == [] and not unasked._asked
