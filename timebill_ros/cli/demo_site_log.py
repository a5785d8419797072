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

"""The demonstration on the embedded model: plans over the log of a site, at budgets from generous to hopeless."""
from __future__ import annotations

from timebill_ros.action import Generate
from timebill_ros.cli.demo_goals import PATIENCE_S, ask, row_of
from timebill_ros.client import chat
from timebill_ros.codes import Strategy
from timebill_ros.tasks import site_log
from timebill_ros.tasks.site_log_scores import step_accuracy

SCORE = 'steps right'  # what the score of a row is
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


def send_goals(client) -> list[dict]:
    """Send the goals of every prompt and return a row for each, see `row_of`."""
    rows = []
    for index in range(N_PROMPTS):
        task = site_log.generate(index, split='test', family='bring', n_tokens=PROMPT_TOKENS, n_asked=N_ASKED)
        goal = Generate.Goal(messages=chat(*task.messages), max_new_tokens=MAX_NEW_TOKENS)
        series = budgets(client, goal, MARGIN_S)
        # The second log's goals are killed where the first's are truncated: the same plan, another ending.
        strategy = Strategy.TRUNCATE if index == 0 else Strategy.KILL

        def row(kind: str, budget_s: float, answer, task=task, strategy=strategy, label=f'log {index + 1}') -> dict:
            return row_of(answer, label=label, kind=kind, instruction=task.instruction, budget_s=budget_s,
                          strategy=strategy, score=step_accuracy(task, answer.result.text), reference=task.answer)

        for kind, budget_s in series:
            rows.append(row(kind, budget_s, ask(client, goal, budget_s, strategy).answer(budget_s + PATIENCE_S)))
        # Two at once: the second waits, and its waiting counts.
        budget_s = series[0][1]
        pending = [ask(client, goal, budget_s, strategy), ask(client, goal, budget_s, strategy)]
        rows += [row('two at once', budget_s, one.answer(budget_s + PATIENCE_S)) for one in pending]
    return rows
