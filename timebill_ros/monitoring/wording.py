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

"""What monitors say of a node and its goals: words, and how serious they are. No ROS, no drawing.

The terminal and rqt show the same words; each has its own colours for a `Tone`.
"""
from __future__ import annotations

import math
from enum import Enum
from typing import NamedTuple

from timebill_ros.codes import ErrorCode, FinishReason, Phase, Verdict, name_of
from timebill_ros.dispatch.miss_rate import Level, MissRate
from timebill_ros.monitoring.goal_board import Goal, GoalBoard

SILENT_S = 3.0  # a node that has said nothing for so long is reported
# As in lifecycle_msgs/State, and in DeadlineStats.
STATES = {1: 'unconfigured', 2: 'inactive', 3: 'active', 4: 'finalized', 10: 'configuring'}
ACTIVE = 3


class Tone(Enum):
    """How serious something is."""

    PLAIN = 'plain'
    FAINT = 'faint'
    GOOD = 'good'
    WARN = 'warn'
    BAD = 'bad'
    ALARM = 'alarm'


LEVELS = {Level.OK: Tone.GOOD, Level.WARN: Tone.WARN, Level.ERROR: Tone.BAD}


class Said(NamedTuple):
    """A piece of text."""

    text: str
    tone: Tone = Tone.PLAIN


def state(board: GoalBoard, now: float) -> list[Said]:
    """Return the state of the node, and what is wrong with it; `now`: the monotonic clock."""
    stats = board.stats
    said = [Said(STATES.get(stats.lifecycle_state, 'in an unknown state'),
                 Tone.GOOD if stats.lifecycle_state == ACTIVE else Tone.WARN)]
    silent_s = now - board.stats_heard_s
    if silent_s > SILENT_S:
        said.append(Said(f'nothing heard for {silent_s:.0f} s: it has ended, or the connection is lost', Tone.ALARM))
    elif board.degraded:
        said.append(Said('degraded: see /diagnostics', Tone.ALARM))
    return said


def unheard(server: str) -> str:
    """Return what to say for as long as nothing has been heard of a node."""
    return (f'waiting for {server}: nothing publishes {server}/stats. The node is not running, or in another '
            'ROS_DOMAIN_ID')


def load(stats) -> list[Said]:
    """Return how many goals there are, and the smallest slack of those that are held."""
    said = [Said(f'{stats.running} running, {stats.waiting} waiting, {stats.accepted} accepted')]
    if stats.smallest_slack_is_current:
        said.append(Said(f'; smallest slack {stats.smallest_slack_s:.2f} s',
                         Tone.PLAIN if stats.smallest_slack_s > 0 else Tone.BAD))
    return said


def miss_rate(stats) -> MissRate:
    """Return the misses among the promises of the window."""
    return MissRate(stats.promised, stats.missed, stats.miss_rate_allowed)


def promises(stats) -> Said:
    """Return how many promises were missed, and how many may be."""
    rate = miss_rate(stats)
    return Said(str(rate), LEVELS[rate.level])


def speed(stats) -> list[Said]:
    """Return how long steps and prefill take, compared with the profile, and how fast answers come."""
    said = [Said(f'steps take {stats.timing_factor:.2f} and prefill {stats.prefill_factor:.2f} times as long as '
                 'profiled')]
    if stats.tokens_per_second:
        said.append(Said(f'; {stats.tokens_per_second:.1f} tokens/s',
                         Tone.PLAIN if stats.tokens_per_second_is_current else Tone.FAINT))
    return said


def device(stats) -> Said:
    """Return the device, its memory and its temperature, as far as they are known."""
    text = stats.device or 'not known yet'
    if stats.device_memory_total:
        text += f', {stats.device_memory_used / 2 ** 30:.1f} of {stats.device_memory_total / 2 ** 30:.1f} GiB used'
    if stats.device_temperature_is_current:
        text += f', {stats.device_temperature:.0f} \u00b0C'
    return Said(text)


def phase(goal: Goal) -> str:
    """Return how far a goal has come, with its place in the queue."""
    m = goal.latest
    place = f' {m.queue_position}' if m.phase == Phase.QUEUED and m.queue_position else ''
    return name_of(Phase, m.phase).lower() + place


def promise(goal: Goal) -> str:
    """Return the verdict of the first plan."""
    return '-' if goal.verdict == Verdict.UNKNOWN else name_of(Verdict, goal.verdict)


def tokens(goal: Goal) -> str:
    """Return the tokens by now, and how many were predicted."""
    return f'{goal.latest.generated_tokens}/{goal.latest.predicted_tokens or "-"}'


def slack(goal: Goal, now_s: float) -> Said:
    """Return the slack now: as it was published, or less where a goal has gone past its deadline since.

    `now_s`: ROS time.
    """
    m = goal.latest
    left_s = goal.deadline_s - now_s
    if goal.is_over:
        return Said('')
    if goal.deadline_s and left_s < 0:
        return Said(f'{left_s:.2f}', Tone.BAD)
    return Said('-') if math.isnan(m.slack_s) else Said(f'{m.slack_s:.2f}', Tone.PLAIN if m.slack_s > 0 else Tone.BAD)


def end(goal: Goal) -> list[Said]:
    """Return how a goal ended and when, or that it is late."""
    m = goal.latest
    if not goal.is_over:
        return [Said('late', Tone.BAD)] if m.overrun else []
    failed = m.error_code != ErrorCode.NONE
    said = [Said(name_of(ErrorCode, m.error_code) if failed else name_of(FinishReason, m.finish_reason),
                 Tone.BAD if failed or m.overrun else Tone.PLAIN), Said(f' {m.response_time_s:.2f} s')]
    if m.tardiness_s > 0:
        said.append(Said(f', {m.tardiness_s:.2f} s late', Tone.BAD))
    return said


def without_bar(goal: Goal) -> str:
    """Return why a goal cannot be drawn against its deadline; empty where it can be."""
    if goal.release_s and goal.budget_s > 0:
        return ''
    return 'the deadline had passed at the release' if goal.deadline_s else 'no deadline'
