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

"""The account of a goal: sentences and rows that an operator reads."""
import pytest
from monitor_messages import START_S, status

from timebill_ros.codes import ErrorCode, FinishReason, Phase, Verdict
from timebill_ros.monitoring.goal_board import GoalBoard
from timebill_ros.rqt.account import ENDS, MEANINGS, account, sentence

DONE = dict(response_time_s=1.5, tardiness_s=0.0, slack_s=0.0, wcet_s=1.75, eviction_ratio=0.0)


def goal_of(*messages):
    board = GoalBoard()
    for message in messages:
        board.take_status(message, 0.0)
    return board.goals()[0]


def ended(verdict=Verdict.FITS, finish=FinishReason.EOS, **fields):
    told = [status('a' * 32, phase, at_s, verdict=verdict) for phase, at_s in (
        (Phase.QUEUED, 0.0), (Phase.PREFILL, 0.25), (Phase.DECODE, 0.5))]
    return goal_of(*told, status('a' * 32, Phase.DONE, 1.5, verdict=verdict, finish_reason=finish,
                                 **{**DONE, **fields}))


@pytest.mark.parametrize(('goal', 'words'), [
    (ended(), 'The model ended its answer 1.50 s after its release, with 0.50 s to spare. The promise was kept.'),
    (ended(finish=FinishReason.DEADLINE, response_time_s=1.98, overrun=True),
     'The deadline cut the answer 1.98 s after its release. The promise was MISSED.'),
    (ended(response_time_s=2.5, tardiness_s=0.5),
     'The model ended its answer 2.50 s after its release, 0.50 s late. The promise was MISSED.'),
    (ended(Verdict.AT_RISK), 'The model ended its answer 1.50 s after its release, with 0.50 s to spare.'),
    (ended(Verdict.INFEASIBLE, FinishReason.ERROR, error_code=ErrorCode.INFEASIBLE, response_time_s=0.0),
     'The goal failed with the error INFEASIBLE 0.00 s after its release, with 2.00 s to spare.'),
    (ended(finish=FinishReason.CANCELED, error_code=ErrorCode.CANCELED),
     'The client canceled the goal with the error CANCELED 1.50 s after its release, with 0.50 s to spare.'),
])
def test_how_it_ended(goal, words):
    assert sentence(goal, START_S + 9.0) == words


def test_how_it_stands():
    held = goal_of(status('a', Phase.QUEUED, 0.0, queue_position=2))
    assert sentence(held, START_S + 0.5) == 'It is in the phase queued 2, 1.50 s before its deadline.'
    assert sentence(held, START_S + 2.5) == 'It is in the phase queued 2, 0.50 s after its deadline.'
    assert sentence(goal_of(status('a', Phase.QUEUED, 0.0, budget_s=0.0)), START_S) == 'It is in the phase queued.'


def test_every_end_and_every_verdict_has_words():
    assert set(ENDS) == set(FinishReason) - {FinishReason.UNKNOWN}
    assert set(MEANINGS) == set(Verdict) - {Verdict.UNKNOWN}
    assert 'It ended as 99' in sentence(ended(finish=99), START_S)  # of a newer node


def test_the_rows_tell_where_the_time_went():
    rows = dict(account(ended(generated_tokens=12, predicted_tokens=10, pessimistic_tokens=20, variant='int8',
                              eviction_ratio=0.25, priority=3), START_S + 9.0))
    assert (rows['queue'], rows['prefill and plan'], rows['decode']) == ('0.250 s', '0.250 s', '1.000 s')
    assert rows['goal'] == 'a' * 32 and rows['promise'].startswith('FITS: promised')
    assert rows['tokens'] == '12 generated; 10 expected, 20 in the worst case'
    assert (rows['weights'], rows['priority'], rows['at the deadline']) == ('int8', '3', 'TRUNCATE')
    assert rows['evicted'].startswith('25%') and 'slack' not in rows


def test_what_is_not_known_has_no_row():
    rows = dict(account(goal_of(status('a', Phase.QUEUED, 0.0, timing_factor=0.0)), START_S))
    unknown = {'prefill and plan', 'decode', 'worst case', 'slack', 'evicted', 'weights', 'priority', 'speed then'}
    assert not unknown & set(rows)
    assert rows['promise'] == 'no plan was made' and 'nan' not in str(rows)
