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

"""The sections of docs/results.md on answers that have a form."""
import json
import re
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / 'scripts'
MACHINE = {'device': 'a CPU, 2 threads', 'date': '2026-01-02T03:04:05+00:00', 'model': 'small', 'dtype': 'float32'}


@pytest.fixture
def made(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, 'path', list(sys.path))
    import evaluation_tables
    return evaluation_tables


def row(way, schema, **changed):
    return {'on_cut': way, 'schema': schema, 'n': 1000, 'whole': 400, 'cut_and_kept': 450, 'member_missing': 100,
            'no_time': 50, 'unmet': 0, 'invalid': 0, 'late': 0, 'own_share': 0.975, 'own_share_of_all': 0.99,
            'dropped_items': 420, 'lost_items': 410, **changed}


def data(ways, late=0):
    budgets = [row(way, schema, **{'from': 0.05, 'to': 0.195}) for way in ways for schema in ('all', 'flat')]
    return {'machine': MACHINE, 'goals': 1000, 'max_new_tokens': 192, 'latest_s': -0.025, 'budgets': budgets,
            'rows': [row(way, schema) for way in ways for schema in ('all', 'flat')], 'wrong': [], 'unhurried': [],
            'bars': [{'bar': 'no result is late', 'value': late, 'met': not late}]}


def tables(text):
    found = re.findall(r'(?:^\|.*\|$\n?)+', text, re.MULTILINE)
    return [[[cell.strip() for cell in line.strip('|').split('|')] for line in one.strip().split('\n')]
            for one in found]


@pytest.mark.parametrize(('ways', 'words', 'late', 'bar'), [
    (['drop'], '1,000 goals; small in float32', 0, '- Met: no result is late (0 did not).'),
    (['drop', 'close'], '1,000 goals, each asked with both ways of `on_cut`; small', 2,
     '- Missed: no result is late (2 did not).')])
def test_goals(made, tmp_path, ways, words, late, bar):
    (tmp_path / 'structured.json').write_text(json.dumps(data(ways, late)))
    (tmp_path / 'structured.png').write_bytes(b'')
    text = made.evaluation(tmp_path)
    assert text.startswith('### Answers that have a form at any cut\n\n`timebill bench structured`')
    assert words in text and 'limit of 192 tokens' in text and bar in text and '25 ms before its deadline' in text
    assert text.endswith('![Answers that have a form at any cut](../results/structured.png)')
    rows, budgets = tables(text)
    assert len(rows) == 2 + 2 * len(ways) and len(budgets) == 2 + len(ways), 'budgets of all schemas together'
    assert rows[2] == ['drop', 'all', '1,000', '400', '450', '100', '50', '0', '0', '0', '98 %', '420 in 410 texts']
    assert budgets[2][:3] == ['drop', '5 % to 20 %', '1,000']
    assert all(len({len(line) for line in one}) == 1 for one in (rows, budgets))


def test_a_row_without_texts_that_were_cut(made):
    cells = made.structured_tables.cells(row('close', 'all', n=0, own_share=None, dropped_items=0))
    assert cells[0] == '0' and cells[-2:] == ['', '']


def test_the_wait_for_a_mask(made, tmp_path):
    (tmp_path / 'structured_mask.json').write_text(json.dumps({
        'machine': {**MACHINE, 'steps': ['compiled']}, 'shape': 'Qwen2.5-0.5B', 'words': 131072, 'logits': 151936,
        'pairs': 300, 'cache_tokens': 500, 'step_ms': 60.0, 'masked_step_ms': 60.3, 'wait_us': 300.0,
        'wait_quartiles_us': [200.0, 400.0], 'mask_us': 90.0, 'mask_p99_us': 140.0, 'share': 0.005,
        'mask_share': 0.0015, 'bar': 0.03, 'met': True}))
    text = made.evaluation(tmp_path)
    assert text.startswith('### The wait for a mask') and '131,072 words that are made up' in text
    (found,) = tables(text)
    assert ['as a share of a step (bar)', '0.50 % (3 %)'] in found
    assert ['wait for the mask: median of the differences in pairs (quartiles)', '300 us (200 to 400)'] in found
