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

"""A goal as a bar: what has happened by when, against the deadline."""
import pytest
from monitor_messages import START_S, status

from timebill_ros.cli.goal_bar import BEYOND, DEADLINE, DECODE, EXPECTED, LATE, PREFILL, QUEUE, STYLES, bar
from timebill_ros.codes import Phase, Verdict
from timebill_ros.monitoring.goal_board import GoalBoard

WIDTH = 40  # the deadline is at 30, so that a budget of 3 s has 10 characters a second


def goal(*told, **fields):
    """A goal of which the board was told [(phase, at_s), ...]."""
    board = GoalBoard()
    for phase, at_s in told:
        board.take_status(status('a', phase, at_s, budget_s=3.0, **fields), 0.0)
    return board.latest(1)[0]


def drawn(goal, now_s: float):
    text = bar(goal, START_S + now_s, WIDTH)
    assert len(text) == WIDTH
    return text


RUNS = ((Phase.QUEUED, 0.0), (Phase.PREFILL, 0.5), (Phase.DECODE, 1.0))


@pytest.mark.parametrize(('told', 'now_s', 'expected'), [
    (RUNS[:1], 0.5, QUEUE * 5),
    (RUNS[:2], 0.8, QUEUE * 5 + PREFILL * 3),
    (RUNS, 2.0, QUEUE * 5 + PREFILL * 5 + DECODE * 10),
    ((*RUNS, (Phase.DONE, 1.5)), 9.0, QUEUE * 5 + PREFILL * 5 + DECODE * 5),
    (((Phase.QUEUED, 0.0), (Phase.DONE, 1.0)), 9.0, QUEUE * 10),  # it never started
    (((Phase.DONE, 0.0),), 9.0, ''),  # refused at once
    (((Phase.QUEUED, 0.0), (Phase.PREFILL, 0.5), (Phase.DONE, 1.0)), 9.0, QUEUE * 5 + PREFILL * 5),
])
def test_what_has_happened_fills_the_bar(told, now_s, expected):
    text = drawn(goal(*told), now_s)
    assert text.plain == (expected.ljust(30) + DEADLINE).ljust(WIDTH)


def test_what_is_late_is_beyond_the_deadline_and_red():
    text = drawn(goal(*RUNS, overrun=True), 3.5)
    assert text.plain == (QUEUE * 5 + PREFILL * 5 + DECODE * 25).ljust(WIDTH)
    assert drawn(goal(*RUNS), 9.0).plain.endswith(DECODE + BEYOND)
    assert {span.style for span in drawn(goal(*RUNS), 9.0).spans if span.start >= 30} == {LATE}


def test_the_expected_end_is_marked_until_it_is_there():
    assert drawn(goal(*RUNS, expected_s=2.5), 2.0).plain.index(EXPECTED) == 25
    assert EXPECTED not in drawn(goal(*RUNS, (Phase.DONE, 2.0), expected_s=2.5), 2.0).plain
    assert EXPECTED not in drawn(goal(*RUNS, expected_s=1.5), 2.0).plain  # it takes longer than that


@pytest.mark.parametrize('verdict', STYLES)
def test_the_promise_is_the_colour(verdict):
    text = drawn(goal(*RUNS, verdict=verdict), 2.0)
    assert text.spans[0].style == STYLES[verdict] and text.plain[0] == QUEUE


def test_goals_of_different_budgets_have_their_deadline_at_the_same_place():
    for budget_s in (0.1, 3.0, 600.0):
        board = GoalBoard()
        board.take_status(status('a', Phase.QUEUED, 0.0, budget_s=budget_s), 0.0)
        assert bar(board.latest(1)[0], START_S, WIDTH).plain.index(DEADLINE) == 30


@pytest.mark.parametrize(('budget_s', 'words'), [(0.0, 'no deadline'), (-1.0, 'had passed')])
def test_a_goal_without_time_has_words_for_a_bar(budget_s, words):
    board = GoalBoard()
    board.take_status(status('a', Phase.DONE, 0.0, budget_s=budget_s, verdict=Verdict.INFEASIBLE), 0.0)
    assert words in bar(board.latest(1)[0], START_S, WIDTH).plain
