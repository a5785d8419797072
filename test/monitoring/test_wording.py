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

"""What monitors say that the pictures' own tests do not show: how serious it is, and goals that have no bar."""
import pytest
from monitor_messages import START_S, stats, status

from timebill_ros.codes import ErrorCode, Phase
from timebill_ros.monitoring import wording
from timebill_ros.monitoring.goal_board import GoalBoard
from timebill_ros.monitoring.wording import Tone


def goal(*messages):
    board = GoalBoard()
    for message in messages:
        board.take_status(message, 0.0)
    return board.latest(1)[0]


def test_a_node_that_is_silent_or_degraded_is_an_alarm():
    board = GoalBoard()
    board.take_stats(stats(0.0), 0.0)
    assert [tone for _, tone in wording.state(board, 1.0)] == [Tone.GOOD]
    assert [tone for _, tone in wording.state(board, 10.0)] == [Tone.GOOD, Tone.ALARM]
    board.take_stats(stats(0.0, degraded=True, lifecycle_state=2), 0.0)
    assert [tone for _, tone in wording.state(board, 1.0)] == [Tone.WARN, Tone.ALARM]


@pytest.mark.parametrize(('missed', 'tone'), [(1, Tone.GOOD), (5, Tone.WARN), (7, Tone.BAD)])
def test_misses_are_as_serious_as_the_diagnostics_say(missed, tone):
    said = wording.promises(stats(0.0, promised=20, missed=missed))
    assert said.tone == tone and f'{missed} of the last 20' in said.text


def test_a_slack_that_is_gone_is_bad():
    held = goal(status('a', Phase.DECODE, 0.0, budget_s=2.0, slack_s=0.5))
    assert wording.slack(held, START_S + 1.0) == ('0.50', Tone.PLAIN)
    assert wording.slack(held, START_S + 2.5) == ('-0.50', Tone.BAD)  # it has told nothing since
    assert wording.slack(goal(status('a', Phase.DONE, 1.0)), START_S).text == ''


def test_an_end_with_an_error_or_late_is_bad():
    failed = goal(status('a', Phase.DONE, 1.0, error_code=ErrorCode.BUSY, response_time_s=0.25, tardiness_s=0.0))
    assert wording.end(failed) == [('BUSY', Tone.BAD), (' 0.25 s', Tone.PLAIN)]
    late = goal(status('a', Phase.DONE, 1.0, finish_reason=1, overrun=True, response_time_s=2.5, tardiness_s=0.5))
    assert [tone for _, tone in wording.end(late)] == [Tone.BAD, Tone.PLAIN, Tone.BAD]
    assert ''.join(text for text, _ in wording.end(late)) == 'EOS 2.50 s, 0.50 s late'


@pytest.mark.parametrize(('budget_s', 'words'), [(2.0, ''), (0.0, 'no deadline'), (-1.0, 'had passed')])
def test_why_a_goal_has_no_bar(budget_s, words):
    found = wording.without_bar(goal(status('a', Phase.DONE, 0.0, budget_s=budget_s)))
    assert words in found and bool(words) is bool(found)


def test_a_node_that_nobody_has_heard_of_is_named():
    assert '/robot/timebill/stats' in wording.unheard('/robot/timebill')
