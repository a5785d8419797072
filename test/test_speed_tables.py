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

"""The table of speed beside other runtimes, from what `timebill bench decode --speed` writes."""
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / 'scripts'


@pytest.fixture
def made(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, 'path', list(sys.path))
    import speed_tables
    return speed_tables


def test_a_row_says_what_weights_are_read(made):
    row = {'median_ms': 12.34, 'best_round_ms': 11.06, 'p99_ms': 20.0, 'prefill_tokens_per_s': 512.4}
    data = {'model': 'small', 'prompt_tokens': 512, 'threads': 2, 'rounds': 6,
            'rows': [{'method': 'timebill', 'precision': 'float32', 'reads': 'bfloat16', **row},
                     {'method': 'llama.cpp', 'precision': 'F16', **row}],
            'bars': [{'what': 'step, float32 against F16', 'bar': 1.0, 'ratio': 0.987, 'best_ratio': 0.9}]}
    facts, table, bars = made.speed(data).split('\n\n')
    assert facts == 'small, 512 tokens of prompt, 2 threads, 6 interleaved rounds.'
    assert table.splitlines()[2:] == ['| timebill | float32 (weights in bfloat16) | 12.3 | 11.1 | 20.0 | 512 |',
                                      '| llama.cpp | F16 | 12.3 | 11.1 | 20.0 | 512 |']
    assert bars == ('- step, float32 against F16: 0.99 times as long (0.90 by best rounds); aimed at: 1.0 at most')
    assert made.speed({**data, 'bars': []}).count('\n\n') == 1
