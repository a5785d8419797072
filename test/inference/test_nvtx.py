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

"""NVTX ranges of a request and its steps, against a stand-in for torch.cuda.nvtx. No GPU has run them."""
import pytest
import torch
from engine_bench import ANSWER, Bench

from timebill_ros.codes import ErrorCode, FinishReason
from timebill_ros.inference.nvtx import MarkedChain, NvtxRanges

PHASES = ['tokenize', 'prefill', 'wait for the prediction', 'plan', 'eviction', 'decode']


class FakeNvtx:
    """Keeps the ranges: `tree` has one (name, ranges inside) for each, `depth` says how many are open."""

    def __init__(self, monkeypatch):
        self.tree = []
        self._open = [self.tree]
        monkeypatch.setattr(torch.cuda.nvtx, 'range_push', self._push)
        monkeypatch.setattr(torch.cuda.nvtx, 'range_pop', self._pop)

    def _push(self, name):
        inside = []
        self._open[-1].append((name, inside))
        self._open.append(inside)

    def _pop(self):
        assert self.depth, 'a pop without a push'
        self._open.pop()

    @property
    def depth(self):
        return len(self._open) - 1


@pytest.fixture
def nvtx(monkeypatch):
    return FakeNvtx(monkeypatch)


def marked(**options) -> Bench:
    bench = Bench(**options)
    bench.engine.ranges = NvtxRanges()
    return bench


def test_a_request_has_its_phases_and_each_step_its_calls(nvtx):
    bench = marked(predictions={'seconds': 0.01})
    outcome = bench.run()
    assert outcome.finish_reason is FinishReason.EOS and not nvtx.depth
    ((request, phases),) = nvtx.tree
    assert request == 'request' and [name for name, _ in phases] == PHASES
    assert all(not inside for name, inside in phases if name != 'decode')
    calls = [name for name, _ in phases[-1][1]]
    n = len(ANSWER) + 1  # with the end of the text
    assert calls[0] == 'start' and calls.count('read') == n and calls.count('launch') == n - 1


def test_the_answer_is_the_same_with_and_without(nvtx):
    plain, told = Bench().run(), marked().run()
    assert told.text == plain.text and told.timing.generated_tokens == plain.timing.generated_tokens


@pytest.mark.parametrize(('budget_s', 'last'), [(1e-4, 'tokenize'), (0.2, 'decode')])
def test_a_request_that_ends_early_leaves_no_range_open(nvtx, budget_s, last):
    outcome = marked(ends=False).run(budget_s)
    assert outcome.finish_reason in (FinishReason.ERROR, FinishReason.DEADLINE)
    ((_, phases),) = nvtx.tree
    assert not nvtx.depth and phases[-1][0] == last


def test_a_step_that_fails_leaves_no_range_open(nvtx):
    class Failing:
        ahead = False

        def start(self, logits):
            raise ValueError('full')

        launch = read = start

    chain = MarkedChain(Failing())
    for call in (chain.start, chain.launch):
        with pytest.raises(ValueError):
            call(0)
    assert not nvtx.depth and [name for name, _ in nvtx.tree] == ['start', 'launch']


def test_a_model_that_fails_leaves_no_range_open(nvtx, monkeypatch):
    bench = marked()
    monkeypatch.setattr(bench.model, 'chain', lambda sampler: 1 / 0)
    assert bench.run().error_code is ErrorCode.UNKNOWN
    assert not nvtx.depth and nvtx.tree[0][1][-1][0] == 'decode'
