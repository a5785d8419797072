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

"""The demonstration in English: budgets from an unhurried answer, and a row for each goal."""
from timebill_ros.action import Generate
from timebill_ros.cli import demo_text
from timebill_ros.cli.demo_requests import requests
from timebill_ros.client import Answer, chat, duration
from timebill_ros.codes import ErrorCode, FinishReason, Strategy

PREFILL_S, DECODE_S = 0.5, 1.0


class Fake:
    """A client of a node that reads for half a second and writes for one, and knows the answers."""

    def __init__(self, error: ErrorCode = ErrorCode.NONE):
        self.sent, self.error = [], error

    def send(self, goal):
        budget_s = goal.time_budget.sec + goal.time_budget.nanosec * 1e-9
        self.sent.append((goal.messages[0].content, Strategy(goal.overrun_strategy), budget_s))
        self.now_s = min(budget_s, PREFILL_S + DECODE_S)
        whole = self.now_s == PREFILL_S + DECODE_S
        request = next(request for request in requests() if request.content == goal.messages[0].content)
        answer = ' '.join(['So', 'it', 'is:', *request.answers[:1]])
        result = Generate.Result(text='' if self.error else answer if whole else 'So it', error_code=int(self.error))
        result.finish_reason = int(FinishReason.EOS if whole else FinishReason.DEADLINE)
        result.timing.prefill_s, result.timing.decode_s = PREFILL_S, self.now_s - PREFILL_S
        self.result = Answer(result, 4, 0.01, self.now_s)
        return self

    def answer(self, timeout_s):
        assert timeout_s > self.now_s
        return self.result


def test_budgets_run_from_generous_to_hopeless():
    goal = Generate.Goal(messages=chat({'role': 'user', 'content': requests()[0].content}), time_budget=duration(60.0))
    unhurried = Fake().send(goal).answer(70.0)
    series = demo_text.budgets(unhurried, few=False)
    seconds = [budget_s for _, budget_s in series]
    assert seconds == sorted(seconds, reverse=True) and len(seconds) == 7
    by_name = dict(series)
    assert by_name['generous'] > 2 * 1.5 and by_name['half'] < 1.5 < by_name['just enough']
    assert PREFILL_S < by_name['too short'] < PREFILL_S + DECODE_S and by_name['hopeless'] < PREFILL_S
    assert [kind for kind, _ in demo_text.budgets(unhurried, few=True)] == list(demo_text.FEW_SHARES)


def test_every_request_is_asked_unhurried_first_and_scored():
    client = Fake()
    rows = demo_text.send_goals(client)
    assert len(rows) == len(client.sent) and {row['prompt'] for row in rows} == {r.label for r in requests()}
    for request in requests():
        of_it = [row for row in rows if row['prompt'] == request.label]
        assert of_it[0]['kind'] == 'unhurried' and of_it[0]['budget_s'] == demo_text.UNHURRIED_S
        assert len(of_it) == (1 + 7 + 2 if request.is_long else 1 + 3)
        assert of_it[0]['score'] == 1.0 and of_it[0]['overrun_strategy'] == request.strategy.name
        short = next(row for row in of_it if row['kind'] == 'half')
        assert short['score'] == (0.0 if request.answers else 2 / 3) and short['text'] == 'So it'


def test_a_request_without_an_answer_is_a_row_that_says_why():
    rows = demo_text.send_goals(Fake(ErrorCode.UNKNOWN))
    assert [row['error_code'] for row in rows] == ['UNKNOWN'] * len(requests())
