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

"""The picture of `timebill monitor` in a terminal: the node, its promises, its device, and the goals as bars."""
from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from timebill_ros.cli import goal_bar
from timebill_ros.codes import Verdict
from timebill_ros.monitoring import wording
from timebill_ros.monitoring.goal_board import GoalBoard
from timebill_ros.monitoring.wording import Said, Tone

BAR = 'from release to deadline'
HEAD_LINES = 9  # all but the goals
# Columns of a row and their widths; the bar has what is left. A narrow terminal has no room for those of WIDE, and a
# very narrow one shortens the end.
COLUMNS = {'request': 8, 'phase': 9, 'promise': 18, BAR: 0, 'slack s': 7, 'tokens': 9, 'end': 28}
WIDE = ('promise', 'tokens')
WIDE_FROM = 115  # characters
SHORT_END, END_FROM = 16, 75
SHORTEST_BAR, LONGEST_BAR = 12, 60
STYLES = {Tone.PLAIN: '', Tone.FAINT: 'dim', Tone.GOOD: 'green', Tone.WARN: 'yellow', Tone.BAD: goal_bar.LATE,
          Tone.ALARM: 'bold red'}
METER = 24  # characters of the meter of the miss rate
METER_SPAN = 4.0  # its right end, as a multiple of the allowed rate


def picture(server: str, board: GoalBoard, now: float, width: int, height: int, hint: str = '') -> RenderableType:
    """Return what to draw at the monotonic instant `now` in `width` x `height` characters.

    `hint`: a sentence for as long as nothing has been heard of the node.
    """
    if board.stats is None:
        head = [Text(hint, 'yellow')]
    else:
        stats = board.stats
        head = [_node(server, board, now), _text('goals     ', wording.load(stats)), _promises(stats),
                _text('speed     ', wording.speed(stats)), _text('device    ', [wording.device(stats)])]
    lines = [*head, *_legend()]
    for line in lines:
        line.no_wrap, line.overflow = True, 'ellipsis'
    return Group(*lines[:len(head)], Text(), _goals(board, now, width, max(1, height - HEAD_LINES)), *lines[len(head):])


def _text(head: str, said: Iterable[Said]) -> Text:
    """Return a line, or what a cell of the table holds."""
    text = Text(head)
    for words, tone in said:
        text.append(words, STYLES[tone])
    return text


def _node(server: str, board: GoalBoard, now: float) -> Text:
    text = Text(server, 'bold')
    for words, tone in wording.state(board, now):
        text.append(f'  {words}', STYLES[tone])
    return text


def _promises(stats) -> Text:
    """Return misses among promises, with a meter on which the allowed rate has a mark."""
    rate, said = wording.miss_rate(stats), wording.promises(stats)
    style = STYLES[said.tone]
    span = METER_SPAN * rate.allowed or 1.0
    mark = min(METER - 1, int(METER * rate.allowed / span))
    filled = min(METER, max(bool(rate.missed), round(METER * (rate.rate or 0.0) / span)))
    text = Text('promises  ')
    for cell in range(METER):
        inside = '\u2588' if cell < filled else '\u00b7'
        text.append('\u2502' if cell == mark else inside, 'bold white' if cell == mark else style)
    return text.append(f'  {said.text}', style)


def _goals(board: GoalBoard, now: float, width: int, rows: int) -> Table:
    widths = {name: wide for name, wide in COLUMNS.items() if width >= WIDE_FROM or name not in WIDE}
    if width < END_FROM:
        widths['end'] = SHORT_END
    widths[BAR] = min(max(width - sum(wide + 1 for wide in widths.values()), SHORTEST_BAR), LONGEST_BAR)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style='bold')
    for name, wide in widths.items():
        table.add_column(name, no_wrap=True, overflow='ellipsis', width=wide,
                         justify='right' if name in ('slack s', 'tokens') else 'left')
    at_s = board.now_s(now)
    for goal in board.latest(rows):
        m = goal.latest
        cells = {'request': m.request_id[:8], 'phase': wording.phase(goal),
                 'promise': Text(wording.promise(goal), goal_bar.style_of(goal)),
                 BAR: goal_bar.bar(goal, at_s, widths[BAR]), 'slack s': _text('', [wording.slack(goal, at_s)]),
                 'tokens': wording.tokens(goal), 'end': _text('', wording.end(goal))}
        table.add_row(*(cells[name] for name in widths))
    return table


def _legend() -> list[Text]:
    colours = Text()
    for verdict, style in goal_bar.STYLES.items():
        if verdict != Verdict.UNKNOWN:
            colours.append(f'{verdict.name}  ', style)
    signs = (f'{goal_bar.QUEUE} queue  {goal_bar.PREFILL} prefill  {goal_bar.DECODE} decode  '
             f'{goal_bar.DEADLINE} deadline  {goal_bar.EXPECTED} expected end')
    return [Text(signs, 'dim'), colours.append('late or cut', goal_bar.LATE).append('    Ctrl-C ends', 'dim')]
