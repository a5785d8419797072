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

"""Every kind of step answers as the modules do: logits, last hidden state, cache; and only such a step is chosen."""
import pytest
import torch
from test_captured import capturer
from test_compiled import IDS, load

from timebill_ros.inference.steps import captured


@pytest.fixture(scope='module', params=['modules', pytest.param('compiled', marks=pytest.mark.slow), 'captured'])
def model(request):
    """Load a model whose steps are of that kind; captured ones by a stand-in for CUDA graphs."""
    one = load() if request.param == 'compiled' else load(directory=None)
    if request.param == 'captured':
        with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
            patch.setattr(captured, 'capturer', capturer)
            one.prefill(IDS, chunk_tokens=64)
            one.steps['float32'] = captured.CapturedStep(one.steps['float32'], one.cache)
        one.use_variant('float32')
    assert one._step.kind == request.param
    return one


@pytest.fixture(scope='module')
def modules():
    return load(directory=None)


@pytest.mark.parametrize('n_keep', [None, 30])
def test_it_gives_the_logits_and_the_hidden_state_of_the_modules(model, modules, n_keep):
    found = []
    for one in (model, modules):
        one.reset()
        one.prefill(IDS, chunk_tokens=64)
        if n_keep:
            one.evict(n_keep)
        for i in range(3):
            logits = one.step(torch.tensor(IDS[i]), len(IDS) + i)
        found.append((logits.clone(), one.hidden.clone()))
        assert one.cache.lengths == [(n_keep or len(IDS)) + 3] * len(one.cache.layers)
        one.check()
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_the_hidden_state_is_what_the_head_reads(model):
    model.reset()
    model.prefill(IDS, chunk_tokens=64)
    assert model.hidden.shape == (model.model.config.hidden_size,)
    logits = model.step(torch.tensor(IDS[0]), len(IDS))
    with torch.inference_mode():
        torch.testing.assert_close(model.model.get_output_embeddings()(model.hidden), logits, rtol=1e-4, atol=1e-4)
