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


"""The rows of what is left of answers: which answers are asked, and that the states' own rows know more."""
import numpy as np
import pytest

from timebill_ros.bench.remaining_rows import MARGINAL, remaining_rows
from timebill_ros.length.hidden_state_head import normalised
from timebill_ros.training.answering import Answer

LIMIT, DEPTH, H = 128, 2, 6


def answers(n, seed=0):
    """Answers whose prompts say a little of their lengths, and whose own states say more; some are cut."""
    draw, made = np.random.default_rng(seed), []
    for i in range(n):
        hint, more = draw.normal(size=2)
        length = max(1, int(2 ** (5.8 + 0.4 * hint + 0.8 * more + 0.1 * draw.normal())))
        state = draw.normal(size=H)
        state[0] = 3 * hint
        looks = []
        for at in (16, 32, 64, 96):
            own = draw.normal(size=2 * H)
            own[0] = own[H] = 3 * more
            if length > at:
                looks.append((at, own.astype(np.float16)))
        made.append(Answer(str(i), 100, {DEPTH: normalised(state).astype(np.float16)}, min(length, LIMIT),
                           length <= LIMIT, looks))
    return made


@pytest.mark.slow
def test_states_of_answers_tell_more_of_what_is_left_than_those_of_prompts_and_these_more_than_none():
    test = [*answers(150, seed=1), Answer('too long')]
    found = remaining_rows([*answers(200), Answer('too long')], test, depth=DEPTH, limit=LIMIT)
    assert {row['tokens'] for row in found} == {16, 32, 64} and len(found) == 3 * 4
    for tokens in (16, 32, 64):
        crps = {row['method']: row['crps'] for row in found if row['tokens'] == tokens}
        assert set(crps) == {MARGINAL, "prompt's states, conditional", 'states', 'states, in service after 200 goals'}
        assert crps['states'] < crps["prompt's states, conditional"] < crps[MARGINAL]
        assert crps['states, in service after 200 goals'] < 0.9 * crps[MARGINAL]
        for row in found:
            if row['tokens'] == tokens:
                assert row['n'] == sum(answer.n > tokens for answer in test) and 0 < row['share_censored'] < 1
                assert row['crps_less_than_marginal'] == pytest.approx(1 - row['crps'] / crps[MARGINAL])
                less, low, high = row['difference']
                assert low <= less <= high and (less == 0) == (row['method'] == MARGINAL)


def test_where_few_answers_go_on_there_is_no_row():
    short = [Answer(str(i), 9, {DEPTH: np.ones(H, np.float16)}, 10, True) for i in range(20)]
    assert remaining_rows(short, short, depth=DEPTH, limit=LIMIT) == []
    assert remaining_rows(short[:3], short, depth=DEPTH, limit=LIMIT) == []
