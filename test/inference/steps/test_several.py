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

"""Several tokens in one step leave what the same tokens leave one by one, after an eviction too."""
import pytest
import tiny_models
import torch

from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.steps.several import append

TOKENS = [9, 60, 31, 77, 18]
PROMPT = tiny_models.prompt_ids(60)


@pytest.mark.parametrize('kind', ['qwen2', 'qwen2_sliding', 'gemma2', 'mistral_sliding', 'deepseek_v3', 'mamba'])
@pytest.mark.parametrize('n_keep', [None, 40])
def test_as_good_as_one_by_one(kind, n_keep):
    model = CausalLM(str(tiny_models.directory(kind)), device='cpu', threads=1)
    if n_keep and not model.supports_eviction:
        pytest.skip('nothing is evicted from its cache')

    def begin():
        model.reset()
        model.prefill(PROMPT, chunk_tokens=64)
        if n_keep:
            model.evict(n_keep)

    begin()
    together = append(model, TOKENS, len(PROMPT)).clone()
    behind = model.step(torch.tensor(7), len(PROMPT) + len(TOKENS)).clone()
    begin()
    for i, token in enumerate(TOKENS):
        single = model.step(torch.tensor(token), len(PROMPT) + i)
    torch.testing.assert_close(together, single, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(behind, model.step(torch.tensor(7), len(PROMPT) + len(TOKENS)), rtol=1e-3, atol=1e-3)
    model.check()


@pytest.mark.parametrize('kind', ['qwen2', 'mamba'])
@pytest.mark.parametrize(('wide_from', 'n_steps'), [(None, 0), (2, 0), (5, 0), (6, 5), (1 << 30, 5)])
def test_few_tokens_take_the_steps_that_single_ones_take(kind, wide_from, n_steps, monkeypatch):
    model = CausalLM(str(tiny_models.directory(kind)), device='cpu', threads=1)
    model.reset()
    model.prefill(PROMPT, chunk_tokens=64)
    if wide_from is not None:
        model.wide_from = wide_from
    steps, step = [], model.step

    def noted(token, position):
        steps.append((int(token), position))
        return step(token, position)

    monkeypatch.setattr(model, 'step', noted)
    append(model, TOKENS, len(PROMPT))
    expected = [(token, len(PROMPT) + i) for i, token in enumerate(TOKENS)]
    assert steps == (expected if n_steps or getattr(model, 'cache', None) is None else [])
