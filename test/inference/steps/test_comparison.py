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

"""What a comparison of steps must see, in the precisions that weights come in."""
from __future__ import annotations

import copy
from contextlib import closing, nullcontext

import pytest
import torch
from test_captured import capturer
from test_compiled import load

from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.steps import captured, choice
from timebill_ros.inference.steps.comparison import LEAST, Comparison, StepDiffers, _middle_and_worst, in_float32
from timebill_ros.inference.steps.interface import Step
from timebill_ros.inference.steps.modules import ModuleStep
from timebill_ros.inference.steps.step_module import BucketStep

N = 34  # entries that the cache holds before a comparison
DTYPES = ['float32', 'bfloat16', 'float16']


def prepared(dtype: str):
    """Return (steps through the modules, token, position) of a small model, whose cache holds N varied tokens."""
    one = load(directory=None, dtype=dtype)
    one.reset()
    one.prefill([(11 + 37 * i) % 90 for i in range(N)], chunk_tokens=N)
    one.cache.clear_on_reset()
    return one._reader, one._token, one._position


@pytest.fixture(scope='module', params=DTYPES)
def comparison(request):
    with closing(Comparison(*prepared(request.param))) as one:
        yield one


class Wrong(Step):
    """Steps through the modules over what `change` makes of a copy of the cache; the new entry goes to the real one.

    change(cache, n, token, position) -> (token, position), with the n entries before the step.
    """

    kind = 'wrong'

    def __init__(self, modules, change):
        self.modules, self.change = modules, change

    def __call__(self, token, position):
        cache = self.modules.cache
        n = cache.lengths[0]
        saved = [layer.snapshot() for layer in cache.layers]
        spared = [(layer.keys[:, :, n + 1:].clone(), layer.values[:, :, n + 1:].clone()) for layer in cache.layers]
        token, position = self.change(cache, n, token, position)
        outputs = self.modules(token, position)
        added = [(layer.keys[:, :, layer.length - 1].clone(), layer.values[:, :, layer.length - 1].clone())
                 for layer in cache.layers]
        for layer, old, rest, (key, value) in zip(cache.layers, saved, spared, added, strict=True):
            layer.restore(*old)
            layer.keys[:, :, n], layer.values[:, :, n] = key, value
            layer.keys[:, :, n + 1:], layer.values[:, :, n + 1:] = rest
            layer.length = n + 1
        return outputs


def keep(cache, slots):
    for layer in cache.layers:
        layer.keep(torch.tensor(slots).expand(layer.keys.shape[1], -1))


def moved_by(by):
    return lambda cache, n, token, position: (token, position + by)


def only_itself(cache, n, token, position):
    cache.lengths = [0] * len(cache.layers)
    return token, position


def five_slots(cache, n, token, position):
    keep(cache, range(n - 5, n))
    return token, position


def without(which):
    """Leave one entry out: the first, one in the middle, or the last."""
    def change(cache, n, token, position):
        keep(cache, [slot for slot in range(n) if slot != which(n)])
        return token, position
    return change


def hidden_shown(cache, n, token, position):
    """Show the slot after the new token's: it takes the place of one that the model gives little weight."""
    for layer in cache.layers:
        layer.keys[:, :, 1], layer.values[:, :, 1] = layer.keys[:, :, n + 1], layer.values[:, :, n + 1]
    return token, position


def another_token(cache, n, token, position):
    return (token + 1) % 90, position


WRONG = {'only itself': only_itself, 'five slots': five_slots, 'without the first': without(lambda n: 0),
         'without the last': without(lambda n: n - 1), 'without one in the middle': without(lambda n: n // 2),
         'a hidden slot': hidden_shown, 'another token': another_token}
WRONG_POSITIONS = {'off by 1,000': moved_by(1000), 'off by 1': moved_by(1)}


@pytest.mark.parametrize('n, wrong', [*((n, wrong) for wrong in WRONG for n in (N, 300)),
                                      *((N, wrong) for wrong in WRONG_POSITIONS)])
def test_a_wrong_step_is_refused(comparison, wrong, n):
    with pytest.raises(StepDiffers, match=f'over {n} cache entries its logits differ'):
        comparison.check(Wrong(comparison.modules, (WRONG | WRONG_POSITIONS)[wrong]), n)


@pytest.mark.parametrize('n', [2, N, 300])
def test_a_right_step_is_not(comparison, n):
    comparison.check(comparison.modules, n)
    comparison.check(Wrong(comparison.modules, moved_by(0)), n)
    comparison.check(OfFixedSize(comparison.modules), n)


class OfFixedSize(Step):
    """Reads all slots of the cache and hides those that are not filled: other kernels, other rounding."""

    kind = 'bucket'

    def __init__(self, modules):
        self.cache, self.module = modules.cache, BucketStep(modules.model)

    def __call__(self, token, position):
        cache = self.cache
        n = torch.tensor([cache.lengths[0]])
        bucket = torch.zeros(cache.capacity)
        outputs = self.module(token, position, n, bucket, [layer.keys for layer in cache.layers],
                              [layer.values for layer in cache.layers])
        cache.advance()
        return outputs


def test_a_step_that_writes_its_entry_wrongly_is_refused(comparison):
    class Forgets(Wrong):
        def __call__(self, token, position):
            outputs = super().__call__(token, position)
            for layer in self.modules.cache.layers:
                layer.values[:, :, layer.length - 1] = 0.0
            return outputs

    with pytest.raises(StepDiffers):
        comparison.check(Forgets(comparison.modules, moved_by(0)), N)


def test_a_step_that_gives_nan_is_refused(comparison):
    class Broken(Wrong):
        def __call__(self, token, position):
            logits, hidden = super().__call__(token, position)
            return logits * torch.nan, hidden

    with pytest.raises(StepDiffers, match='nan'):
        comparison.check(Broken(comparison.modules, moved_by(0)), N)


def test_what_rounding_explains_follows_the_precision():
    found = {dtype: Comparison(*prepared(dtype)).tolerance_real[1] for dtype in DTYPES}
    assert found['float32'] == LEAST
    assert LEAST < found['float16'] < found['bfloat16'] < 0.2


def test_a_comparison_leaves_the_cache_as_it_was():
    modules, token, position = prepared('bfloat16')
    before = [layer.snapshot() for layer in modules.cache.layers]
    with closing(Comparison(modules, token, position)) as comparison:
        assert min(comparison.times([modules, modules], N)) > 0
        comparison.check(modules, 100)
    assert modules.cache.lengths == [N] * len(before)
    for layer, states in zip(modules.cache.layers, before, strict=True):
        for now, then, whole in zip(layer.snapshot(), states, (layer.keys, layer.values), strict=True):
            assert torch.equal(now, then) and not whole[:, :, N:].any()


@torch.inference_mode()
def test_modules_in_float32_are_those_of_a_model_in_float32():
    modules, token, position = prepared('bfloat16')
    names = {name: parameter.dtype for name, parameter in modules.model.named_parameters()}
    whole = copy.deepcopy(modules.model).float()
    token.fill_(7)
    position.fill_(0)
    expected = ModuleStep(whole, SlotCache(64, [None] * len(modules.cache.layers)))(token, position)[0]
    with in_float32(modules.model):
        got = ModuleStep(modules.model, SlotCache(64, [None] * len(modules.cache.layers)))(token, position)[0]
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected)
    assert {name: parameter.dtype for name, parameter in modules.model.named_parameters()} == names


def graph_of_fewer(length: int):
    """Stand in for captured graphs of which the one for `length` entries is of a smaller bucket."""
    real = captured._through_modules

    def through(step, cache):
        run = real(step, cache)
        return lambda token, position, slot, n: run(token, position, slot, n if n != length else n - 40)
    return through


@pytest.mark.parametrize('which', [0, 3, -1])
def test_every_graph_is_compared(monkeypatch, caplog, which):
    modules, token, position = prepared('float32')
    monkeypatch.setattr(captured, 'capturer', capturer)
    monkeypatch.setattr(Comparison, 'times', lambda self, steps, n: [1.0] * len(steps))
    length = captured.buckets(modules.cache.capacity)[which]
    assert choice.capture(modules, modules, token, position).n_graphs > 4
    monkeypatch.setattr(captured, '_through_modules', graph_of_fewer(length))
    with pytest.raises(StepDiffers, match='over'):
        choice.capture(modules, modules, token, position)


@pytest.mark.parametrize(('share', 'right'), [(0.0, True), (0.4, True), (0.6, False)])
def test_two_ways_of_rounding_may_lie_on_either_side_of_what_is_exact(share, right, monkeypatch):
    with closing(Comparison(*prepared('bfloat16'))) as one:
        run, exact, rounded = one._run, one._exact(N), one._run(one.modules, N)
        one.tolerance_real = tuple(distance / 2 for distance in _middle_and_worst(rounded, exact))
        got = [e.float() + share * (e.float() - r.float()) for e, r in zip(exact, rounded, strict=True)]
        monkeypatch.setattr(one, '_run', lambda step, n: run(step, n) if step is one.modules else got)
        with nullcontext() if right else pytest.raises(StepDiffers, match='rounding explains'):
            one.check(Wrong(one.modules, None), N)
