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

"""Tokens that graphs draw themselves, one step ahead: those of the token loop on the modules, whatever happens."""
from __future__ import annotations

import math

import pytest
import tiny_models
import torch
from test_captured import capturer, replays
from test_compiled import IDS
from torch.fx.experimental.proxy_tensor import make_fx

from timebill_ros.codes import FinishReason, GoalError
from timebill_ros.deadline import Deadline
from timebill_ros.inference.control import Control
from timebill_ros.inference.decode import decode
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.sampling import Sampler
from timebill_ros.inference.steps import captured as captured_steps
from timebill_ros.inference.steps import chain_comparison
from timebill_ros.inference.steps.captured import CapturedChain, CapturedStep
from timebill_ros.inference.steps.captured_draws import DRAWS
from timebill_ros.inference.text import StopStrings
from timebill_ros.inference.token_chain import StepChain
from timebill_ros.request import Sampling

CONTEXT = 256  # tokens
CHANCE = [Sampling(temperature=0.9, seed=3), Sampling(temperature=0.8, top_p=0.9, seed=4),
          Sampling(temperature=1.2, top_k=20, top_p=0.95, seed=5), Sampling(temperature=1.0, min_p=0.02, seed=6),
          Sampling(temperature=1.0, top_k=100_000, seed=7)]


@pytest.fixture(scope='module', params=['cpu', pytest.param('cuda', marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason='needs a GPU'))])
def device(request):
    return request.param


def _load(device):
    return CausalLM(str(tiny_models.directory('qwen2')), device=device, dtype='float32', threads=1,
                    max_context_tokens=CONTEXT)


@pytest.fixture(scope='module')
def modules(device):
    return _load(device)


@pytest.fixture(scope='module')
def captured(device):
    """Load a model whose modules' step was captured: on a CPU by the stand-in, which counts in `replays`."""
    one, real = _load(device), captured_steps.capturer

    def counting(on):
        capture = capturer(on) if device == 'cpu' else real(on)

        def counted(call):
            graph = capture(call)
            return graph if device == 'cpu' else lambda: (replays.append(graph), graph())
        return counted

    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(captured_steps, 'capturer', counting)
        one.cache.clear_on_reset()
        one.prefill(IDS, chunk_tokens=64)
        one.steps['float32'] = CapturedStep(one.steps['float32'], one.cache)
    one.use_variant('float32')
    return one


class Evicting:
    """A look at the plan that evicts, after some numbers of tokens, to so many prompt entries."""

    def __init__(self, model, evictions):
        self.model, self.evictions, self.kept = model, dict(evictions), len(IDS)

    def __call__(self, n, n_kv, pace):
        n_keep = self.evictions.get(n, self.kept)
        if n_keep == self.kept:
            return n_kv
        self.model.evict(n_keep)
        evicted, self.kept = self.kept - n_keep, n_keep
        return n_kv - evicted


class CountedClock:
    """Goes on by a second at each look, and the loop looks once per token."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


@torch.inference_mode()
def run(model, *, sampling=None, cap=70, n_keep=None, evictions=(), eos=(), stop=(), budget_s=math.inf):
    """Answer IDS by the token loop: (why it ended, tokens, entries that are then cached)."""
    model.reset()
    logits = model.prefill(IDS, chunk_tokens=64)
    if n_keep:
        model.evict(n_keep)
    control, replan = Control(Deadline(budget_s, CountedClock()), tokens=[0] * cap), Evicting(model, evictions)
    replan.kept = n_keep or replan.kept
    model.eos_ids = frozenset(eos)
    reason = decode(model, Sampler(sampling or Sampling(), model.device), logits, position=len(IDS),
                    n_kv=n_keep or len(IDS), cap=cap, cap_reason=FinishReason.LENGTH, step_s=lambda n_kv: 1.0,
                    stops=StopStrings(model.tokenizer, stop), control=control, replan_tokens=4,
                    replan=replan if evictions else None)
    model.check()
    return reason, control.tokens[:control.n_tokens], model.cache.lengths[0]


@pytest.mark.parametrize('case', [
    dict(), dict(cap=1), dict(cap=2), dict(cap=130), dict(n_keep=30, cap=130), dict(n_keep=1),
    dict(evictions={8: 40, 16: 20}), dict(evictions={4: 59}, cap=6), dict(evictions={8: 5}, n_keep=30),
    *(dict(budget_s=s) for s in (0.0, 1.0, 2.0, 3.0, 9.0, 10.0)), dict(budget_s=9.0, evictions={4: 20}),
], ids=str)
def test_the_answer_is_that_of_the_modules(captured, modules, case):
    expected, got = run(modules, **case), run(captured, **case)
    assert got[:2] == expected[:2]
    assert got[2] - expected[2] in (0, 1), 'one step more at most, which nobody read'
    assert captured.chain(Sampler(Sampling(), captured.device)).ahead


@pytest.mark.parametrize('n', [0, 1, 5])
@pytest.mark.parametrize('evictions', [{}, {4: 20}])
def test_the_answer_ends_at_the_same_token(captured, modules, n, evictions):
    tokens = run(modules, evictions=evictions)[1]
    _, token = next((i, token) for i, token in enumerate(tokens) if i >= n and token not in tokens[:i])
    for ends in ({'eos': [token]}, {'stop': [modules.tokenizer.decode([token])]}):
        expected, got = (run(model, evictions=evictions, **ends) for model in (modules, captured))
        assert got[:2] == expected[:2] and expected[0] in (FinishReason.EOS, FinishReason.STOP)
        assert len(expected[1]) < len(tokens)


@pytest.mark.parametrize('sampling', CHANCE, ids=lambda sampling: f'{sampling.kind} {sampling.seed}')
@pytest.mark.parametrize('options', [{}, {'n_keep': 30, 'evictions': {8: 10}}], ids=['whole', 'evicting'])
def test_draws_by_chance_are_those_of_the_seed(captured, modules, sampling, options):
    assert isinstance(captured.chain(Sampler(sampling, captured.device)), CapturedChain)
    expected = run(modules, sampling=sampling, **options)[:2]
    assert run(captured, sampling=sampling, **options)[:2] == expected
    assert run(captured, sampling=sampling, **options)[:2] == expected, 'and again'
    assert len(set(expected[1])) > 20


def test_one_graph_is_launched_for_a_greedy_token_and_two_for_one_by_chance(captured):
    for sampling, n_graphs in ((Sampling(), 1), *((one, 2) for one in CHANCE)):
        replays.clear()
        reason, tokens, _ = run(captured, sampling=sampling, cap=50)
        assert reason is FinishReason.LENGTH and len(replays) == 49 * n_graphs


def test_the_host_sets_nothing_between_two_steps(captured, monkeypatch):
    """But for the first step of an answer, and the slot after an eviction."""
    fills, fill = [], torch.Tensor.fill_
    monkeypatch.setattr(torch.Tensor, 'fill_', lambda tensor, value: fills.append(value) or fill(tensor, value))
    run(captured, evictions={8: 40})
    state = [len(IDS), len(IDS), 40 + 7]  # slot and position of the first step, the slot after eviction
    assert [value for value in fills if value in state] == state


def test_the_cache_may_be_filled_to_its_end(captured, modules):
    """The capacity is the context: the last token needs no slot."""
    capacity = captured.cache.capacity
    answers = []
    for model in (modules, captured):
        model.reset()
        ids = [IDS[i % 60] for i in range(capacity - 5)]
        with torch.inference_mode():
            logits = model.prefill(ids, chunk_tokens=512)
            control = Control(Deadline(math.inf, CountedClock()), tokens=[0] * 6)
            model.eos_ids = frozenset()
            decode(model, Sampler(Sampling(), model.device), logits, position=len(ids), n_kv=len(ids), cap=6,
                   cap_reason=FinishReason.CAPPED, step_s=lambda n_kv: 0.0, stops=StopStrings(model.tokenizer, ()),
                   control=control)
        answers.append(control.tokens)
        assert model.cache.lengths[0] == capacity
    assert answers[0] == answers[1]
    with pytest.raises(ValueError, match='holds one sequence of'):
        captured.chain(Sampler(Sampling(), captured.device)).launch(capacity)


@pytest.mark.parametrize('sampling', [Sampling(), CHANCE[0]], ids=['greedy', 'chance'])
def test_nan_ends_it_and_harms_no_later_answer(captured, modules, sampling):
    expected = run(modules, sampling=sampling)
    head = captured.model.get_output_embeddings()
    hook = head.register_forward_hook(lambda module, inputs, output: output * math.nan)
    try:
        with pytest.raises(GoalError, match='NaN or infinite logits at token 0'):
            run(captured, sampling=sampling)
    finally:
        hook.remove()
    assert run(captured, sampling=sampling)[:2] == expected[:2]


def test_what_one_answer_left_on_its_way_reaches_no_other(captured, modules):
    expected = run(modules, cap=20)
    for budget_s in (2.0, 3.0, 7.0):
        run(captured, sampling=CHANCE[0], budget_s=budget_s)
        assert run(captured, cap=20)[:2] == expected[:2]


def test_what_a_graph_cannot_draw_is_drawn_outside(captured, modules, monkeypatch):
    """A kind that could not be captured, and a draw that waits for the host."""
    step = captured.steps['float32']
    monkeypatch.setitem(step.draws, 'top_p', None)
    del step.draws['top_p']
    assert type(captured.chain(Sampler(CHANCE[1], captured.device))) is StepChain
    assert run(captured, sampling=CHANCE[1])[:2] == run(modules, sampling=CHANCE[1])[:2]
    monkeypatch.setattr(Sampler, 'waits_for_host', True)
    chain = captured.chain(Sampler(Sampling(), captured.device))
    assert type(chain) is StepChain and not chain.ahead
    assert run(captured)[:2] == run(modules)[:2]


def test_kernels_alone_draw_the_tokens(monkeypatch):
    """A trace of each call, which holds kernels and tensors and no Python, does what the call does.

    A CUDA graph is such a trace: a number that the host had put in would be repeated for ever.
    """
    def tracer(device):
        def capture(call):
            with torch.inference_mode(False), torch.no_grad():
                trace = make_fx(lambda: (call(), ())[1])()
            traced.append([str(node.target) for node in trace.graph.nodes])

            def replay():
                with torch.inference_mode(False), torch.no_grad():
                    trace()
            return replay
        return capture

    traced = []
    monkeypatch.setattr(captured_steps, 'capturer', tracer)
    one = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', dtype='float32', threads=1,
                   max_context_tokens=144)
    one.cache.clear_on_reset()
    one.prefill(IDS, chunk_tokens=64)
    step = CapturedStep(one.steps['float32'], one.cache)
    assert len(traced) == 2 + len(DRAWS) and all('aten.index_copy_.default' in names for names in traced)
    for n in (len(IDS), 124):  # the second row goes on from the first bucket into the next
        chain_comparison.check(step, one.cache, n)


def test_steps_from_outside_may_come_between_two_answers(captured, modules):
    """A profile, a check and an answer use the same graphs."""
    expected = run(modules)
    captured.reset()
    captured.prefill(IDS[:20], chunk_tokens=64)
    captured.step(torch.tensor(7, device=captured.device), 20)
    assert run(captured)[:2] == expected[:2]
