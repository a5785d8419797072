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

from timebill_ros.codes import Verdict
from timebill_ros.monitoring.goal_board import Goal
from timebill_ros.monitoring.wording import without_bar

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
    if words := without_bar(goal):
        return Text(words, 'dim')
    due = round(width * SHARE)
    begun, decoding, until = (_cell(goal, end_s, due) for end_s in goal.phase_ends(now_s))
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
    expected = _cell(goal, goal.expected_s, due) if goal.expected_s else -1
    if until <= expected < width and not goal.is_over:
        text = text[:expected] + Text(EXPECTED, style) + text[expected + 1:]
    return text


def style_of(goal: Goal) -> str:
    """Return the colour of a goal: its promise, or that it is late or was cut."""
    return LATE if goal.is_missed else STYLES.get(goal.verdict, 'white')


def _cell(goal: Goal, instant_s: float, due: int) -> int:
    """Return how many cells an instant is from the release, which is at least 0."""
    return max(0, round((instant_s - goal.release_s) / goal.budget_s * due))
