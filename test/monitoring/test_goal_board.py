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

"""What a monitor remembers of goals, and what time the node has."""
import pytest
from monitor_messages import START_S, stats, status

from timebill_ros.codes import Phase, Verdict
from timebill_ros.monitoring.goal_board import REMEMBERED, SILENT_S, GoalBoard


def test_a_goal_has_the_instants_of_its_phases():
    board = GoalBoard()
    for phase, at_s, verdict in ((Phase.QUEUED, 0.5, 0), (Phase.PREFILL, 0.75, 0), (Phase.PREFILL, 1.0, 1),
                                 (Phase.DECODE, 1.25, 1), (Phase.DECODE, 1.5, 3), (Phase.DONE, 2.0, 3)):
        board.take_status(status('a', phase, at_s, release_s=0.5, verdict=verdict), at_s)
    (goal,) = board.latest(9)
    since = [instant - START_S for instant in (
        goal.release_s, goal.started_s, goal.decoding_s, goal.ended_s, goal.deadline_s)]
    assert since == pytest.approx([0.5, 0.75, 1.25, 2.0, 2.5]) and goal.is_over
    assert goal.verdict == Verdict.FITS and goal.latest.verdict == Verdict.AT_RISK


def test_a_goal_that_goes_straight_to_its_end_never_started():
    board = GoalBoard()
    board.take_status(status('a', Phase.DONE, 0.25), 0.0)
    (goal,) = board.latest(9)
    assert (goal.started_s, goal.decoding_s, goal.is_over) == (0.0, 0.0, True)


def test_a_message_about_no_request_tells_of_the_node_alone():
    board = GoalBoard()
    board.take_status(status('', 0, 1.0, degraded=True), 0.0)
    assert board.degraded and not board.latest(9)
    board.take_stats(stats(2.0), 1.0)
    assert not board.degraded and board.stats_heard_s == 1.0


@pytest.mark.parametrize(('count', 'names'), [(9, 'abcd'), (3, 'acd'), (2, 'ad'), (1, 'd'), (0, '')])
def test_goals_that_are_held_are_shown_before_those_that_are_over(count, names):
    board = GoalBoard()
    for name, phase in (('a', Phase.DECODE), ('b', Phase.DONE), ('c', Phase.DONE), ('d', Phase.QUEUED)):
        board.take_status(status(name, phase, 0.0), 0.0)
    assert ''.join(goal.request_id for goal in board.latest(count)) == names


def test_old_goals_are_forgotten():
    board = GoalBoard()
    for number in range(REMEMBERED + 5):
        board.take_status(status(str(number), Phase.DONE, 0.0), 0.0)
    shown = board.latest(10 ** 6)
    assert len(shown) == REMEMBERED and shown[0].request_id == '5'


def test_the_nodes_time_goes_on_between_messages_and_stands_still_with_simulated_time():
    board = GoalBoard()
    assert board.now_s(100.0) == 0.0
    board.take_stats(stats(5.0), 100.0)
    assert board.now_s(100.25) == pytest.approx(START_S + 5.25)
    assert board.now_s(200.0) == pytest.approx(START_S + 5.0 + SILENT_S)
    board.take_stats(stats(5.0), 200.0)  # the simulation pauses
    assert board.now_s(200.0) == pytest.approx(START_S + 5.0)


@pytest.mark.parametrize(('told', 'ends'), [
    ([(Phase.QUEUED, 0.0)], (1.5, 1.5, 1.5)),
    ([(Phase.PREFILL, 0.5)], (0.5, 1.5, 1.5)),
    ([(Phase.PREFILL, 0.5), (Phase.DECODE, 1.0)], (0.5, 1.0, 1.5)),
    ([(Phase.PREFILL, 0.5), (Phase.DECODE, 1.0), (Phase.DONE, 1.25)], (0.5, 1.0, 1.25)),
    ([(Phase.DONE, 0.25)], (0.25, 0.25, 0.25)),  # it never started
])
def test_phases_end_when_the_next_one_begins_or_the_goal_ends_or_now(told, ends):
    board = GoalBoard()
    for phase, at_s in told:
        board.take_status(status('a', phase, at_s), 0.0)
    found = board.latest(1)[0].phase_ends(START_S + 1.5)
    assert [instant - START_S for instant in found] == pytest.approx(ends)


def test_a_goal_tells_its_budget_and_when_it_may_end():
    board = GoalBoard()
    board.take_status(status('a', Phase.DECODE, 1.0, budget_s=3.0, expected_s=2.0, slack_s=0.5), 0.0)
    goal = board.latest(1)[0]
    assert [goal.budget_s, goal.expected_s - START_S, goal.worst_s - START_S] == pytest.approx([3.0, 2.0, 2.5])
    board.take_status(status('b', Phase.QUEUED, 1.0, budget_s=3.0), 0.0)
    goal = board.latest(1)[0]
    assert (goal.request_id, goal.expected_s, goal.worst_s) == ('b', 0.0, 0.0)


def test_a_snapshot_stays_as_it_is():
    board = GoalBoard()
    board.take_status(status('a', Phase.PREFILL, 0.0), 0.0)
    board.take_stats(stats(0.0, running=1), 0.0)
    kept = board.snapshot()
    board.take_status(status('a', Phase.DONE, 1.0), 1.0)
    board.take_status(status('b', Phase.QUEUED, 1.0), 1.0)
    board.take_stats(stats(1.0), 1.0)
    assert [(goal.request_id, goal.is_over) for goal in kept.goals()] == [('a', False)]
    assert kept.stats.running == 1 and kept.now_s(0.0) == pytest.approx(START_S)
    assert len(board.goals()) == 2
