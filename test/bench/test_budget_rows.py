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

"""Rows, comparisons and bars, from scores made by hand."""
import pytest

from timebill_ros.bench import budget_rows
from timebill_ros.bench.budget_rows import Held, compare, on_the_same_tasks, rows_of

KEYS = [str(i) for i in range(40)]
FAMILIES = {key: 'needle' if int(key) % 2 else 'summary' for key in KEYS}
BUDGETS = {0.5: 1.25, 0.9: 4.0}


def held(score, **facts):
    return Held(score, natural=score > 0.5, **facts)


def results(quality=0.6, paper=0.3, **facts):
    """`vanilla` and `int8` answered all tasks, the planners half of them. A budget more adds 0.1 to each score."""
    found = {}
    for strategy in ('TRUNCATE', 'KILL'):
        for more, quantile in enumerate(BUDGETS):
            for method, score in (('vanilla', 0.5), ('int8', 0.52), ('quality', quality), ('paper', paper)):
                live = method in ('quality', 'paper')
                found[method, strategy, quantile] = {
                    key: held(score + 0.1 * more + int(key) / 1000, **(facts if method == 'quality' else {}))
                    for key in (KEYS[:20] if live else KEYS)}
    return found


def test_there_is_a_row_for_every_case_and_family():
    found = results(promised=True, missed=True, late=True, seconds=2.0, eviction_ratio=0.25, shared=True)
    rows = rows_of(found, FAMILIES, BUDGETS, {'quality': 'int8', 'int8': 'int8'})
    assert len(rows) == 4 * 2 * 2 * 3
    by = {(row['method'], row['strategy'], row['budget_quantile'], row['family']): row for row in rows}
    row = by['quality', 'KILL', 0.9, 'all']
    assert {**row, 'score': 0, 'score_lo': 0, 'score_hi': 0} == {
        'method': 'quality', 'variants': 'int8', 'strategy': 'KILL', 'budget_quantile': 0.9, 'budget_s': 4.0,
        'family': 'all', 'n': 20, 'score': 0, 'score_lo': 0, 'score_hi': 0, 'completion': 1.0, 'late': 20,
        'promised': 20, 'missed': 20, 'miss_ratio': 1.0, 'eviction_ratio': 0.25, 'score_per_s': row['score'] / 2.0,
        'shared': 20}
    assert row['score'] == pytest.approx(0.7 + 0.0095) and row['score_lo'] < row['score'] < row['score_hi']
    assert by['vanilla', 'TRUNCATE', 0.5, 'needle']['n'] == 20 and by['vanilla', 'TRUNCATE', 0.5, 'all']['n'] == 40
    assert by['vanilla', 'TRUNCATE', 0.5, 'all']['completion'] == 39 / 40
    assert by['int8', 'KILL', 0.5, 'all']['late'] == 0
    assert by['paper', 'KILL', 0.5, 'all']['variants'] == by['vanilla', 'KILL', 0.5, 'all']['variants'] == ''


def test_rows_of_the_same_tasks_leave_out_what_was_only_recorded():
    found = on_the_same_tasks(results())
    assert {len(by_task) for by_task in found.values()} == {20} and found.keys() == results().keys()
    assert {row['n'] for row in rows_of(found, FAMILIES, BUDGETS, {}) if row['family'] == 'all'} == {20}


def test_methods_are_compared_on_the_same_tasks():
    found = compare(results())
    by = {(row['other'], row['strategy'], row['budget_quantile']): row for row in found['comparisons']}
    assert len(by) == 3 * 2 * 2
    row = by['vanilla', 'KILL', 0.9]
    assert row['n'] == 20 and row['score'] == pytest.approx(0.7095)
    # Each task's scores differ by the same, however much the tasks differ.
    assert (row['difference'], row['difference_lo'], row['difference_hi']) == pytest.approx((0.1, 0.1, 0.1))
    assert [(row['strategy'], row['difference']) for row in found['over_budgets']] == [
        (strategy, pytest.approx(0.1)) for strategy in ('all', 'TRUNCATE', 'KILL')]
    other = compare(results(), 'int8')
    assert {row['other'] for row in other['over_budgets']} == {'int8'} and 'int8' in other['bars'][1]['bar']


@pytest.mark.parametrize(('quality', 'facts', 'met'), [
    (0.6, {}, [True, True, True, True]),
    (0.505, {}, [True, True, True, True]),  # 0.015 below int8
    (0.495, {}, [False, False, True, True]),
    (0.6, {'late': True}, [True, True, False, True]),
    (0.6, {'promised': True}, [True, True, True, True]),
    (0.6, {'promised': True, 'missed': True}, [True, True, True, False]),
])
def test_the_bars(quality, facts, met):
    bars = compare(results(quality, **facts))['bars']
    assert [bar['met'] for bar in bars] == met
    assert bars[0]['value'] == pytest.approx(quality - 0.52) and 'int8' in bars[0]['where']


def test_the_bars_leave_the_oracle_and_late_answers_of_skip_next_out():
    found = results()
    for (method, strategy, quantile), by_task in list(found.items()):
        if method == 'quality':
            found['oracle', strategy, quantile] = {key: held(each.score + 0.2) for key, each in by_task.items()}
        if strategy == 'KILL':
            found[method, 'SKIP_NEXT', quantile] = {key: held(each.score, late=True) for key, each in by_task.items()}
    for quantile in BUDGETS:
        found['oracle', 'SKIP_NEXT', quantile] = found['quality', 'SKIP_NEXT', quantile]
    compared = compare(found)
    assert [bar['met'] for bar in compared['bars']] == [True, True, True, True]
    assert min(row['difference'] for row in compared['comparisons'] if row['other'] == 'oracle') == pytest.approx(-0.2)


def test_what_is_printed_holds_every_method_and_bar(capsys):
    found = results()
    rows = rows_of(found, FAMILIES, BUDGETS, {})
    budget_rows.show(rows, compare(found))
    told = capsys.readouterr().out
    assert all(name in told for name in ('vanilla', 'int8', 'quality', 'paper', '1.25 s', '4.00 s', '(100%)'))
    assert all(f'{row["score"]:.3f}' in told for row in rows if row['family'] == 'all')
    assert told.count('met: ') == 4 and 'KILL: quality - vanilla = +0.100' in told
    budget_rows.show(rows, {})
