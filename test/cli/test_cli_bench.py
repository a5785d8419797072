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

"""`timebill bench` for what needs no node, whole and as small as it gets: the rows that each result has."""
import json

import pytest
import tiny_models
import torch

from timebill_ros.cli import bench
from timebill_ros.cli.main import main, parser
from timebill_ros.inference.devices import is_emulated


def run(*arguments: str) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.slow
def test_bench_decode_compares_with_generate(tmp_path):
    out = tmp_path / 'decode.json'
    assert run('bench', 'decode', '--model', tiny_models.build(tmp_path / 'm', 'qwen2', max_position_embeddings=2048),
               '--max-context-tokens', '1100', '--tokens', 8, '--rounds', 2, '--out', out) == 0
    result = json.loads(out.read_text())
    assert result['machine']['device'] and result['machine']['versions']['torch']
    rows = result['rows']
    assert {(row['method'], row['cache_tokens']) for row in rows} == {  # 4000 tokens do not fit this model
        ('model.generate', 1000), ('model.generate, static cache', 1000), ('bare loop', 1000), ('timebill', 1000)}
    assert [row['cache_tokens'] for row in result['loop_overhead']] == [1000]
    assert 0 < result['planning_call']['median_us'] <= result['planning_call']['p99_us']
    assert max(row['speedup'] for row in rows if row['method'].startswith('model.generate')) == 1.0
    assert 'p99.9_ms' in result['jitter'] and 'shape' not in result
    for row in rows:
        assert row['n'] >= 2 * 6 and 0 < row['median_ms'] <= row['p99_ms']


@pytest.mark.slow
def test_bench_decode_of_a_shape_has_every_precision_and_what_it_costs_in_quality(tmp_path, monkeypatch):
    from timebill_ros.bench import precision
    monkeypatch.setattr(precision, 'N_TASKS', 1)
    out = tmp_path / 'decode.json'
    assert run('bench', 'decode', '--model', tiny_models.build(tmp_path / 'm', 'qwen2', max_position_embeddings=2048),
               '--max-context-tokens', '1100', '--tokens', 8, '--rounds', 1, '--compile-step', 'never',
               '--shape', 'tiny', '--out', out) == 0
    result = json.loads(out.read_text())['shape']
    ours = {row['precision'] for row in result['rows'] if row['method'] == 'timebill'}
    own = 'float32' if is_emulated(torch.bfloat16) else 'bfloat16'  # of prefill
    assert ours == {'float32', own, f'int8 after {own}', f'int4 after {own}'}
    assert all(row['median_ms'] > 0 and not row['compiled'] for row in result['rows'])
    assert {row['precision'] for row in result['quality']} == {'float32', 'bfloat16', 'float16', 'int8', 'int4'}


@pytest.mark.slow
def test_bench_device_on_a_cpu(tmp_path, capsys):
    out = tmp_path / 'device.json'
    assert run('bench', 'device', '--shapes', 'tiny', '--longest', 300, '--seconds', 2, '--tokens', 4, '--rounds', 1,
               '--device', 'cpu', '--threads', 1, '--compile-step', 'never', '--variants', 'int8', '--out', out) == 0
    first = capsys.readouterr().out.splitlines()[:4]
    precision = 'float32' if is_emulated(torch.bfloat16) else 'bfloat16'
    assert first[:3] == ['tiny:', f'  steps in {precision}: not compiled, not captured as CUDA graphs',
                         '  steps in int8: not compiled, not captured as CUDA graphs'] and 'GB/s' in first[3]
    result = json.loads(out.read_text())
    shape, = result['shapes']
    assert result['read_bandwidth_bytes_per_s'] > 0 and shape['held_out'] and shape['eviction']
    assert {(row['method'], row['eviction_ratio']) for row in shape['decode']} == {
        ('model.generate', 0.0), ('timebill', 0.0), ('timebill', 0.5), ('timebill', 0.9), ('timebill in int8', 0.0)}
    assert [row['setting'] for row in shape['prediction']] == ['alone', 'predictor on cpu']
    assert 0.0 <= shape['prediction'][1]['hidden_share'] <= 1.0 and len(shape['goals']) >= 4
    assert out.with_suffix('.png').is_file()
    assert run('bench', 'device', '--shapes', 'Qwen9') == 1


BENCHES = ['decode', 'quality', 'budgets', 'length-predictor', 'execution-time', 'miss-rate', 'knobs', 'load',
           'utilisation', 'device', 'deadlines', 'k-sweep', 'reversible', 'wcet', 'parallel', 'prefix', 'fleet',
           'structured', 'offboard', 'all']


@pytest.mark.parametrize('name', BENCHES)
def test_help_says_how_long_a_bench_takes(name, capsys):
    for arguments in (['bench', name, '--help'], ['bench', '--help']):
        with pytest.raises(SystemExit):
            run(*arguments)
        told = ' '.join(capsys.readouterr().out.split())
        assert f'It takes about {bench.TAKES[name]}.' in told
    assert set(bench.TAKES) == set(BENCHES)


@pytest.mark.parametrize('name', BENCHES)
def test_no_bench_writes_over_committed_results_unless_told_to(name):
    files = ['--onboard', 'a', '--server', 'b'] if name == 'fleet' else []  # which it cannot do without
    options = vars(parser().parse_args(['bench', name, *files]))
    written = [options[output] for output in ('out', 'table', 'recordings') if options.get(output) is not None]
    assert all(path.parts[0] == 'build' for path in written), written
    # A file is named after the device (bench/device.py), or after what is measured (cli/bench_structured.py).
    assert written or name in ('device', 'structured')


def test_a_profile_for_execution_time_is_measured_by_another_process(tmp_path, monkeypatch):
    from timebill_ros.bench import execution_time
    commands = []
    monkeypatch.setattr(bench.subprocess, 'run', lambda command, check: commands.append(command))
    monkeypatch.setattr(execution_time, 'run', lambda values, out, *, make_profile, **_: make_profile(tmp_path / 'p'))
    run('bench', 'execution-time', '--threads', 2, '--max-context-tokens', 512, '--seconds', 7)
    (python, *arguments), = commands
    assert arguments[:2] == ['-m', 'timebill_ros.cli']
    options = parser().parse_args(arguments[2:])
    assert (options.command, options.out, options.seconds) == ('profile', tmp_path / 'p', 7.0)
    assert (options.threads, options.max_context_tokens, options.compile_step) == (2, 512, 'auto')
