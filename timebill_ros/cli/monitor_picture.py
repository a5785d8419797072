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

import math

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from timebill_ros.cli import goal_bar
from timebill_ros.cli.ending import name_of
from timebill_ros.cli.goal_board import Goal, GoalBoard
from timebill_ros.codes import ErrorCode, FinishReason, Phase, Verdict
from timebill_ros.dispatch.miss_rate import Level, MissRate

BAR = 'from release to deadline'
HEAD_LINES = 9  # all but the goals
# Columns of a row and their widths; the bar has what is left. A narrow terminal has no room for those of WIDE, and a
# very narrow one shortens the end.
COLUMNS = {'request': 8, 'phase': 9, 'promise': 18, BAR: 0, 'slack s': 7, 'tokens': 9, 'end': 28}
WIDE = ('promise', 'tokens')
WIDE_FROM = 115  # characters
SHORT_END, END_FROM = 16, 75
SHORTEST_BAR, LONGEST_BAR = 12, 60
SILENT_S = 3.0  # a node that has said nothing for so long is reported
# As in lifecycle_msgs/State, and in DeadlineStats.
STATES = {1: 'unconfigured', 2: 'inactive', 3: 'active', 4: 'finalized', 10: 'configuring'}
LEVELS = {Level.OK: 'green', Level.WARN: 'yellow', Level.ERROR: 'red'}
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
        head = [_node(server, board, now), _load(stats), _promises(stats), _speed(stats), _device(stats)]
    lines = [*head, *_legend()]
    for line in lines:
        line.no_wrap, line.overflow = True, 'ellipsis'
    return Group(*lines[:len(head)], Text(), _goals(board, now, width, max(1, height - HEAD_LINES)), *lines[len(head):])


def _node(server: str, board: GoalBoard, now: float) -> Text:
    stats = board.stats
    text = Text(server, 'bold').append(f'  {STATES.get(stats.lifecycle_state, "in an unknown state")}',
                                       'green' if stats.lifecycle_state == 3 else 'yellow')
    silent_s = now - board.stats_heard_s
    if silent_s > SILENT_S:
        text.append(f'  nothing heard for {silent_s:.0f} s: it has ended, or the connection is lost', 'bold red')
    elif board.degraded:
        text.append('  degraded: see /diagnostics', 'bold red')
    return text


def _load(stats) -> Text:
    text = Text(f'goals     {stats.running} running, {stats.waiting} waiting, {stats.accepted} accepted')
    if stats.smallest_slack_is_current:
        text.append(f'; smallest slack {stats.smallest_slack_s:.2f} s', '' if stats.smallest_slack_s > 0 else 'red')
    return text


def _promises(stats) -> Text:
    """Return misses among promises, with a meter on which the allowed rate has a mark."""
    rate = MissRate(stats.promised, stats.missed, stats.miss_rate_allowed)
    style = LEVELS[rate.level]
    span = METER_SPAN * rate.allowed or 1.0
    mark = min(METER - 1, int(METER * rate.allowed / span))
    filled = min(METER, max(bool(rate.missed), round(METER * (rate.rate or 0.0) / span)))
    text = Text('promises  ')
    for cell in range(METER):
        inside = '\u2588' if cell < filled else '\u00b7'
        text.append('\u2502' if cell == mark else inside, 'bold white' if cell == mark else style)
    return text.append(f'  {rate}', style)


def _device(stats) -> Text:
    text = Text(f'device    {stats.device or "not known yet"}')
    if stats.device_memory_total:
        text.append(f', {stats.device_memory_used / 2 ** 30:.1f} of {stats.device_memory_total / 2 ** 30:.1f} GiB used')
    if stats.device_temperature_is_current:
        text.append(f', {stats.device_temperature:.0f} \u00b0C')
    return text


def _speed(stats) -> Text:
    text = Text(f'speed     steps take {stats.timing_factor:.2f} and prefill {stats.prefill_factor:.2f} times as long '
                'as profiled')
    if stats.tokens_per_second:
        text.append(f'; {stats.tokens_per_second:.1f} tokens/s', '' if stats.tokens_per_second_is_current else 'dim')
    return text


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
        cells = {'request': m.request_id[:8], 'phase': _phase(goal), 'promise': _promise(goal),
                 BAR: goal_bar.bar(goal, at_s, widths[BAR]), 'slack s': _slack(goal, at_s),
                 'tokens': f'{m.generated_tokens}/{m.predicted_tokens or "-"}', 'end': _end(goal)}
        table.add_row(*(cells[name] for name in widths))
    return table


def _phase(goal: Goal) -> str:
    m = goal.latest
    place = f' {m.queue_position}' if m.phase == Phase.QUEUED and m.queue_position else ''
    return name_of(Phase, m.phase).lower() + place


def _promise(goal: Goal) -> Text:
    name = '-' if goal.verdict == Verdict.UNKNOWN else name_of(Verdict, goal.verdict)
    return Text(name, goal_bar.style_of(goal))


def _slack(goal: Goal, now_s: float) -> Text:
    """Return the slack now: as it was published, or less where a goal has gone past its deadline since."""
    m = goal.latest
    left_s = goal.deadline_s - now_s
    if goal.is_over:
        return Text('')
    if goal.deadline_s and left_s < 0:
        return Text(f'{left_s:.2f}', goal_bar.LATE)
    return Text('-') if math.isnan(m.slack_s) else Text(f'{m.slack_s:.2f}', '' if m.slack_s > 0 else goal_bar.LATE)


def _end(goal: Goal) -> Text:
    m = goal.latest
    if not goal.is_over:
        return Text('late', goal_bar.LATE) if m.overrun else Text('')
    failed = m.error_code != ErrorCode.NONE
    text = Text(name_of(ErrorCode, m.error_code) if failed else name_of(FinishReason, m.finish_reason),
                goal_bar.LATE if failed or m.overrun else '')
    text.append(f' {m.response_time_s:.2f} s')
    return text.append(f', {m.tardiness_s:.2f} s late', goal_bar.LATE) if m.tardiness_s > 0 else text


def _legend() -> list[Text]:
    colours = Text()
    for verdict, style in goal_bar.STYLES.items():
        if verdict != Verdict.UNKNOWN:
            colours.append(f'{verdict.name}  ', style)
    signs = (f'{goal_bar.QUEUE} queue  {goal_bar.PREFILL} prefill  {goal_bar.DECODE} decode  '
             f'{goal_bar.DEADLINE} deadline  {goal_bar.EXPECTED} expected end')
    return [Text(signs, 'dim'), colours.append('late or cut', goal_bar.LATE).append('    Ctrl-C ends', 'dim')]
