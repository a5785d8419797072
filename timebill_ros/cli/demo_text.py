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

"""The demonstration on a model that reads English: each request unhurried first, then in less and less of that time."""
from __future__ import annotations

from timebill_ros.action import Generate
from timebill_ros.cli.demo_goals import PATIENCE_S, ask, row_of
from timebill_ros.cli.demo_requests import DemoRequest, requests, score
from timebill_ros.client import chat

SCORE = 'right'  # what the score of a row is: see demo_requests.score
MAX_NEW_TOKENS = 120
UNHURRIED_S = 120.0
MARGIN_S = 0.04  # added to every budget, for carrying goal and result
# What a budget is meant to show, and its share of the unhurried time.
SHARES = (('generous', 2.0), ('just enough', 1.25), ('a little short', 0.9), ('short', 0.7), ('half', 0.5))
FEW_SHARES = ('generous', 'short', 'half')  # for requests with a short prompt


def budgets(unhurried, *, few: bool) -> list[tuple[str, float]]:
    """Return pairs (what to expect, budget in seconds), the longest first, from an unhurried answer.

    The two shortest end while the answer begins, and before the prompt is read. `few`: three only.
    """
    timing = unhurried.result.timing
    whole_s = timing.prefill_s + timing.decode_s
    found = [(kind, share * whole_s) for kind, share in SHARES if not few or kind in FEW_SHARES]
    if not few:
        found += [('too short', timing.prefill_s + 0.15 * timing.decode_s), ('hopeless', 0.5 * timing.prefill_s)]
    return [(kind, seconds + MARGIN_S) for kind, seconds in found]


def send_goals(client) -> list[dict]:
    """Send every request at its budgets and return a row for each goal, see `row_of`."""
    return [row for request in requests() for row in _series(client, request)]


def _series(client, request: DemoRequest) -> list[dict]:
    """Return the rows of one request."""
    goal = Generate.Goal(messages=chat({'role': 'user', 'content': request.content}), max_new_tokens=MAX_NEW_TOKENS)
    strategy = request.strategy
    unhurried = ask(client, goal, UNHURRIED_S, strategy).answer(UNHURRIED_S + PATIENCE_S)
    reference = unhurried.result.text

    def row(kind: str, budget_s: float, answer) -> dict:
        return row_of(answer, label=request.label, kind=kind, instruction=request.question, budget_s=budget_s,
                      strategy=strategy, score=score(request, reference, answer.result.text), reference=reference)

    rows = [row('unhurried', UNHURRIED_S, unhurried)]
    if not reference:
        return rows  # the row says why there was no answer
    series = budgets(unhurried, few=not request.is_long)
    for kind, budget_s in series:
        rows.append(row(kind, budget_s, ask(client, goal, budget_s, strategy).answer(budget_s + PATIENCE_S)))
    if request.is_long:  # two at once: the second waits, and its waiting counts
        budget_s = series[0][1]
        pending = [ask(client, goal, budget_s, strategy), ask(client, goal, budget_s, strategy)]
        rows += [row('two at once', budget_s, one.answer(budget_s + PATIENCE_S)) for one in pending]
    return rows
