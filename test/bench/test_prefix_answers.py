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

"""Conversations of the bench of reused prompts: which goals are read from nothing, and what is said of them."""
import pytest

from timebill_ros.bench.prefix_answers import Progress, summary


@pytest.mark.parametrize(('n', 'each_s', 'seconds', 'most'), [(50, 1.0, 100.0, 50), (50, 1.0, 25.0, 27),
                                                              (50, 20.0, 10.0, 2), (3, 1.0, 0.0, 2), (1, 9.0, 1.0, 1)])
def test_as_many_goals_are_read_from_nothing_as_the_time_allows(n, each_s, seconds, most):
    progress, compared = Progress(n, seconds), []
    for i in range(n):
        if progress.compares(i):
            compared.append(i)
            progress.took(i, each_s)
    assert compared[0] == 0 and compared[-1] == n - 1 and len(compared) <= most
    assert len(compared) >= min(n, most) * 0.7
    gaps = [after - before for before, after in zip(compared, compared[1:], strict=False)]
    assert not gaps or seconds < 2 * each_s or max(gaps) <= 2 * min(gaps) + 1, 'evenly spread'


def row(tokens, reused, first_s, nothing_s=None, same=True, llama_s=None):
    compared = {} if nothing_s is None else {'same': same, 'first_from_nothing_s': nothing_s}
    return {'tokens': tokens, 'reused': reused, 'first_s': first_s, 'prefill_s': first_s, 'estimated_s': 0.1,
            'llama_s': {} if llama_s is None else {'F16': llama_s}, **compared}


def test_the_first_goal_counts_for_texts_alone():
    rows = [row(100, 0, 9.0, 9.0, same=False, llama_s=5.0), row(110, 55, 0.1, llama_s=0.3),
            row(120, 60, 0.2, 1.0, llama_s=0.4)]
    found = summary(rows)
    assert (found['compared'], found['same_texts'], found['tokens']) == (2, 1, [100, 120])
    assert found['reused_share'] == 0.5 and found['quicker'] == 5.0 and found['first_from_nothing_s'] == 1.0
    assert found['first_s'] == pytest.approx(0.15) and found['measured_over_estimated'] == pytest.approx(1.5)
    assert found['llama'] == [{'precision': 'F16', 'first_s': pytest.approx(0.35), 'quicker': pytest.approx(2.5)}]
    assert summary([row(100, 0, 1.0, 2.0)])['llama'] == []
