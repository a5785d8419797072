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

"""The goals of the demonstration: which budgets they get, and what becomes of them."""
from __future__ import annotations

import math

from timebill_ros.action import Generate
from timebill_ros.client import chat, duration
from timebill_ros.codes import ErrorCode, FinishReason, Strategy, Verdict
from timebill_ros.tasks import site_log
from timebill_ros.tasks.site_log_scores import step_accuracy

N_PROMPTS = 2
PROMPT_TOKENS = 960
N_ASKED = 8  # objects per instruction: plans long enough for eviction to matter
MAX_NEW_TOKENS = 512
MARGIN_S = 0.04  # added to every budget, for carrying goal and result
TOO_LITTLE_S = 0.001  # a budget for estimates at the largest eviction


def budgets(client, goal, margin_s: float) -> list[tuple[str, float]]:
    """Return pairs (what to expect, budget in seconds) for one prompt, from the node's own estimates.

    The longest budget comes first; `margin_s` is added to each.
    """
    tight = estimate(client, goal)
    prefill = estimate(client, Generate.Goal(messages=goal.messages, max_new_tokens=1)).wcet_without_eviction_s
    full, least = tight.wcet_without_eviction_s, tight.wcet_with_eviction_s
    share = tight.predicted_tokens / tight.pessimistic_tokens
    predicted, predicted_least = (full - prefill) * share, (least - prefill) * share  # decoding N_hat tokens
    steps = [('generous', 2 * full), ('just enough', 1.05 * full)]
    steps += [('needs eviction', least + part * (full - least)) for part in (0.75, 0.5, 0.25)]
    # With less time than the pessimistic length takes there is no promise; with less than the predicted length takes,
    # the text is cut; with less than prefill takes, the goal ends at once.
    steps += [('at risk', prefill + predicted_least + 0.3 * (predicted - predicted_least)),
              ('too short', prefill + 0.4 * predicted_least), ('hopeless', 0.5 * prefill)]
    return [(name, seconds + margin_s) for name, seconds in steps]


def estimate(client, goal):
    """Return the node's estimates for a goal at the largest eviction; RuntimeError where it gives none."""
    response = client.estimate(goal, TOO_LITTLE_S)
    if response.error_code:
        raise RuntimeError(f'no estimate: {response.error_msg}')
    return response


def row_of(task, name: str, label: str, budget_s: float, strategy: Strategy, answer) -> dict:
    """Return one goal as a row of results.json; NaN becomes null."""
    result, timing = answer.result, answer.result.timing
    account = {field: getattr(timing, field) for field in timing.get_fields_and_field_types()}
    account = {field: None if isinstance(value, float) and math.isnan(value) else value
               for field, value in account.items()}
    return {
        'prompt': label, 'kind': name, 'instruction': task.instruction, 'budget_s': budget_s,
        'response_time_s': answer.received_s, 'tardiness_s': max(0.0, answer.received_s - budget_s),
        'node_tardiness_s': timing.tardiness_s if math.isfinite(timing.tardiness_s) else 0.0,
        'overrun_strategy': strategy.name, 'verdict': Verdict(timing.verdict).name,
        'eviction_ratio': account['eviction_ratio'], 'predicted_tokens': timing.predicted_tokens,
        'pessimistic_tokens': timing.pessimistic_tokens, 'generated_tokens': timing.generated_tokens,
        'finish_reason': FinishReason(result.finish_reason).name, 'error_code': ErrorCode(result.error_code).name,
        'error_msg': result.error_msg, 'step_accuracy': step_accuracy(task, result.text),
        'text': result.text, 'reference': task.answer, 'timing': account}


def is_promise(row: dict) -> bool:
    """Return whether the node promised the answer: verdict FITS or FITS_WITH_EVICTION."""
    return Verdict[row['verdict']].is_promise


def is_broken_promise(row: dict) -> bool:
    """Return whether the node promised an answer that did not end by itself in time."""
    return is_promise(row) and (not FinishReason[row['finish_reason']].is_natural or row['node_tardiness_s'] > 0)


def send_goals(client) -> list[dict]:
    """Send the goals of every prompt and return a row for each, see `row_of`."""
    rows = []
    for index in range(N_PROMPTS):
        task = site_log.generate(index, split='test', family='bring', n_tokens=PROMPT_TOKENS, n_asked=N_ASKED)
        label = f'log {index + 1}'
        goal = Generate.Goal(messages=chat(*task.messages), max_new_tokens=MAX_NEW_TOKENS)
        series = budgets(client, goal, MARGIN_S)
        for name, budget_s in series:
            # The second log's goals are killed where the first's are truncated: the same plan, another ending.
            strategy = Strategy.TRUNCATE if index == 0 else Strategy.KILL
            goal.overrun_strategy, goal.time_budget = int(strategy), duration(budget_s)
            answer = client.send(goal).answer(budget_s + 10.0)
            rows.append(row_of(task, name, label, budget_s, strategy, answer))
        # Two at once: the second waits, and its waiting counts.
        budget_s = series[0][1]
        goal.time_budget = duration(budget_s)
        pending = [client.send(goal), client.send(goal)]
        rows += [row_of(task, 'two at once', label, budget_s, strategy, p.answer(budget_s + 10.0)) for p in pending]
    return rows
