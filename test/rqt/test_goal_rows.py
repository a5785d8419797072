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

"""A goal as a row: parts of the bar, marks, words."""
import pytest
from monitor_messages import START_S, status

from timebill_ros.codes import Phase, Verdict
from timebill_ros.monitoring.goal_board import GoalBoard
from timebill_ros.rqt.axes import SHARE, budget_axis
from timebill_ros.rqt.geometry import BAR, COLUMNS
from timebill_ros.rqt.goal_rows import length, row, time_of_day

RUNS = ((Phase.QUEUED, 0.0), (Phase.PREFILL, 0.5), (Phase.DECODE, 1.0))


def row_of(*told, now_s, budget_s=4.0, **fields):
    board = GoalBoard()
    for phase, at_s in told:
        board.take_status(status('a' * 32, phase, at_s, budget_s=budget_s, **fields), 0.0)
    goals = board.goals()
    return row(goals[0], budget_axis(goals, START_S + now_s), START_S + now_s)


def parts(found):
    """(phase, begin, end) in seconds of a budget of 4 s, and whether it is late."""
    return [(part.phase, *(round(place / SHARE * 4.0, 3) for place in (part.begin, part.end)), part.is_late)
            for part in found.parts]


def test_what_has_happened_is_the_bar():
    assert parts(row_of(*RUNS, now_s=3.0)) == [
        (Phase.QUEUED, 0.0, 0.5, False), (Phase.PREFILL, 0.5, 1.0, False), (Phase.DECODE, 1.0, 3.0, False)]
    assert parts(row_of(*RUNS, (Phase.DONE, 2.0), now_s=9.0))[-1] == (Phase.DECODE, 1.0, 2.0, False)
    assert parts(row_of((Phase.QUEUED, 0.0), now_s=1.0)) == [(Phase.QUEUED, 0.0, 1.0, False)]
    assert parts(row_of((Phase.DONE, 0.0), now_s=1.0)) == []


def test_what_is_beyond_the_deadline_is_late():
    assert parts(row_of(*RUNS, now_s=5.0))[-2:] == [(Phase.DECODE, 1.0, 4.0, False), (Phase.DECODE, 4.0, 5.0, True)]
    found = row_of(*RUNS, now_s=50.0, overrun=True)
    assert found.is_beyond and found.is_missed and found.parts[-1].end == 1.0
    assert not row_of(*RUNS, now_s=5.0).is_beyond


def test_expected_end_and_worst_case_are_marked_while_they_are_to_come():
    found = row_of(*RUNS, now_s=2.0, expected_s=3.0, slack_s=0.5)
    assert found.expected == pytest.approx(SHARE * 3 / 4) and found.worst == pytest.approx(SHARE * 3.5 / 4)
    assert row_of(*RUNS, now_s=2.0, slack_s=-0.5).worst == pytest.approx(SHARE * 4.5 / 4)
    assert row_of(*RUNS, now_s=2.0, slack_s=-9.0).worst == 1.0  # out of sight
    past = row_of(*RUNS, now_s=3.75, expected_s=3.0, slack_s=0.5)
    assert past.expected is None and past.worst is None
    over = row_of(*RUNS, (Phase.DONE, 2.0), now_s=2.0, expected_s=3.0, slack_s=0.0)
    assert over.expected is None and over.worst is None


def test_a_goal_without_time_has_words():
    assert row_of((Phase.DONE, 0.0), now_s=0.0, budget_s=0.0).words == 'no deadline'


def test_every_column_has_a_cell():
    found = row_of(*RUNS, now_s=2.0, verdict=Verdict.FITS, slack_s=0.5, generated_tokens=3, predicted_tokens=9)
    assert set(found.cells) == set(COLUMNS) - {BAR}
    cells = {name: ''.join(piece.text for piece in said) for name, said in found.cells.items()}
    assert (cells['request'], cells['budget'], cells['promise'], cells['slack'], cells['tokens'], cells['state']) == (
        'a' * 8, '4.00 s', 'FITS', '0.50', '3/9', 'decode')
    late = row_of(*RUNS, now_s=5.0, overrun=True)
    assert ''.join(piece.text for piece in late.cells['state']) == 'decode, late'


@pytest.mark.parametrize(('seconds', 'words'), [(0.0, '-'), (12.34, '12.3 s'), (1_700_000_000.0, ':')])
def test_simulated_time_is_no_time_of_day(seconds, words):
    assert words in time_of_day(seconds)


@pytest.mark.parametrize(('seconds', 'words'), [(0.125, '0.12 s'), (12.34, '12.3 s'), (120.0, '120 s')])
def test_lengths_take_few_characters(seconds, words):
    assert length(seconds) == words
