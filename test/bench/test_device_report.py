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

"""What the bench of a device says: which steps are used and why, and how far this project's aims are met."""
from __future__ import annotations

import pytest

from timebill_ros.bench.device_report import eviction_effects, goals, show, step_lines


def row(method, ratio, ms, *, profiled=None, speedup=1.0, share=0.5, n=4096):
    made = {'method': method, 'cache_tokens': n, 'eviction_ratio': ratio, 'median_ms': ms, 'p99.9_ms': 2 * ms,
            'speedup': speedup, 'share_of_bandwidth': share}
    return made if profiled is None else {**made, 'profiled_ms': profiled}


def result(**changed):
    return {'shape': 'Qwen2.5-7B', 'dtype': 'bfloat16', 'on': 'cuda', 'load_s': 1.0,
            'held_out': [{'kind': 'prefill', 'from_tokens': 0, 'lengths': 4, 'mape': 0.05},
                         {'kind': 'prefill', 'from_tokens': 1024, 'lengths': 3, 'mape': 0.011},
                         {'kind': 'step', 'from_tokens': 0, 'lengths': 4, 'mape': 0.016}],
            'prediction': [{'setting': 'alone', 'prompt_tokens': 2048, 'prefill_s': 0.1, 'prediction_s': 0.0,
                            'hidden_share': None},
                           {'setting': 'predictor on cuda', 'prompt_tokens': 2048, 'prefill_s': 0.1,
                            'prediction_s': 0.05, 'hidden_share': 0.99}],
            'decode': [row('model.generate', 0.0, 20.0),
                       row('timebill', 0.0, 5.0, profiled=5.1, speedup=4.0, share=0.8),
                       row('timebill', 0.5, 4.5, profiled=4.6, speedup=4.4, share=0.85),
                       row('timebill', 0.0, 6.0, profiled=6.0, speedup=3.1, share=0.72, n=8192),
                       row('timebill', 0.9, 3.0, profiled=3.1, speedup=6.2, n=8192),
                       row('timebill in int4', 0.0, 2.0, profiled=2.0, speedup=10.0, share=0.4)], **changed}


def test_the_first_lines_say_which_steps_are_used_and_why():
    lines = step_lines({'bfloat16': 'fused and captured', 'int4': 'modules', 'int8': 'captured', 'float32':
                        'compiled'}, ['because'])
    assert lines == ['steps in bfloat16: fused, captured as CUDA graphs, which draw the tokens',
                     'steps in int4: not compiled, not captured as CUDA graphs',
                     'steps in int8: not compiled, captured as CUDA graphs, which draw the tokens',
                     'steps in float32: compiled, not captured as CUDA graphs', '  because']


def test_an_aim_is_judged_by_its_worst_row():
    found = {one['aim']: (one['measured'], one['met']) for one in goals(result())}
    assert found == {'times as fast as model.generate': (3.1, True), 'of the read bandwidth': (0.72, True),
                     'error of long prefill': (0.011, True), 'error of steps': (0.016, True),
                     'of the prediction is hidden': (0.99, True),
                     'of a step, by which eviction differs': (pytest.approx(3.1 / 6 - 0.5), True)}


def _with_worse(place, name, value, index):
    changed = result()
    changed[place][index][name] = value
    return changed


@pytest.mark.parametrize(('aim', 'changed'), [
    ('times as fast as model.generate', _with_worse('decode', 'speedup', 2.9, 1)),
    ('of the read bandwidth', _with_worse('decode', 'share_of_bandwidth', 0.69, 3)),
    ('error of long prefill', _with_worse('held_out', 'mape', 0.0121, 1)),
    ('error of steps', _with_worse('held_out', 'mape', 0.018, 2)),
    ('of the prediction is hidden', _with_worse('prediction', 'hidden_share', 0.9, 1)),
    ('of a step, by which eviction differs', _with_worse('decode', 'profiled_ms', 5.0, 4)),
])
def test_an_aim_that_is_missed_is_told(aim, changed, capsys):
    assert [one['aim'] for one in goals(changed) if not one['met']] == [aim]
    show(changed)
    said = capsys.readouterr().out
    assert said.count('NOT MET') == 1 and said.count(': met)') == 5


@pytest.mark.parametrize('changed', [{'shape': 'tiny'}, {'on': 'cpu'}, {'dtype': 'float32'}])
def test_elsewhere_nothing_is_judged(changed, capsys):
    assert {one['met'] for one in goals(result(**changed))} == {None}
    show(result(**changed))
    assert 'met' not in capsys.readouterr().out.lower().replace('method', '')


def test_what_was_not_measured_is_left_out():
    few = result(held_out=[], prediction=result()['prediction'][:1], decode=result()['decode'][:2])
    assert [one['aim'] for one in goals(few)] == ['times as fast as model.generate', 'of the read bandwidth']


def test_the_effect_of_eviction_is_beside_what_the_profile_says():
    assert eviction_effects(result()) == [
        {'cache_tokens': 4096, 'eviction_ratio': 0.5, 'measured': 0.9, 'profiled': pytest.approx(4.6 / 5.1)},
        {'cache_tokens': 8192, 'eviction_ratio': 0.9, 'measured': 0.5, 'profiled': pytest.approx(3.1 / 6)}]
