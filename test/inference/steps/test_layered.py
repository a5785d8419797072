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

"""A compiled step of many layers: one program for each kind of them, the tokens of the modules."""
import pytest
import tiny_models
import torch

from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.steps import compiling, layered
from timebill_ros.inference.steps.layered import LayeredStep

IDS = tiny_models.prompt_ids(60)
MIXED = {'layer_types': ['sliding_attention', 'full_attention', 'sliding_attention'] * 3}

pytestmark = pytest.mark.slow


def answers(model: CausalLM, n_keep: int | None = None) -> list[int]:
    model.reset()
    logits, tokens = model.prefill(IDS, chunk_tokens=32), []
    if n_keep:
        model.evict(n_keep)
    for position in range(len(IDS), len(IDS) + 40):
        tokens.append(int(logits.argmax()))
        logits = model.step(torch.tensor(tokens[-1]), position)
    return tokens


@pytest.mark.parametrize(('kind', 'n_files', 'options'), [
    ('qwen2', 3, {}), ('gemma3', 4, MIXED), ('llama', 3, {'hidden_size': 64})])
def test_it_draws_the_tokens_of_the_modules(tmp_path, kind, n_files, options):
    name = str(tiny_models.build(tmp_path / 'model', kind, num_hidden_layers=9, **options))
    before = compiling.compilations
    model = CausalLM(name, device='cpu', threads=1, compiled_steps=tmp_path / 'steps')
    modules = CausalLM(name, device='cpu', threads=1)
    assert isinstance(model.fast_steps['float32'], LayeredStep) and compiling.compilations == before + n_files
    for n_keep in (None, 30, 1):
        assert answers(model, n_keep) == answers(modules, n_keep)
    again = CausalLM(name, device='cpu', threads=1, compiled_steps=tmp_path / 'steps')
    assert again.fast_steps and compiling.compilations == before + n_files, 'loaded'
    assert answers(again) == answers(modules)
    model.reset()
    n = model.max_context - 1
    model.prefill([IDS[i % 60] for i in range(n)], chunk_tokens=256)
    assert model.step(torch.tensor(7), n).isfinite().all()
    with pytest.raises(ValueError, match=f'one sequence of {model.max_context} tokens'):
        model.step(torch.tensor(7), n + 1)


def test_parts_that_are_compiled_are_kept_when_a_start_is_interrupted(tmp_path, monkeypatch):
    name, made = str(tiny_models.build(tmp_path / 'model', 'qwen2', num_hidden_layers=9)), []
    real = layered.compile_program

    def compile_program(program, package, weights=None):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(package.name)
        real(program, package, weights)

    monkeypatch.setattr(layered, 'compile_program', compile_program)
    with pytest.raises(KeyboardInterrupt):
        CausalLM(name, device='cpu', threads=1, compiled_steps=tmp_path / 'steps')
    monkeypatch.undo()
    before = compiling.compilations
    assert CausalLM(name, device='cpu', threads=1, compiled_steps=tmp_path / 'steps').fast_steps
    assert compiling.compilations == before + 1
    damaged = next((tmp_path / 'steps').glob('*-layer0.pt2'))
    damaged.write_bytes(damaged.read_bytes()[:1000])
    before = compiling.compilations
    assert CausalLM(name, device='cpu', threads=1, compiled_steps=tmp_path / 'steps').fast_steps
    assert compiling.compilations > before
