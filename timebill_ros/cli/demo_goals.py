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

"""What becomes of the goals of a demonstration: a row for each, and which promises were broken."""
from __future__ import annotations

import math

from timebill_ros.client import duration
from timebill_ros.codes import ErrorCode, FinishReason, Strategy, Verdict

PATIENCE_S = 10.0  # how long after a goal's budget its result is waited for


def ask(client, goal, budget_s: float, strategy: Strategy):
    """Send a goal with a budget and return what the client waits for, see client.py."""
    goal.overrun_strategy, goal.time_budget = int(strategy), duration(budget_s)
    return client.send(goal)


def row_of(answer, *, label: str, kind: str, instruction: str, budget_s: float, strategy: Strategy, score: float,
           reference: str) -> dict:
    """Return one goal as a row of results.json; NaN becomes null.

    `kind`: what its budget is meant to show; `score`: how good the text is, from 0 to 1; `reference`: the right or the
    unhurried answer.
    """
    result, timing = answer.result, answer.result.timing
    account = {field: getattr(timing, field) for field in timing.get_fields_and_field_types()}
    account = {field: None if isinstance(value, float) and math.isnan(value) else value
               for field, value in account.items()}
    return {
        'prompt': label, 'kind': kind, 'instruction': instruction, 'budget_s': budget_s,
        'response_time_s': answer.received_s, 'tardiness_s': max(0.0, answer.received_s - budget_s),
        'node_tardiness_s': timing.tardiness_s if math.isfinite(timing.tardiness_s) else 0.0,
        'overrun_strategy': strategy.name, 'verdict': Verdict(timing.verdict).name,
        'eviction_ratio': account['eviction_ratio'], 'predicted_tokens': timing.predicted_tokens,
        'pessimistic_tokens': timing.pessimistic_tokens, 'generated_tokens': timing.generated_tokens,
        'finish_reason': FinishReason(result.finish_reason).name, 'error_code': ErrorCode(result.error_code).name,
        'error_msg': result.error_msg, 'score': score, 'text': result.text, 'reference': reference, 'timing': account}


def is_promise(row: dict) -> bool:
    """Return whether the node promised the answer: verdict FITS or FITS_WITH_EVICTION."""
    return Verdict[row['verdict']].is_promise


def is_broken_promise(row: dict) -> bool:
    """Return whether the node promised an answer that did not end by itself in time."""
    return is_promise(row) and (not FinishReason[row['finish_reason']].is_natural or row['node_tardiness_s'] > 0)
