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

"""All that the plugin draws at one instant, made of what a `Watch` knows. No Qt."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from timebill_ros.monitoring import wording
from timebill_ros.monitoring.goal_board import Goal, GoalBoard
from timebill_ros.monitoring.wording import Said, Tone
from timebill_ros.rqt.account import account
from timebill_ros.rqt.axes import AXES, Tick
from timebill_ros.rqt.goal_rows import Row, row
from timebill_ros.rqt.plots import Plot, miss_rate_plot, timing_plot
from timebill_ros.rqt.watch import Watch


@dataclass(frozen=True)
class Picture:
    """What is drawn.

    `head`: lines about the node. `rows`: the goals in sight, the latest at the bottom; `hidden`: how many goals are
    above and below them. `account`: of the goal that was clicked, as rows (name, value). `plots`: the miss rate and the
    timing factors; none before the first stats.
    """

    server: str
    head: list[list[Said]]
    rows: list[Row]
    hidden: tuple[int, int]
    axis_title: str
    ticks: list[Tick]
    selected: str
    account: list[tuple[str, str]]
    plots: tuple[Plot, ...]

    def fitting(self, count: int) -> list[Row]:
        """Return the rows that there is room for, where the window has become smaller since."""
        return self.rows[max(0, len(self.rows) - count):]


def picture(watch: Watch, server: str, *, count: int, back: int = 0, axis: str = next(iter(AXES)), selected: str = '',
            hint: str = '') -> Picture:
    """Return what to draw now.

    `count`: how many rows there is room for; `back`: how many of the latest goals are scrolled away; `axis`: a name in
    AXES; `selected`: the request_id of the goal that was clicked; `hint`: a sentence while nothing has been heard.
    """
    board, history, now = watch.shown()
    goals = board.goals()
    back = min(back, most_back(len(goals), count))
    seen = in_sight(board, count, back)
    now_s = board.now_s(now)
    chosen = AXES[axis](seen, now_s)
    points = history.points()
    plots = () if board.stats is None else (miss_rate_plot(points, board.stats, now_s),
                                            timing_plot(points, board.stats, now_s))
    above = len(goals) - len(seen) - back
    head = _head(board, server, now, hint, watch.is_paused)
    return Picture(server, head, [row(goal, chosen, now_s) for goal in seen], (above, back), chosen.title,
                   chosen.ticks(), selected, _account(goals, selected, now_s), plots)


def in_sight(board: GoalBoard, count: int, back: int) -> Sequence[Goal]:
    """Return the goals to draw: the latest, those that are held before all others, or those `back` goals before."""
    if not back:
        return board.latest(count)
    goals = board.goals()
    return goals[max(0, len(goals) - back - count):len(goals) - back]


def most_back(total: int, count: int) -> int:
    """Return how far one can scroll back."""
    return max(0, total - count)


def _head(board: GoalBoard, server: str, now: float, hint: str, is_paused: bool) -> list[list[Said]]:
    paused = [Said('   PAUSED', Tone.ALARM)] if is_paused else []
    if board.stats is None:
        return [[Said(hint or wording.unheard(server), Tone.WARN), *paused]]
    state = [piece for said in wording.state(board, now) for piece in (Said('   '), said)]
    return [[Said(server), *state, *paused], [Said('goals: '), *wording.load(board.stats)],
            [Said('device: '), wording.device(board.stats)]]


def _account(goals: Sequence[Goal], selected: str, now_s: float) -> list[tuple[str, str]]:
    return next((account(goal, now_s) for goal in goals if goal.request_id == selected), [])
