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
from test_compiled import IDS, STEPS, load

from timebill_ros.inference.steps import captured, choice
from timebill_ros.inference.steps.interface import Step, StepUnavailable


@pytest.fixture(scope='module', params=['modules', 'compiled', 'captured'])
def model(request):
    """Load a model whose steps are of that kind; captured ones by a stand-in for CUDA graphs."""
    one = load() if request.param == 'compiled' else load(directory=None)
    if request.param == 'captured':
        with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
            patch.setattr(captured, 'capturer', capturer)
            one.prefill(IDS, chunk_tokens=64)
            one.steps['float32'] = captured.CapturedStep(one.steps['float32'], one.cache, one._token, one._position)
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


def test_a_comparison_leaves_the_cache_as_it_was(modules):
    modules.reset()
    modules.prefill(IDS, chunk_tokens=64)
    seconds = choice.compare([modules._reader, modules._reader], modules.cache, modules._token, modules._position)
    assert len(seconds) == 2 and min(seconds) > 0
    assert modules.cache.lengths == [len(IDS)] * len(modules.cache.layers)


# -- what a comparison must see --------------------------------------------------------------------------------------

class Wrong(Step):
    """Steps through the modules, but with `change` applied to (position, cache) before or to the logits after."""

    kind = 'wrong'

    def __init__(self, modules, *, position=0, hide=0, error=0.0, from_length=0):
        self.modules, self.position, self.hide, self.error = modules, position, hide, error
        self.from_length = from_length

    def __call__(self, token, position):
        cache = self.modules.cache
        if cache.lengths[0] < self.from_length:
            return self.modules(token, position)
        moved = position + self.position
        saved = [layer.keys[:, :, :self.hide].clone() for layer in cache.layers]
        for layer in cache.layers:
            layer.keys[:, :, :self.hide] = 0.0
        logits, hidden = self.modules(token, moved)
        for layer, keys in zip(cache.layers, saved, strict=True):
            layer.keys[:, :, :self.hide] = keys
        noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
        return logits + self.error * logits.norm() * noise / noise.norm(), hidden


@pytest.fixture
def as_chosen(monkeypatch):
    """What a model hands to `choice.choose` while it is loaded: its cache holds the tokens that steps are judged by."""
    seen = []

    def judge(modules, token, position, **facts):
        for step in [Wrong(modules), *(Wrong(modules, **wrong) for wrong in WRONG)]:
            try:
                choice.compare([modules, step], modules.cache, token, position)
                seen.append('alike')
            except ValueError as error:
                seen.append(str(error))
        return modules

    monkeypatch.setattr(choice, 'choose', judge)
    load(directory=STEPS)
    return seen


WRONG = [dict(position=400), dict(position=1), dict(hide=24), dict(hide=4), dict(error=0.01), dict(error=0.001)]


def test_wrong_positions_hidden_slots_and_small_errors_are_seen(as_chosen):
    assert as_chosen == ['alike', *['its logits are not those of the modules'] * len(WRONG)]


def test_graphs_are_judged_over_a_full_cache_too(modules, monkeypatch):
    modules.reset()
    modules.prefill(IDS, chunk_tokens=64)
    reader, capacity = modules._reader, modules.cache.capacity
    for n, refused in ((capacity - 1, True), (capacity, False)):
        step = Wrong(reader, error=0.01, from_length=n)
        step.n_graphs = 1
        monkeypatch.setattr(captured, 'CapturedStep', lambda *arguments, step=step: step)
        real = choice.compare
        monkeypatch.setattr(choice, 'compare', lambda steps, *a, real=real: real(steps, *a) and [1.0] * len(steps))
        try:
            assert choice.capture(reader, reader, modules._token, modules._position) is step and not refused
        except StepUnavailable as error:
            assert refused and 'its logits are not those of the modules' in str(error)
        monkeypatch.undo()
        assert modules.cache.lengths == [len(IDS)] * len(modules.cache.layers)
