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

"""The bench of speed: how rows are compared with llama.cpp's, and a whole run as small as it gets."""
import json
import sys

import pytest
import tiny_models

from timebill_ros.bench import llama_peer, speed
from timebill_ros.cli.main import main
from timebill_ros.inference import devices


def rows(ours: dict[str, float], theirs: dict[str, float]) -> list[dict]:
    """Rows of steps that take so many milliseconds, and of prefills that take ten times as many seconds."""
    return [{'method': method, 'precision': name, 'median_ms': ms, 'best_round_ms': 0.9 * ms, 'prefill_s': 10 * ms,
             'best_prefill_s': 9 * ms} for method, steps in ((speed.OURS, ours), (speed.LLAMA, theirs))
            for name, ms in steps.items()]


def test_bars_compare_each_precision_with_its_peer():
    found = speed.bars(rows({'bfloat16': 3.0, 'int8 after bfloat16': 2.0, 'int4 after bfloat16': 1.0},
                            {'F16': 2.0, 'Q8_0': 2.0, 'Q4_1': 4.0}))
    assert [bar['ratio'] for bar in found] == [1.5, 1.0, 0.25, 1.5]
    assert [bar['bar'] for bar in found] == [1.0, 1.0, 1.2, 0.7]
    assert [round(bar['best_ratio'], 6) for bar in found] == [1.5, 1.0, 0.25, 1.5]
    assert found[0]['what'] == 'step, bfloat16 against F16'
    assert speed.bars(rows({'bfloat16': 3.0}, {})) == []


def test_on_a_processor_that_emulates_half_precision_the_model_is_computed_in_float32():
    made = rows({'float32': 3.0, 'int8 after float32': 2.0, 'int4 after float32': 1.0},
                {'F16': 2.0, 'Q8_0': 2.0, 'Q4_1': 4.0})
    made[0]['reads'] = 'bfloat16'
    assert [bar['what'] for bar in speed.bars(made)] == [
        'step, float32 (weights in bfloat16) against F16', 'step, int8 after float32 against Q8_0',
        'step, int4 after float32 against Q4_1', "prefill, float32 against llama.cpp's quickest"]


def test_the_best_round_is_the_one_with_the_lowest_median():
    found = speed.summary(speed.Times(prefills=[2.0, 4.0, 1.0], steps=[[0.3, 0.4, 9.0], [0.2, 0.5, 0.6]]))
    assert found['best_round_ms'] == pytest.approx(400.0) and found['best_prefill_s'] == 1.0
    assert found['prefill_s'] == 2.0 and found['prefill_tokens_per_s'] == speed.N_PROMPT / 2.0 and found['n'] == 6


def test_a_model_is_measured_beside_transformers(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, 'is_emulated', lambda dtype: False)
    monkeypatch.setitem(sys.modules, 'llama_cpp', None)
    assert not llama_peer.is_installed()
    out = tmp_path / 'speed.json'
    name = str(tiny_models.build(tmp_path / 'tiny', 'qwen2', max_position_embeddings=1024))
    assert main(['bench', 'decode', '--model', name, '--speed', '--only-speed', '--rounds', '1', '--out', str(out),
                 '--compile-step', 'never', '--threads', '1']) == 0
    found = json.loads(out.read_text())['model']
    assert [(row['method'], row['precision']) for row in found['rows']] == [
        ('timebill', 'bfloat16'), ('timebill', 'int8 after bfloat16'), ('timebill', 'int4 after bfloat16'),
        ('timebill', 'float32'), ('model.generate', 'bfloat16'), ('model.generate', 'float32')]
    assert all(row['prefill_s'] > 0 and row['median_ms'] > 0 for row in found['rows']) and found['bars'] == []
