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

"""The account of one goal: what was promised, what became of it, and where the time went. No Qt."""
from __future__ import annotations

import math

from timebill_ros.codes import ErrorCode, FinishReason, Strategy, Verdict, name_of
from timebill_ros.monitoring import wording
from timebill_ros.monitoring.goal_board import Goal
from timebill_ros.monitoring.promises import is_kept
from timebill_ros.rqt.goal_rows import length, time_of_day

# What a first plan means for the client.
MEANINGS = {
    Verdict.FITS: 'promised: even a long answer fits',
    Verdict.FITS_WITH_EVICTION: 'promised: even a long answer fits, once entries of the cache are evicted',
    Verdict.AT_RISK: 'not promised: an answer of the expected length fits, a long one does not',
    Verdict.INFEASIBLE: 'not promised: not even an answer of the expected length fits',
}
ENDS = {
    FinishReason.EOS: 'The model ended its answer',
    FinishReason.STOP: 'A stop string ended the answer',
    FinishReason.LENGTH: 'The answer reached the length that the goal allows',
    FinishReason.CAPPED: 'The answer was capped, so as to be in time',
    FinishReason.DEADLINE: 'The deadline cut the answer',
    FinishReason.CANCELED: 'The client canceled the goal',
    FinishReason.SKIPPED: 'The goal was skipped, because an earlier one was late',
    FinishReason.ERROR: 'The goal failed',
}
DEFAULT_MEANING = 'no plan was made'


def account(goal: Goal, now_s: float) -> list[tuple[str, str]]:
    """Return rows (name, value); `now_s`: ROS time. What is not known has no row."""
    m = goal.latest
    begun_s, decoding_s, until_s = goal.phase_ends(now_s)
    rows = [
        ('goal', goal.request_id),
        ('in short', sentence(goal, now_s)),
        ('promise', f'{wording.promise(goal)}: {MEANINGS[goal.verdict]}' if goal.verdict in MEANINGS
         else DEFAULT_MEANING),
        ('released', time_of_day(goal.release_s)),
        ('budget', f'{goal.budget_s:.3f} s, due at {time_of_day(goal.deadline_s)}' if goal.deadline_s else ''),
        ('at the deadline', name_of(Strategy, m.strategy)),
        ('priority', str(m.priority) if m.priority else ''),
        ('queue', f'{begun_s - goal.release_s:.3f} s' if goal.release_s else ''),
        ('prefill and plan', f'{decoding_s - begun_s:.3f} s' if goal.started_s else ''),
        ('decode', f'{until_s - decoding_s:.3f} s' if goal.decoding_s else ''),
        ('worst case', '' if math.isnan(m.wcet_s) or not m.wcet_s else f'{m.wcet_s:.3f} s, without queueing'),
        ('slack', _slack(goal, now_s)),
        ('tokens', f'{m.generated_tokens} generated' + (f'; {m.predicted_tokens} expected, {m.pessimistic_tokens} in '
                                                        'the worst case' if m.predicted_tokens else '')),
        ('evicted', f"{m.eviction_ratio:.0%} of the prompt's cache entries" if m.eviction_ratio > 0 else ''),
        ('weights', m.variant),
        ('speed then', f'steps took {m.timing_factor:.2f} times as long as profiled' if m.timing_factor else ''),
    ]
    return [(name, value) for name, value in rows if value]


def sentence(goal: Goal, now_s: float) -> str:
    """Return in words how a goal stands, or how it ended."""
    m = goal.latest
    if not goal.is_over:
        left_s = goal.deadline_s - now_s
        time_left = '' if not goal.deadline_s else f', {left_s:.2f} s before its deadline' if left_s > 0 else \
            f', {-left_s:.2f} s after its deadline'
        return f'It is in the phase {wording.phase(goal)}{time_left}.'
    end = ENDS.get(m.finish_reason, f'It ended as {name_of(FinishReason, m.finish_reason)}')
    if m.error_code:
        end += f' with the error {name_of(ErrorCode, m.error_code)}'
    return f'{end} {_when(goal)}.{_promise(goal)}'


def _when(goal: Goal) -> str:
    m = goal.latest
    spare_s = m.time_budget_s - m.response_time_s
    after = f'{length(m.response_time_s)} after its release'
    if m.tardiness_s > 0:
        return f'{after}, {length(m.tardiness_s)} late'
    return f'{after}, with {length(spare_s)} to spare' if goal.deadline_s and spare_s > 0 and not m.overrun else after


def _promise(goal: Goal) -> str:
    m = goal.latest
    kept = is_kept(goal.verdict, m.finish_reason, m.error_code, m.tardiness_s)
    return {True: ' The promise was kept.', False: ' The promise was MISSED.', None: ''}[kept]


def _slack(goal: Goal, now_s: float) -> str:
    text = wording.slack(goal, now_s).text
    return f'{text} s' if text.strip('-') else ''
