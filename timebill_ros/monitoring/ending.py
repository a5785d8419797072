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

"""How a goal ended, in words and as JSON. Reads the fields of result and status; needs neither rclpy nor torch."""
from __future__ import annotations

import json
import math

from timebill_ros.codes import ErrorCode, FinishReason, Tier, Verdict, name_of
from timebill_ros.monitoring.promises import is_kept


def promise_of(result) -> str:
    """Return what became of the promise of an action result: 'kept', 'missed' or 'none', see `is_kept`."""
    kept = is_kept(result.timing.verdict, result.finish_reason, result.error_code, result.timing.tardiness_s)
    return {True: 'kept', False: 'missed', None: 'none'}[kept]


def sentence(result, received_s: float, budget_s: float) -> str:
    """Return one line on how a goal ended: seconds as the client measured them, tokens, verdict, finish, promise."""
    timing = result.timing
    evicted = '' if math.isnan(timing.eviction_ratio) else f', evicted {timing.eviction_ratio:.0%}'
    dropped = f', {timing.dropped_messages} messages of the history left out' if timing.dropped_messages else ''
    seed = f', seed {timing.seed}' if timing.seed else ''
    added = len(result.text) - result.generated_characters
    completed = f', {added} characters added' if result.text and added else ''
    gone = f', dropped items: {result.dropped_items}' if result.dropped_items else ''
    promise = {'kept': 'promise kept', 'missed': 'promise MISSED', 'none': 'no promise'}[promise_of(result)]
    thought = f', {timing.reasoning_tokens} of them thinking' if timing.reasoning_tokens else ''
    times = 'once' if timing.preemptions == 1 else f'{timing.preemptions} times'
    whose = ', of the server' if timing.tier == Tier.OFFBOARD else ''
    paused = f', gave way to others {times} for {timing.paused_s:.3f} s' if timing.preemptions else ''
    late = f', {timing.tardiness_s:.3f} s after its deadline' if timing.tardiness_s > 0 else ''  # none where NaN
    return (f'[{received_s:.3f} s of {budget_s:.3f} s{late}, {timing.generated_tokens} tokens{whose}{thought}'
            f'{completed}{gone}{evicted}{dropped}{paused}{seed}; '
            f'verdict {name_of(Verdict, timing.verdict)}, finish {name_of(FinishReason, result.finish_reason)}, '
            f'{promise}]')


def calls_of(result) -> list[dict]:
    """Return the calls of tools in an action result, for JSON: each with an id, a name and arguments."""
    return [{'id': call.id, 'name': call.name, 'arguments': json.loads(call.arguments)} for call in result.tool_calls]


def as_json(result, accepted_s: float, received_s: float, budget_s: float) -> dict:
    """Return a goal's end for programs: codes by name and number, times in seconds, null where a value is unknown."""
    timing = {field: getattr(result.timing, field) for field in result.timing.get_fields_and_field_types()}
    for field, kind in (('verdict', Verdict), ('offboard_verdict', Verdict), ('tier', Tier)):
        timing[field] = name_of(kind, getattr(result.timing, field))
    row = {'text': result.text, 'generated_characters': result.generated_characters,
           'dropped_items': result.dropped_items, 'tool_calls': calls_of(result), 'reasoning': result.reasoning,
           'error': name_of(ErrorCode, result.error_code), 'error_code': result.error_code,
           'error_msg': result.error_msg, 'finish_reason': name_of(FinishReason, result.finish_reason),
           'verdict': timing['verdict'], 'promise': promise_of(result), 'budget_s': budget_s,
           'accepted_s': accepted_s, 'received_s': received_s, 'timing': timing}
    return {key: _known(value) for key, value in row.items()}


def _known(value):
    """Return a value that JSON can hold: NaN and infinity become null."""
    if isinstance(value, dict):
        return {key: _known(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
