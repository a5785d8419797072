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

"""Where instants lie: deadlines above one another, or all goals on one axis of time."""
import pytest
from monitor_messages import START_S, status

from timebill_ros.codes import Phase
from timebill_ros.monitoring.goal_board import GoalBoard
from timebill_ros.rqt.axes import AXES, MOST_STEPS, SHARE, budget_axis, clock_axis, step


def goals(*messages):
    board = GoalBoard()
    for message in messages:
        board.take_status(message, 0.0)
    return board.goals()


@pytest.mark.parametrize('budget_s', [0.1, 2.0, 600.0])
def test_deadlines_of_all_budgets_are_at_the_same_place(budget_s):
    (goal,) = goals(status('a', Phase.QUEUED, 0.0, budget_s=budget_s))
    axis = budget_axis([goal], START_S)
    places = [axis.place(goal, goal.release_s + share * budget_s) for share in (-1.0, 0.0, 0.5, 1.0)]
    assert places == pytest.approx([0.0, 0.0, SHARE / 2, SHARE], abs=1e-6)
    assert {tick.label: tick.place for tick in axis.ticks()}['deadline'] == SHARE


def test_an_axis_of_time_begins_with_the_first_release_and_shows_now():
    axis = clock_axis(goals(status('a', Phase.DONE, 2.0), status('b', Phase.DECODE, 5.0, release_s=3.0)), START_S + 10)
    assert axis.place_of(START_S) == 0.0 and axis.place_of(START_S + 10) == pytest.approx(SHARE)
    ticks = {tick.label: tick.place for tick in axis.ticks()}
    assert ticks['now'] == pytest.approx(SHARE) and ticks['-10 s'] == pytest.approx(0.0, abs=1e-6)
    assert all(0.0 <= place <= 1.0 + 1e-6 for place in ticks.values())


def test_an_axis_of_time_ends_with_the_last_goal_where_none_is_held():
    axis = clock_axis(goals(status('a', Phase.DONE, 2.0)), START_S + 1000)
    assert axis.end_s == pytest.approx(START_S + 2.0) and 'the last end' in axis.title


@pytest.mark.parametrize('axis', AXES.values())
@pytest.mark.parametrize('shown', [[], goals(status('a', Phase.DONE, 0.0, budget_s=0.0)),
                                   goals(status('a', Phase.DONE, 0.0))])
def test_goals_without_length_do_no_harm(axis, shown):
    assert axis(shown, START_S).ticks()


@pytest.mark.parametrize(('span', 'distance'), [(6.0, 1.0), (6.1, 2.0), (30.0, 5.0), (31.0, 10.0), (0.5, 0.1),
                                                (700, 200)])
def test_labels_are_at_round_numbers(span, distance):
    assert step(span) == pytest.approx(distance) and span / step(span) <= MOST_STEPS + 1e-9
