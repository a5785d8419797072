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

"""The delivery margin follows a path that became slower, and never locks short goals out for good."""
import pytest

from timebill_ros.codes import ErrorCode, FinishReason
from timebill_ros.dispatch.delivery_margin import MOST_S, DeliveryMargin
from timebill_ros.request import Outcome, Request

FLOOR_S = 0.03


class Deliveries:
    """A margin on a clock that stands still until the test moves it, and goals that are refused or delivered."""

    def __init__(self):
        self.now = 1000.0
        self.margin = DeliveryMargin(lambda: self.now)

    @property
    def value_s(self):
        return self.margin.value_s(FLOOR_S)

    def send(self, budget_s, delivery_s=0.002, least_s=0.02, every_s=0.3):
        """Send one goal whose shortest answer takes `least_s`; return whether it was refused."""
        self.now += every_s
        request = Request('goal', self.now, self.now + budget_s, prompt='hi', delivery_margin_s=self.value_s)
        refused = budget_s - request.delivery_margin_s < least_s
        self.margin.ended(request, Outcome(ErrorCode.INFEASIBLE, 'why', '', FinishReason.ERROR) if refused else
                          Outcome(text='x', finish_reason=FinishReason.EOS), FLOOR_S)
        if not refused:
            self.margin.observe(delivery_s)
        return refused


@pytest.fixture
def deliveries():
    return Deliveries()


@pytest.mark.parametrize('before', [0, 1, 5, 100])
@pytest.mark.parametrize('n_stalled', [1, 2])
@pytest.mark.parametrize('budget_s', [0.24, 0.25])
def test_after_a_stall_at_most_two_short_goals_are_refused(deliveries, before, n_stalled, budget_s):
    for _ in range(before):
        deliveries.send(2.0)
    for _ in range(n_stalled):
        deliveries.send(2.0, delivery_s=0.4)
    refused = [deliveries.send(budget_s) for _ in range(50)]
    assert sum(refused) <= 2 and not any(refused[2:])


@pytest.mark.parametrize('every_s', [0.05, 1.0, 8.0])
def test_a_path_that_became_slower_is_followed_within_ten_goals_and_forgotten_within_30_s(deliveries, every_s):
    for _ in range(100):
        deliveries.send(10.0, every_s=every_s)
    assert deliveries.value_s == FLOOR_S
    for _ in range(10):
        deliveries.send(10.0, delivery_s=0.102, every_s=every_s)
    assert deliveries.value_s > 0.1
    for _ in range(100):
        deliveries.send(10.0, delivery_s=0.102, every_s=every_s)
    assert deliveries.value_s > 0.1
    over_s = deliveries.now
    while deliveries.now - over_s < 30.0:
        deliveries.send(10.0, every_s=every_s)
    assert deliveries.value_s == FLOOR_S


def test_time_alone_makes_the_margin_forget(deliveries):
    for _ in range(64):
        deliveries.send(10.0, delivery_s=0.2, every_s=0.01)
    assert deliveries.value_s == 0.2
    deliveries.now += 30.0
    assert deliveries.value_s == FLOOR_S


def test_goals_too_short_for_a_slow_path_are_tried_now_and_then_and_take_nothing_from_long_ones(deliveries):
    for _ in range(64):
        deliveries.send(10.0, delivery_s=0.2, every_s=0.01)
    refused = [deliveries.send(0.21, delivery_s=0.2, every_s=0.1) for _ in range(100)]
    assert 0.6 < sum(refused) / len(refused) < 0.95, 'tried, but most of them cannot be delivered'
    for _ in range(20):
        deliveries.send(10.0, delivery_s=0.2, every_s=0.1)
        assert deliveries.send(0.21, delivery_s=0.2, every_s=0.1)
    assert deliveries.value_s == 0.2


@pytest.mark.parametrize(('code', 'budget_s', 'margin_s'), [
    (ErrorCode.NONE, 0.24, 0.2),  # answered
    (ErrorCode.BUSY, 0.24, 0.2),  # refused for another reason
    (ErrorCode.INFEASIBLE, 10.0, 0.2),  # too little for its prompt, with or without the margin
    (ErrorCode.INFEASIBLE, 0.02, 0.2),  # less than the parameter
    (ErrorCode.INFEASIBLE, 0.04, FLOOR_S),  # nothing was learned
])
def test_only_a_goal_refused_because_of_the_learned_margin_ages_it(deliveries, code, budget_s, margin_s):
    for _ in range(2):
        deliveries.margin.observe(0.2)
    request = Request('goal', 0.0, budget_s, prompt='hi', delivery_margin_s=margin_s)
    outcome = Outcome(text='x', finish_reason=FinishReason.EOS)
    if code:
        outcome = Outcome(code, 'why', '', FinishReason.ERROR)
    for _ in range(20):
        deliveries.margin.ended(request, outcome, FLOOR_S)
    assert deliveries.value_s == 0.2


@pytest.mark.parametrize(('floor_s', 'value_s'), [(0.03, MOST_S), (0.5, 0.5)])
def test_it_is_bounded_by_what_is_worth_learning_and_by_the_parameter(deliveries, floor_s, value_s):
    for _ in range(5):
        deliveries.margin.observe(0.4)
    assert deliveries.margin.value_s(floor_s) == value_s
