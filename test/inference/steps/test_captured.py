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

"""Steps of fixed sizes, and the graphs made of them.

On a CPU a stand-in runs what was captured again, into the same tensors, as a CUDA graph does. test_captured_chain.py
looks at the tokens that graphs draw themselves.
"""
from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from test_compiled import IDS, answers, fill_to_the_end
from test_compiled import load as load_with
from torch._dynamo.utils import counters

from timebill_ros.inference.steps import captured as captured_steps
from timebill_ros.inference.steps import choice, fused
from timebill_ros.inference.steps import compiled as compiled_steps
from timebill_ros.inference.steps.captured import buckets
from timebill_ros.inference.steps.comparison import Comparison
from timebill_ros.inference.steps.fused import FusedStep
from timebill_ros.inference.steps.interface import Step, StepUnavailable
from timebill_ros.inference.steps.layer_calls import NotSplit
from timebill_ros.timing.profiling import identity

WINDOW = 100  # tokens, more than IDS and what is generated
CONTEXT = 512  # tokens: each bucket is a graph to make


def load(kind: str = 'qwen2', directory=None, **options):
    return load_with(kind, directory, **{'max_context_tokens': CONTEXT, **options})


def capturer(device):
    def capture(call):
        def replay():
            replays.append(replay)
            call()
        call()  # as before a capture
        return replay
    replays.clear()
    return capture


replays = []  # the graphs that were replayed


@pytest.fixture
def on_buckets(monkeypatch):
    """Make models on a CPU choose their steps as on CUDA, with a stand-in for graphs that seems to be fast."""
    real, refusal = Comparison.times, choice.capture_refusal
    monkeypatch.setattr(captured_steps, 'capturer', capturer)
    monkeypatch.setattr(Comparison, 'times', lambda self, steps, n: real(self, steps, n) and [1.0 / i for i in range(
        1, 1 + len(steps))])  # each kind is quicker than the one before
    monkeypatch.setattr(choice, 'capture_refusal', lambda cache: refusal(SimpleNamespace(
        device=SimpleNamespace(type='cuda'), layers=cache.layers)))


@pytest.fixture(scope='module')
def modules():
    return load(directory=None)


@pytest.fixture
def captured(on_buckets, monkeypatch, tmp_path):
    """Load a model whose modules' step was captured."""
    monkeypatch.setattr(choice, '_fused', _not_fused)
    return load(directory=tmp_path)


def _not_fused(modules):
    raise StepUnavailable('of the test')


@pytest.mark.parametrize('capacity', [64, 128, 129, 1000, 8192, 32768])
def test_no_bucket_is_more_than_an_eighth_too_long(capacity):
    found = buckets(capacity)
    assert found[0] == min(128, capacity) and found[-1] == capacity and found == sorted(set(found))
    assert len(found) < 60, 'each is a graph to capture'
    for smaller, larger in zip(found, found[1:], strict=False):
        assert larger <= 1.125 * (smaller + 1)
        assert larger % 16 == 0 or larger == capacity


@pytest.mark.parametrize('n_keep', [None, 30, 1])
def test_it_draws_the_tokens_of_the_modules_whatever_is_evicted(captured, modules, n_keep):
    assert captured.fast_steps['float32'].kind == 'captured'
    expected, got = answers(modules, 150, n_keep), answers(captured, 150, n_keep)
    assert got[0] == expected[0]


@pytest.mark.parametrize(('kind', 'compile_layer'), [
    pytest.param('qwen2', lambda trace: trace, marks=pytest.mark.slow),
    *(pytest.param(kind, None, marks=pytest.mark.slow) for kind in ('qwen2', 'llama', 'qwen3', 'gemma2'))],
    ids=lambda value: value if isinstance(value, str) else 'compiled' if value is None else 'trace')
def test_fused_layers_are_captured_too(on_buckets, monkeypatch, tmp_path, kind, compile_layer):
    made = []

    def fuse(modules):
        made.append(FusedStep(modules.model, modules.cache, compile_layer))
        return made[0]

    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(choice, '_fused', fuse)
    monkeypatch.setattr('timebill_ros.inference.model.sliding_windows', lambda config: [None] * (
        config.num_hidden_layers))
    both, modules = load(kind, tmp_path), load(kind)
    assert both.fast_steps['float32'].kind == 'fused and captured'
    assert identity(both, None).compiled == 'float32 fused and captured'
    assert len(made[0]._kinds) < len(both.cache.layers), 'one for layers that are alike'
    assert counters['stats']['unique_graphs'] == (len(made[0]._kinds) if compile_layer is None else 0)
    expected = answers(modules, 150, 30)[0]
    assert answers(both, 150, 30)[0] == expected
    both._step = made[0]
    assert answers(both, 150, 30)[0] == expected, 'without graphs'
    both._step = both._reader
    assert answers(both, 150, 30)[0] == expected, 'the layers are in their places'


def test_a_step_takes_the_smallest_graph_that_holds_its_cache(captured):
    step = captured.fast_steps['float32']
    graph_of = dict(zip(step._lengths, step._graphs, strict=True))
    for n_cached, n_keep, length in ((60, None, 128), (126, None, 128), (127, None, 128), (128, None, 144),
                                     (250, None, 256), (250, 20, 128)):
        captured.reset()
        captured.prefill([IDS[i % 60] for i in range(n_cached)], chunk_tokens=64)
        if n_keep:
            captured.evict(n_keep)
        replays.clear()
        captured.step(torch.tensor(7), n_cached)
        assert replays == [graph_of[length]]
        assert captured.cache.get_seq_length() == (n_keep or n_cached) + 1


def test_the_tensors_of_a_call_may_be_others_than_those_captured(captured, modules):
    for one in (captured, modules):
        one.reset()
        one.prefill(IDS, chunk_tokens=64)
    token = torch.tensor([[IDS[0]]])
    with torch.inference_mode():
        got, _ = captured.fast_steps['float32'](token, torch.tensor([[len(IDS)]]))
    torch.testing.assert_close(got, modules.step(token, len(IDS)), rtol=1e-4, atol=1e-4)


def test_the_cache_may_be_filled_to_its_end_and_no_further(captured):
    fill_to_the_end(captured)


def test_the_mask_goes_with_the_step(captured):
    assert answers(captured, 5)[0] == answers(captured, 5)[0], 'prefill after steps'


@pytest.mark.parametrize('n_keep', [None, 30])
def test_what_one_request_left_in_a_slot_spoils_no_other(captured, modules, n_keep):
    """Slots that are not filled are read with weight 0, and zero times NaN is NaN."""
    answers(captured, 100)  # fills more slots than the next answer does
    for layer in captured.cache.layers:
        layer.keys[:, :, :150] = torch.nan
        layer.values[:, :, :150] = torch.nan
    assert answers(captured, 40, n_keep)[0] == answers(modules, 40, n_keep)[0]


# -- where it cannot be had ------------------------------------------------------------------------------------------

@pytest.mark.parametrize(('seconds', 'sentence'), [([1.0, 1.2], '1200.000 ms, and 1000.000 ms without'),
                                                   ([1.0, 1.04], '')])
def test_graphs_that_are_slower_are_not_used(on_buckets, monkeypatch, tmp_path, caplog, seconds, sentence):
    monkeypatch.setattr(choice, '_fused', _not_fused)
    monkeypatch.setattr(Comparison, 'times', lambda *arguments: seconds)
    with caplog.at_level('INFO'):
        assert bool(load(directory=tmp_path).fast_steps) == (not sentence)
    assert sentence in caplog.text and ('are no CUDA graphs' in caplog.text) == bool(sentence)


def test_graphs_that_compute_something_else_are_not_used(on_buckets, monkeypatch, tmp_path, caplog, modules):
    class Wrong(captured_steps.BucketStep):
        def forward(self, *inputs):
            logits, hidden = super().forward(*inputs)
            return logits + 1.0, hidden

    monkeypatch.setattr(choice, '_fused', _not_fused)
    monkeypatch.setattr(captured_steps, 'BucketStep', Wrong)
    with caplog.at_level('INFO'):
        one = load(directory=tmp_path)
    assert not one.fast_steps and 'its logits differ from those of the modules' in caplog.text
    assert answers(one, 20)[0] == answers(modules, 20)[0]


def test_where_fused_layers_cannot_be_captured_the_modules_are(on_buckets, monkeypatch, tmp_path, caplog):
    class Failing(Step):
        kind = 'fused'

        def __call__(self, token, position):
            return torch.zeros(90), None

        def run_bucket(self, *arguments):
            raise RuntimeError('operation not permitted when stream is capturing\nof the test')

    monkeypatch.setattr(choice, '_fused', lambda modules: Failing())
    with caplog.at_level('INFO'):
        assert load(directory=tmp_path).fast_steps['float32'].kind == 'captured'
    assert 'have no fused layers: RuntimeError: operation not permitted when stream is capturing\n' in caplog.text


def test_layers_that_cannot_be_told_apart_are_not_fused(on_buckets, monkeypatch, tmp_path, caplog):
    def not_split(*arguments):
        raise NotSplit('it has 2 lists of 2 layers')

    monkeypatch.setattr(fused, 'find_layers', not_split)
    with caplog.at_level('INFO'):
        assert load(directory=tmp_path).fast_steps['float32'].kind == 'captured'
    assert 'have no fused layers: it has 2 lists of 2 layers' in caplog.text


def test_graphs_can_be_had_without_compiling(on_buckets, monkeypatch, tmp_path, caplog, modules):
    monkeypatch.setattr(choice, '_fused', None)  # not called
    with caplog.at_level('INFO'):
        one = load(directory=tmp_path, compiles=False)
    assert one.fast_steps['float32'].kind == 'captured' and 'asks for none that are compiled' in caplog.text
    assert answers(one, 20)[0] == answers(modules, 20)[0]


def test_without_graphs_nothing_is_compiled_either(monkeypatch, tmp_path):
    monkeypatch.setattr(compiled_steps, 'prepare', None)  # not called
    assert not load(directory=tmp_path, compiles=False).fast_steps


def test_models_with_sliding_windows_are_not_captured(on_buckets):
    assert 'sliding window' in choice.capture_refusal(load('qwen2_sliding', None).cache)
    assert choice.capture_refusal(load('qwen2', None).cache) == ''


@pytest.mark.parametrize('max_context_tokens', [WINDOW, WINDOW - 1])
def test_a_window_that_the_cache_cannot_outgrow_is_full_attention(on_buckets, monkeypatch, tmp_path,
                                                                  max_context_tokens):
    monkeypatch.setattr(choice, '_fused', _not_fused)
    monkeypatch.setattr('timebill_ros.inference.model.sliding_windows', lambda config: [None] * (
        config.num_hidden_layers - 1) + [WINDOW])
    one, modules = (load('qwen2', directory, max_context_tokens=max_context_tokens) for directory in (tmp_path, None))
    assert one.fast_steps['float32'].kind == 'captured'
    assert answers(one, 20, 30)[0] == answers(modules, 20, 30)[0]
    assert len({layer.get_seq_length() for layer in one.cache.layers}) == 1
