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

"""The benches of execution times, miss rates and knobs, whole and as small as they get, on the embedded model."""
import json
import re

import pytest
import tiny_models
from transformers import AutoModelForCausalLM

from timebill_ros.bench import token_times
from timebill_ros.bench.token_times import between
from timebill_ros.cli.main import main
from timebill_ros.inference.model import CausalLM
from timebill_ros.planning.quality_table import QualityTable
from timebill_ros.settings import check
from timebill_ros.timing.profiling import make_profile, measure
from timebill_ros.worker.loading import load_model

PLAIN = ('--compile-step', 'never')  # compiling takes longer than what is tested here


@pytest.fixture(scope='module')
def profile(tmp_path_factory):
    model, predictor, _ = load_model(check({'threads': 1, 'compile_step': 'never'}))
    path = tmp_path_factory.mktemp('profile') / 'profile.yaml'
    make_profile(model, predictor, measure(model, predictor, chunk_tokens=256, budget_s=3.0, repeats=2, n_lengths=4,
                                           longest=1000), 256).save(path)
    return path


def is_picture(path):
    return path.read_bytes().startswith(b'\x89PNG')


def test_lengths_between_those_of_a_profile():
    assert between([64, 64, 256, 1024]) == [128, 512]


@pytest.mark.parametrize('static', [False, True])
def test_generate_goes_past_the_end_of_the_text_as_our_loop_does(static):
    """Every token would end it."""
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1)
    reference = AutoModelForCausalLM.from_pretrained(model.name).eval()
    reference.generation_config.eos_token_id = [*range(tiny_models.VOCABULARY)]
    assert len(token_times.time_generate(reference, [9, 10, 11], 70, static=static)) == 69
    # Plans made again read the clock, too, and the last token needs none.
    ours, bare = (time(model, [9, 10, 11], 70, 16) for time in (token_times.time_ours, token_times.time_bare))
    assert len(ours) == len(bare) == 68


@pytest.mark.slow
def test_execution_time(profile, tmp_path):
    out = tmp_path / 'times.json'
    assert main(['bench', 'execution-time', '--out', str(out), '--profile', str(profile), '--repeats', '1',
                 '--requests', '3', '--threads', '1', '--max-new-tokens', '20', '--competing-load', *PLAIN]) == 0
    result = json.loads(out.read_text())
    assert [(row['condition'], row['kind']) for row in result['rows']] == [
        (condition, kind) for condition in ('as the machine is', 'competing load') for kind in ('prefill', 'step')]
    assert all(row['mape'] >= 0 and row['residual_p50'] <= row['residual_p99'] for row in result['rows'])
    assert [row['condition'] for row in result['requests']] == ['as the machine is', 'competing load']
    assert result['machine']['device'] and is_picture(out.with_suffix('.png'))


def test_a_profile_that_still_fits_and_one_that_does_not(profile, capsys):
    arguments = ['profile', '--threads', '1', '--seconds', '3', '--longest', '600', *PLAIN, '--check']
    main([*arguments, str(profile)])  # a shared machine may have changed since; that it answers is enough
    said = capsys.readouterr().out
    assert 'step' in said and ('still fits' in said or 'does not fit any more' in said)
    slow = profile.with_name('slow.yaml')
    text = profile.read_text()
    q = next(line for line in text.splitlines() if line.startswith('    q: '))
    slow.write_text(text.replace(q, '    q: 1.0'))
    assert main([*arguments, str(slow)]) == 1
    # On a busy machine prefill may be unlike its profile too.
    assert re.search(r'does not fit any more: (prefill, )?step', capsys.readouterr().out)
    other = profile.with_name('other.yaml')
    other.write_text(text.replace('dtype: float32', 'dtype: bfloat16'))
    assert main([*arguments, str(other)]) == 1
    assert "made for dtype 'bfloat16'" in capsys.readouterr().err


@pytest.mark.slow
def test_miss_rate(profile, tmp_path):
    out, kept = tmp_path / 'misses.json', tmp_path / 'recordings.json'
    arguments = ['bench', 'miss-rate', *PLAIN, '--out', str(out), '--profile', str(profile), '--recordings', str(kept),
                 '--prompts', '2', '--replays', '1', '--requests', '6', '--live', '2', '--max-new-tokens', '16',
                 '--processes', '1', '--threads', '1']
    assert main(arguments) == 0
    result = json.loads(out.read_text())
    assert len(result['rows']) == 5 * 7 + 2 * 5 * 3 and len(result['live']) == 2  # fixed factors know no epsilon
    assert {row['n'] for row in result['rows']} == {6} and result['bars'].keys() == {'0.05', '0.01', '0.2'}
    assert all(bars['conditions'].keys() == {'nominal', 'prompt shift', 'slow', 'both', 'tight'}
               for bars in result['bars'].values())
    assert all(row['latest_end_s'] < 5.0 for row in result['live'])
    assert is_picture(out.with_suffix('.png'))
    before = kept.stat().st_mtime_ns
    assert main([*arguments[:-6], '--live', '0', '--max-new-tokens', '16']) == 0
    assert kept.stat().st_mtime_ns == before, 'recorded once'


@pytest.mark.slow
def test_knobs(tmp_path):
    out, table = tmp_path / 'knobs.json', tmp_path / 'quality_table.json'
    assert main(['bench', 'knobs', '--out', str(out), '--table', str(table), '--prompts', '2', '--requests', '3',
                 '--max-new-tokens', '16', '--seconds', '3', '--processes', '1', '--variants', 'int8', *PLAIN]) == 0
    assert set(QualityTable.load(table).variants) == {'float32', 'int8'}
    result = json.loads(out.read_text())
    assert {row['method'] for row in result['rows']} == {'eviction only', 'knobs'}
    assert set(result['steps']) == {'float32', 'int8'} and is_picture(out.with_suffix('.png'))


@pytest.mark.parametrize('arguments', [
    ['miss-rate', '--profile', '/nonexistent/profile.yaml'], ['execution-time', '--profile', '/nonexistent/p.yaml'],
    ['knobs', '--variants', 'int3'],
])
def test_what_cannot_be_measured_is_a_sentence(arguments, capsys):
    assert main(['bench', *arguments]) == 1
    assert capsys.readouterr().err.startswith('timebill bench: ')
