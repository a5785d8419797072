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

"""One goal as a bar against its deadline, in characters of a terminal."""
from __future__ import annotations

from rich.text import Text

from timebill_ros.cli.goal_board import Goal
from timebill_ros.codes import Verdict

QUEUE, PREFILL, DECODE = '\u00b7', '\u2592', '\u2588'  # middle dot, medium shade, full block
DEADLINE, EXPECTED, BEYOND = '\u2502', '\u25c7', '\u203a'  # a line, a diamond, an arrow at the right end
SHARE = 0.75  # of the width up to the deadline; the rest is for what is late
STYLES = {Verdict.UNKNOWN: 'white', Verdict.FITS: 'green', Verdict.FITS_WITH_EVICTION: 'cyan',
          Verdict.AT_RISK: 'yellow', Verdict.INFEASIBLE: 'red'}
LATE = 'red'


def bar(goal: Goal, now_s: float, width: int) -> Text:
    """Return `width` characters: release at the left, the deadline at a fixed place, what has happened up to `now_s`.

    `now_s`: ROS time. Goals of different budgets have the same length up to their deadline.
    """
    budget_s = goal.deadline_s - goal.release_s
    if not goal.release_s or budget_s <= 0:
        return Text('no deadline' if not goal.deadline_s else 'the deadline had passed at the release', 'dim')
    due = round(width * SHARE)
    until = _cell((goal.ended_s or now_s) - goal.release_s, budget_s, due)
    begun = _cell(goal.started_s - goal.release_s, budget_s, due) if goal.started_s else until
    decoding = _cell(goal.decoding_s - goal.release_s, budget_s, due) if goal.decoding_s else until
    style = style_of(goal)
    text = Text()
    for cell in range(width):
        happened = cell < until
        character = ' ' if not happened else QUEUE if cell < begun else PREFILL if cell < decoding else DECODE
        if cell == due and not happened:
            character = DEADLINE
        text.append(character, LATE if happened and cell >= due else style if happened else 'dim')
    if until > width:
        text = text[:width - 1] + Text(BEYOND, LATE)
    expected = _cell(_expected_s(goal) - goal.release_s, budget_s, due) if _expected_s(goal) else -1
    if until <= expected < width and not goal.is_over:
        text = text[:expected] + Text(EXPECTED, style) + text[expected + 1:]
    return text


def style_of(goal: Goal) -> str:
    """Return the colour of a goal: its promise, or that it is late or was cut."""
    return LATE if goal.is_missed else STYLES.get(goal.verdict, 'white')


def _expected_s(goal: Goal) -> float:
    stamp = goal.latest.predicted_finish
    return stamp.sec + stamp.nanosec * 1e-9


def _cell(since_s: float, budget_s: float, due: int) -> int:
    """Return how many cells an instant is from the release, which is at least 0."""
    return max(0, round(since_s / budget_s * due))
