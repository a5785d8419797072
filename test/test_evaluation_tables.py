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

"""The sections of docs/results.md on the evaluation are written of whatever results there are, and of no others."""
import json
import re
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / 'scripts'
MACHINE = {'device': 'a CPU, 2 threads', 'date': '2026-01-02T03:04:05+00:00', 'model': 'small', 'dtype': 'float32'}
BUDGETS = {0.1: 0.5, 0.9: 2.0}


@pytest.fixture
def made(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, 'path', list(sys.path))
    import evaluation_tables
    return evaluation_tables


def row(method, strategy, quantile, family='all', **changed):
    return {'method': method, 'variants': '', 'strategy': strategy, 'budget_quantile': quantile,
            'budget_s': BUDGETS[quantile], 'family': family, 'n': 4, 'score': 0.5, 'score_lo': 0.25, 'score_hi': 0.75,
            'completion': 0.25, 'late': 0, 'promised': 2, 'missed': 1, 'miss_ratio': 0.75, 'eviction_ratio': 0.1,
            'score_per_s': 0.3, 'shared': 1, **changed}


def budgets(methods=('vanilla', 'quality', 'oracle'), strategies=('TRUNCATE', 'SKIP_NEXT')):
    rows = [row(method, strategy, quantile, family, n=1 if family != 'all' else 12 if method == 'vanilla' else 4,
                score=0.4 if family == 'a' else 0.5)
            for method in methods for strategy in strategies for quantile in BUDGETS for family in ('all', 'a', 'b')]
    comparisons = [{'method': 'quality', 'other': other, 'strategy': strategy, 'budget_quantile': quantile, 'n': 4,
                    'difference': -0.125 if other == 'oracle' else 0.25, 'difference_lo': -0.2, 'difference_hi': 0.3,
                    'score': 0.5} for strategy in strategies for quantile in BUDGETS for other in methods
                   if other != 'quality']
    return rows, {'machine': MACHINE, 'tasks': 'tasks.jsonl', 'n': 12, 'n_live': 4, 'of': 12, 'of_live': 4,
                  'how': {'live_answers': 1000, 'live_runs': 400}, 'comparisons': comparisons,
                  'bars': [{'bar': 'no result is late', 'value': 0, 'met': True, 'where': '8 goals'},
                           {'bar': 'at most 5% are missed', 'value': 0.5, 'met': False, 'where': '4 promises'}]}


def tables(text):
    """Return the tables of a text, each as a list of rows of cells."""
    found = re.findall(r'(?:^\|.*\|$\n?)+', text, re.MULTILINE)
    return [[[cell.strip() for cell in line.strip('|').split('|')] for line in one.strip().split('\n')]
            for one in found]


def columns_agree(text):
    return all(len({len(line) for line in one}) == 1 for one in tables(text))


def write(folder, name, data):
    (folder / f'{name}.json').write_text(json.dumps(data))


def test_without_results_there_is_a_sentence_alone(made, tmp_path):
    assert made.evaluation(tmp_path) == made.NONE


def test_deadlines_of_every_test_bed(made, tmp_path):
    rows, facts = budgets()
    beds = {f'small, {name}': facts for name in ('text', 'site log')}
    write(tmp_path, 'deadlines', {'test_beds': beds, 'rows': [{'test_bed': bed, **each} for bed in beds
                                                             for each in rows]})
    (tmp_path / 'deadlines_tasks_test.png').write_bytes(b'')
    text = made.evaluation(tmp_path)
    assert text.startswith('### What a deadline leaves of answers\n\n`timebill bench deadlines')
    assert '**small, text.** 12 tasks, 4 of them answered live; small in float32 on a CPU, 2 threads, 2026-' in text
    assert 'Of 1,000 live answers 400 were run' in text and text.count('**small') == 2
    assert text.endswith('![What a deadline leaves of answers](../results/deadlines_tasks_test.png)')
    assert columns_agree(text)
    scores, skipped, differences, promises, families, *others = tables(text)
    assert len(others) == 5, 'as many of the other test bed'
    assert scores[0] == ['TRUNCATE', 'tasks', '0.50 s', '2.00 s'] and skipped[0][:2] == ['SKIP_NEXT', 'jobs']
    assert scores[2] == ['vanilla', '12', *['0.500 (0.250 to 0.750), 25 %'] * 2]
    assert [line[0] for line in scores[2:]] == ['vanilla', 'quality', 'oracle']
    assert differences[2:4] == [['TRUNCATE', 'vanilla', *['+0.250 (-0.200 to +0.300)'] * 2],
                                ['TRUNCATE', 'oracle', *['-0.125 (-0.200 to +0.300)'] * 2]]
    assert promises[0][2:6] == ['quality: promised', 'missed', 'late', 'evicted'] and len(promises) == 2 + 4
    assert promises[2] == ['TRUNCATE', '0.50 s', *['2 of 4', '1', '0', '10 %'] * 2]
    assert families[0] == ['', 'a', 'b'] and families[2] == ['vanilla', '0.400', '0.500']
    assert '- Met: no result is late (0.000; 8 goals).\n- Missed: at most 5% are missed (0.500; 4 promises).' in text


def test_a_real_model_without_an_oracle_and_without_live_answers(made, tmp_path):
    rows, facts = budgets(('vanilla', 'fixed_50'), ('TRUNCATE', 'KILL'))
    del facts['comparisons'], facts['bars'], facts['how']
    write(tmp_path, 'real_model', {**facts, 'n_live': 0, 'rows': rows})
    text = made.evaluation(tmp_path)
    assert text.startswith('### A real model at five budgets') and columns_agree(text)
    assert 'promised' not in text and 'live answers' not in text and len(tables(text)) == 3


def test_evictions_that_can_be_taken_back(made, tmp_path):
    rows, facts = budgets(('vanilla', 'quality', 'in_place'), ('TRUNCATE', 'KILL'))
    mean = {'strategy': 'all', 'other': 'in_place', 'difference': 0.01, 'difference_lo': -0.02, 'difference_hi': 0.03}
    write(tmp_path, 'reversible', {**facts, 'rows': rows, 'over_budgets': [mean]})
    text = made.evaluation(tmp_path)
    assert '`quality` - `in_place` = +0.010 (-0.020 to +0.030).' in text and columns_agree(text)
    assert any(table[0][6:10] == ['in_place: promised', 'missed', 'late', 'evicted'] for table in tables(text))


def test_the_pessimistic_factor(made, tmp_path):
    methods = {'vanilla': None, 'quality': None, 'paper_k1': 1, 'paper_k5': 5}
    rows = [row(method, 'KILL', quantile, k=k, score=0.1 * (k or 2))
            for method, k in methods.items() for quantile in BUDGETS]
    write(tmp_path, 'k_sweep', {'machine': MACHINE, 'n_live': 4, 'rows': rows})
    text = made.evaluation(tmp_path)
    found, = tables(text)
    assert [line[0] for line in found[2:]] == ['adaptive (the default)', 'vanilla', 'k = 1', 'k = 5']
    assert found[0][:5] == ['', '0.50 s: score', 'completion', 'promised', 'missed']
    assert found[-1][1:5] == ['0.500 (0.250 to 0.750)', '25 %', '50 %', '1'] and columns_agree(text)


def test_times(made, tmp_path):
    write(tmp_path, 'wcet', {'machine': MACHINE, 'tasks': 'tasks.jsonl', 'n': 300, 'epsilon': 0.05, 'violations': 9,
                             'violation_rate': 0.03, 'interval': [0.016, 0.056], 'prefill_error': 0.02,
                             'step_error': 0.0123, 'wcet_over_took': 1.25, 'rows': []})
    write(tmp_path, 'parallel', {'machine': MACHINE, 'rounds': 15, 'rows': [
        {'way': way, 'n_x': n, 'p50_s': n / 1e4 + above, 'above_prefill_s': above}
        for way, above in (('prefill alone', 0.0), ('predictor after prefill', 0.025)) for n in (64, 1024)]})
    text = made.evaluation(tmp_path)
    worst, ways = tables(text)
    assert ['took longer than their estimated WCET', '9 (3.0 %, 95 % interval 1.6 % to 5.6 %)'] in worst
    assert ['error of the estimated step, median', '1.2 %'] in worst and ['aimed at (epsilon)', '5 %'] in worst
    assert ways[0] == ['', '64 tokens', '1,024 tokens'] and columns_agree(text)
    assert ways[3] == ['predictor after prefill', '31.4 (+25.0)', '127.4 (+25.0)']
    assert text.index('### Estimated worst cases') < text.index('### Prediction beside prefill')


def test_prompts_that_begin_alike(made, tmp_path):
    case = {'tokens': 1000, 'new': 60, 'computed': 92, 'bar': 6.5, 'evicted_bar': 5.0, 'quicker': 8.4,
            'against_before': 1.03, 'same_logits': 18, 'compared': 18,
            'seconds': {'before': 1.0, 'from nothing': 1.03, 'reused': 0.1226},
            'llama': [{'precision': 'F16', 'from_nothing_s': 3.5, 'reused_s': 0.25}]}
    goal = {'scenario': 'a chat', 'goals': 10, 'errors': [], 'same_texts': 9, 'compared': 9, 'tokens': [500, 1500],
            'reused_share': 0.9, 'first_s': 0.2, 'first_from_nothing_s': 1.0, 'quicker': 5.0,
            'measured_over_estimated': 1.1, 'llama': [], 'rows': []}
    whole = {**MACHINE, 'cases': [case, {**case, 'evicted_quicker': 7.4}, {**case, 'evicted_quicker': 7.4,
                                                                         'evicted_bar': 0.0}],
             'goals': [goal], 'left_out': [], 'unit': 512}
    write(tmp_path, 'prefix', {**whole, 'left_out': ['llama.cpp: it is not installed'], 'ends': None})
    text = made.evaluation(tmp_path)
    cases, goals = tables(text)
    assert cases[2][5:7] == ['8.4 (6.5)', ''] and cases[2][8] == '18 of 18' and columns_agree(text)
    assert (cases[3][6], cases[4][6]) == ('7.4 (5)', '7.4') and cases[2][9:] == ['3500.0 (F16)', '250.0 (F16)']
    assert goals[2] == ['a chat', '10', '500 to 1,500', '90 %', '200.0', '1000.0', '5.0', '1.10', '9 of 9', '']
    assert text.endswith('Left out: llama.cpp: it is not installed.') and 'go on at every 512 tokens. ' in text
    pauses = {'long_budget_s': 3.0, 'short_budget_s': 0.3, 'rounds': 5, 'preemptions': 10, 'wanted': 10,
              'long_on_time': 5, 'short_on_time': 9, 'short_goals': 10, 'same_texts': 5, 'alone_s': 1.6,
              'interrupted_s': 2.0}
    promises = {'goals': 300, 'reused_share': 0.8, 'promised': 200, 'missed': 8, 'missed_share': 0.04,
                'interval': [0.02, 0.077], 'aimed_at': 0.05, 'beyond_wcet': 5}
    ends = {'known': 992, 'block_bytes': 100, 'block_query_bytes': 150, 'fewest_rows_with_their_bits': 32,
            'whole_prompts': [{'new': 1, 'tokens': 47.5, 'tokens_with_queries': 32.0, 'seconds': 0.2,
                               'seconds_with_queries': 0.15}]}
    write(tmp_path, 'prefix', {**whole, 'pauses': pauses, 'promises': promises, 'ends': ends, 'bars': [
        {'bar': 'at least 6.5 times as quick', 'value': 8.4, 'met': True},
        {'bar': 'the same texts', 'value': 0.9, 'met': False}]})
    text = made.evaluation(tmp_path)
    assert 'gives way to two of 0.30 s, 5 times: 10 of 10 pauses, 5 long goals and 9 of 10 short ones on time' in text
    assert '200 promised, 8 of them missed (4.0 %, 95 % interval 2.0 % to 7.7 %; 5 % are aimed at). 5 of' in text
    assert 'would add 150 %' in text and 'From 32 computed tokens on' in text and columns_agree(text)
    assert '- Met: at least 6.5 times as quick (8.4).\n- Missed: the same texts (0.9).' in text
    assert tables(text)[-1][2] == ['1', '47.5', '32.0', '200.0', '150.0']
    write(tmp_path, 'prefix_near', {**MACHINE, 'cases': [case], 'left_out': [], 'unit': 32, 'exact': False})
    text = made.evaluation(tmp_path)
    assert 'go on at every 32 tokens, with `exact_prefixes: false`. ' in text and columns_agree(text)
    write(tmp_path, 'load_prefixes', {
        **MACHINE, 'goals': 10000, 'endings': {'EOS': 6000, 'CANCELED': 4000}, 'same': 200, 'compared': 200,
        'checks': 1001, 'reused_share': 0.4, 'preemptions': 30, 'store_tokens': 2048, 'grown_mb': -0.25})
    text = made.evaluation(tmp_path)
    assert '10,000 goals' in text and '200 of 200 answers' in text and 'memory grew by -0.2 MB' in text
    assert '6,000 EOS, 4,000 CANCELED' in text
