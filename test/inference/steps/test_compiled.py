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

"""The compiled decode step: the same tokens as the modules, whatever was evicted; kept on disk; never in the way."""
from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import tiny_models
import torch

from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.steps import ahead_of_time, compiling
from timebill_ros.inference.steps import compiled as compiled_steps
from timebill_ros.inference.steps.comparison import Comparison
from timebill_ros.resources import cache_directory

STEPS = cache_directory() / 'steps'  # of the whole test run: nodes of other tests load from it too
IDS = [i * 7 % 90 + 6 for i in range(60)]


def load(kind: str = 'qwen2', directory: Path | None = STEPS, **options) -> CausalLM:
    return CausalLM(str(tiny_models.directory(kind)), device='cpu', threads=1, compiled_steps=directory, **options)


def answers(model: CausalLM, n_tokens: int, n_keep: int | None = None) -> tuple[list[int], list[torch.Tensor]]:
    """Greedy tokens and their logits after IDS, of which `n_keep` entries are kept."""
    model.reset()
    logits, tokens, rows = model.prefill(IDS, chunk_tokens=32), [], []
    if n_keep:
        model.evict(n_keep)
    for position in range(len(IDS), len(IDS) + n_tokens):
        rows.append(logits)
        tokens.append(int(logits.argmax()))
        logits = model.step(torch.tensor(tokens[-1]), position)
    return tokens, rows


@pytest.fixture(scope='module')
def compiled():
    return load()


@pytest.fixture(scope='module')
def modules():
    return load(directory=None)


@pytest.mark.parametrize('n_keep', [None, 30, 1])
def test_it_draws_the_tokens_of_the_modules_whatever_is_evicted(compiled, modules, n_keep):
    assert [step.kind for step in compiled.fast_steps.values()] == ['compiled'] and not modules.fast_steps
    expected, got = answers(modules, 80, n_keep), answers(compiled, 80, n_keep)
    assert got[0] == expected[0]
    torch.testing.assert_close(torch.stack(got[1]), torch.stack(expected[1]), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_layers_with_a_sliding_window_go_past_it(tmp_path):
    model, modules = load('qwen2_sliding', tmp_path), load('qwen2_sliding', None)
    assert model.fast_steps
    assert answers(model, 60, 40)[0] == answers(modules, 60, 40)[0]


def test_eviction_snapshots_and_modules_share_its_slots(compiled, modules):
    """Steps either way may alternate, and a restored snapshot goes on as it did."""
    compiled.reset()
    compiled.prefill(IDS, chunk_tokens=64)
    snapshot, runs = compiled.snapshot(), []
    for order in ('ccmmcc', 'mmccmm'):
        compiled.restore(snapshot)
        step, rows = compiled._step, []
        try:
            for i, way in enumerate(order):
                compiled._step = step if way == 'c' else compiled._reader
                rows.append(compiled.step(torch.tensor(IDS[i]), len(IDS) + i).clone())
        finally:
            compiled._step = step
        runs.append(torch.stack(rows))
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-4, atol=1e-4)


def test_a_second_start_compiles_nothing_and_shares_the_weights(compiled):
    before = compiling.compilations
    again = load()
    assert again.fast_steps and compiling.compilations == before
    step = again.fast_steps['float32']
    with torch.inference_mode():
        expected = answers(again, 3)[1][-1].clone()
        again.model.lm_head.weight.mul_(2.0)
        torch.testing.assert_close(answers(again, 3)[1][-1], 2.0 * expected)
    assert step._weights['model.lm_head.weight'].data_ptr() == again.model.lm_head.weight.data_ptr()


def test_nothing_is_compiled_while_goals_run(compiled):
    from torch._dynamo.utils import counters
    answers(compiled, 5)
    compilations, before = compiling.compilations, {name: dict(values) for name, values in counters.items()}
    for n_keep in (None, 50, 3):
        answers(compiled, 100, n_keep)
    assert compiling.compilations == compilations
    assert {name: dict(values) for name, values in counters.items()} == before


def test_the_cache_may_be_filled_to_its_end_and_no_further():
    fill_to_the_end(load())


def fill_to_the_end(model: CausalLM) -> None:
    model.reset()
    n = model.max_context - 2
    model.prefill([IDS[i % 60] for i in range(n)], chunk_tokens=256)
    for position in (n, n + 1):
        assert model.step(torch.tensor(7), position).isfinite().all()
    with pytest.raises(ValueError, match=f'one sequence of {model.max_context} tokens'):
        model.step(torch.tensor(7), n + 2)


@pytest.mark.parametrize('threads, dtype', [(1, 'bfloat16'), (2, 'float32')])
def test_a_file_is_valid_for_one_precision_and_thread_count(compiled, threads, dtype, monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(compiled_steps, '_make', lambda *arguments: made.append(1) or ({'reason': 'of the test'}, None))
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=threads, dtype=dtype,
                     compiled_steps=copy_of_steps(tmp_path))
    assert made and not model.fast_steps


# -- where it cannot be had ------------------------------------------------------------------------------------------

def test_without_a_compiler_steps_run_through_the_modules_and_the_log_says_so(tmp_path, monkeypatch, caplog, modules):
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    with caplog.at_level('WARNING'):
        model = load(directory=tmp_path)
    assert not model.fast_steps and 'not without a C++ compiler' in caplog.text
    assert not list(tmp_path.glob('*.json')), 'one may be installed later'
    assert answers(model, 10)[0] == answers(modules, 10)[0]


def test_what_fails_for_want_of_a_toolkit_is_told_at_each_start_and_never_noted(tmp_path, monkeypatch, caplog):
    tried = []

    def fails(*arguments, **options):
        tried.append(1)
        raise RuntimeError('backend failed') from OSError('CUDA_HOME environment variable is not set.')

    monkeypatch.setattr(compiled_steps, 'compile_step', fails)
    for _ in range(3):
        caplog.clear()
        with caplog.at_level('WARNING'):
            assert not load(directory=tmp_path).fast_steps
        assert 'not without the CUDA toolkit' in caplog.text
    assert len(tried) == 3 and not list(tmp_path.glob('*.json'))


def test_a_pytorch_that_would_copy_the_weights_compiles_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ahead_of_time, 'refusal', lambda: 'PyTorch 2.6 would hold their weights a second time')
    monkeypatch.setattr(compiled_steps, 'compile_step', None)  # not called
    with caplog.at_level('INFO'):
        assert not load(directory=tmp_path).fast_steps
    assert 'a second time' in caplog.text and not list(tmp_path.iterdir())


def test_what_cannot_be_traced_is_noted_and_tried_once_more(tmp_path, monkeypatch, caplog):
    tried = []

    def fails(*arguments, **options):
        tried.append(1)
        raise RuntimeError('control flow of the test')

    def unsplit(*arguments):
        raise ValueError('no layers in the test')

    monkeypatch.setattr(compiled_steps, 'compile_step', fails)
    monkeypatch.setattr(compiled_steps, 'split', unsplit)
    for _ in range(4):
        with caplog.at_level('INFO'):
            caplog.clear()
            assert not load(directory=tmp_path).fast_steps
        assert 'cannot be compiled (RuntimeError: control flow of the test)' in caplog.text
    assert len(tried) == 2


def test_a_step_that_ends_the_process_is_given_up(tmp_path, monkeypatch, caplog):
    compiled = []

    def ends_the_process(*arguments, **options):
        raise SystemExit  # as far as a test can go: nothing after it runs

    monkeypatch.setattr(compiled_steps, 'compile_step', lambda *arguments, **options: compiled.append(1))
    monkeypatch.setattr(compiled_steps, 'CompiledStep', ends_the_process)
    for _ in range(2):
        with pytest.raises(SystemExit):
            load(directory=tmp_path)
    with caplog.at_level('INFO'):
        assert not load(directory=tmp_path).fast_steps
    assert 'the process ended when its compiled step ran for the first time' in caplog.text and len(compiled) == 2


def copy_of_steps(directory: Path) -> Path:
    """The files of one model, of which there may be more in STEPS."""
    load()
    shutil.copytree(STEPS, directory, dirs_exist_ok=True)
    return directory


def test_one_that_is_slower_or_differs_is_not_used(tmp_path, monkeypatch, caplog, compiled):
    def compile_nothing(model, cache, package, weights):
        source = next(path for path in STEPS.glob('*.pt2') if path.name == package.name)
        shutil.copy(source, package)

    monkeypatch.setattr(compiled_steps, 'compile_step', compile_nothing)
    real = Comparison.times
    monkeypatch.setattr(Comparison, 'times', lambda self, *a: real(self, *a) and [1.0, 2.0])
    with caplog.at_level('INFO'):
        assert not load(directory=tmp_path / 'slower').fast_steps
    assert 'as fast as its compiled step' in caplog.text
    monkeypatch.setattr(Comparison, 'times', lambda self, *a: real(self, *a) and [2.0, 1.0])
    call = compiled_steps.CompiledStep.__call__
    monkeypatch.setattr(compiled_steps.CompiledStep, '__call__',
                        lambda self, *inputs: tuple(output + 1.0 for output in call(self, *inputs)))
    for start in ('first', 'second'):  # the second reads what the first noted
        caplog.clear()
        with caplog.at_level('WARNING'):
            assert not load(directory=tmp_path / 'differs').fast_steps
        assert 'its logits differ from those of the modules' in caplog.text, start
        assert 'a step takes 2000.000 ms instead of 1000.000 ms' in caplog.text


@pytest.mark.parametrize('damage', [lambda package, notes: package.write_bytes(package.read_bytes()[:1000]),
                                    lambda package, notes: notes.write_text('{"reason": 1}'),
                                    lambda package, notes: notes.write_text('no json')])
def test_a_file_that_is_damaged_is_made_again(tmp_path, monkeypatch, compiled, damage):
    copy_of_steps(tmp_path)
    made, real = [], compiled_steps._make

    def make(recipes, cache, facts, judge, about_to_run):
        made.append(1)
        package, = recipes[0].files
        shutil.copy(STEPS / package.name, package)
        return json.loads((STEPS / package.name).with_suffix('.json').read_text()), recipes[0].load()

    monkeypatch.setattr(compiled_steps, '_make', make)
    assert real is not make
    for package in tmp_path.glob('*.pt2'):
        damage(package, package.with_suffix('.json'))
    assert load(directory=tmp_path).fast_steps and made


def test_code_that_others_may_have_written_is_not_run(tmp_path, caplog):
    tmp_path.chmod(0o777)
    with caplog.at_level('INFO'):
        assert not load(directory=tmp_path).fast_steps
    assert f'others may write to {tmp_path}' in caplog.text
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path, caplog):
    (tmp_path / 'file').write_text('')
    with caplog.at_level('INFO'):
        assert not load(directory=tmp_path / 'file' / 'steps').fast_steps
    assert f'{tmp_path / "file" / "steps"} cannot be used' in caplog.text


def test_models_on_a_cache_of_their_own_have_none(tmp_path):
    assert not load('mamba', tmp_path).fast_steps and not list(tmp_path.iterdir())
