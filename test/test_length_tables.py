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

"""The tables of predicted lengths, of results of both test beds and of earlier versions."""
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / 'scripts'


@pytest.fixture
def made(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, 'path', list(sys.path))
    import length_tables
    return length_tables


def row(method, split, family='all', **more):
    return {'method': method, 'split': split, 'family': family, 'n': 10, 'mae': 12.25 if split == 'matched' else 13.75,
            'rmse': 28.0, 'r2': 0.877, 'r2_within_families': None, **more}


def test_an_earlier_result_has_neither_scores_nor_real_text(made):
    rows = [row(method, split, family) for method in ('classifier', 'oracle') for split in ('matched', 'shifted')
            for family in ('all', 'find')]
    assert made.predicted_lengths({'rows': rows}) == '\n'.join([
        '|  | MAE | RMSE | R2 | R2 within families | MAE, shifted split |', '|---|---:|---:|---:|---:|---:|',
        '| classifier | 12.2 | 28.0 | 0.877 | - | 13.8 |', '| oracle | 12.2 | 28.0 | 0.877 | - | 13.8 |'])


def test_both_test_beds_and_what_is_left_of_answers(made):
    rows = [row(method, split, bed=bed, crps=None if method == 'regression' else 8.125, log_loss=3.5)
            for bed in ('site log', 'text') for method in ('regression', 'states') for split in ('matched', 'shifted')]
    facts = {'model': 'small', 'dtype': 'float32', 'goals_learned_from': 1000, 'prompts_judged': 300,
             'kinds_left_out_when_shifted': ['b', 'd'], 'max_new_tokens': 256}
    remaining = [{'bed': 'text', 'method': method, 'tokens': tokens, 'crps': crps,
                  'crps_less_than_marginal': less} for tokens in (16, 64)
                 for method, crps, less in (('conditional marginal', 40.0, 0.0), ('states', 30.0, 0.25))]
    text = made.predicted_lengths({'rows': rows, 'beds': {'site log': {}, 'text': facts}, 'remaining': remaining})
    site_log, head, real, left, last = text.split('\n\n')
    assert site_log.splitlines()[0] == ('|  | MAE | CRPS | log loss | RMSE | R2 | R2 within families | '
                                        'MAE, shifted split | CRPS, shifted split |')
    assert real.splitlines()[2:] == ['| regression | 12.2 | - | 3.50 | 28.0 | 0.877 | - | 13.8 | - |',
                                     '| states | 12.2 | 8.1 | 3.50 | 28.0 | 0.877 | - | 13.8 | 8.1 |']
    assert head == ('Real text, small: learned from 1,000 prompts, judged on 300 others; on the shifted '
                    'split, kinds that were not among them (b, d). Answers were cut at 256 tokens.')
    assert 'CRPS' in left and last.splitlines()[-1] == '| states | 30.0 (25 %) | 30.0 (25 %) |'
    alone = made.predicted_lengths({'rows': [one for one in rows if one['bed'] == 'text'], 'beds': {'text': facts}})
    assert alone == f'{head}\n\n{real}'
