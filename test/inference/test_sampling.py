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

"""Drawing tokens: the same distribution as transformers' own warpers, reproducible, and safe at the edges."""
import math

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from timebill_ros.inference import sampling as module
from timebill_ros.inference.sampling import NOT_A_TOKEN, Sampler
from timebill_ros.request import Sampling

CPU = torch.device('cpu')
VOCABULARY = 500


def sampler(**sampling):
    return Sampler(Sampling(**sampling), CPU)


def random_logits(seed, dtype=torch.float32):
    return (4 * torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed))).to(dtype)


def of_transformers(logits, temperature, top_k, top_p, min_p=0.0):
    """The probabilities after transformers' own warpers."""
    scores = TemperatureLogitsWarper(temperature)(None, logits[None])
    if top_k:
        scores = TopKLogitsWarper(top_k)(None, scores)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    if min_p:
        scores = MinPLogitsWarper(min_p)(None, scores)
    return scores[0].softmax(-1)


# The sizes that are looked at, and those of a vocabulary so small that all is; here most cases need several sizes.
@pytest.mark.parametrize('sizes', [module.SIZES, (2, 30)], ids=['at once', 'step by step'])
@pytest.mark.parametrize('temperature', [0.05, 0.7, 1.0, 3.0])
@pytest.mark.parametrize('top_k', [0, 1, 5, VOCABULARY, VOCABULARY + 1])
@pytest.mark.parametrize('top_p', [1.0, 0.999, 0.9, 0.3, 1e-6])
def test_probabilities_are_those_of_transformers(temperature, top_k, top_p, sizes, monkeypatch):
    monkeypatch.setattr(module, 'SIZES', sizes)
    for seed in range(5):
        logits = random_logits(seed)
        expected = of_transformers(logits, temperature, top_k, top_p)
        ours = sampler(temperature=temperature, top_k=top_k, top_p=top_p).probabilities(logits)
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-4)
        assert ((ours > 0) == (expected > 0)).all()


@pytest.mark.parametrize('top_k', [0, 5])
@pytest.mark.parametrize('top_p', [1.0, 0.9])
@pytest.mark.parametrize('min_p', [1e-4, 0.05, 0.3, 1.0])
def test_min_p_leaves_the_tokens_that_transformers_leaves(top_k, top_p, min_p):
    for seed in range(5):
        logits = random_logits(seed)
        expected = of_transformers(logits, 0.7, top_k, top_p, min_p)
        source = sampler(temperature=0.7, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
        ours = source.probabilities(logits)
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-4)
        assert ((ours > 0) == (expected > 0)).all()
        assert all(expected[source.draw(logits)] > 0 for _ in range(20))


def test_a_token_that_min_p_just_reaches_is_kept():
    logits = torch.tensor([0.0, math.log(0.25), -9.0])
    assert (sampler(temperature=1.0, min_p=0.25).probabilities(logits)[:2] > 0).all()


@pytest.mark.parametrize('sampling', [{}, {'temperature': 0.7, 'top_p': 0.9}, {'temperature': 1.0, 'top_k': 9}])
def test_the_penalty_comes_first_and_counts_prompt_and_answer(sampling):
    source, seen = Sampler(Sampling(**sampling, repetition_penalty=1.6), CPU, [3, 3, 8]), [3, 8]
    for seed in range(30):
        logits = random_logits(seed)
        penalised = RepetitionPenaltyLogitsProcessor(1.6)(torch.tensor([seen]), logits[None])[0]
        if sampling:
            expected = of_transformers(penalised, sampling['temperature'], sampling.get('top_k', 0),
                                       sampling.get('top_p', 1.0))
            torch.testing.assert_close(source.probabilities(logits), expected, atol=1e-6, rtol=1e-4)
        token = int(source.draw(logits))
        assert sampling or token == int(penalised.argmax())
        seen.append(token)


@pytest.mark.parametrize('n_equal', [1, 3, 40, 400])
@pytest.mark.parametrize('spare', [1, module.SPARE])
def test_tokens_as_likely_as_the_last_of_top_k_are_kept_as_in_transformers(n_equal, spare, monkeypatch):
    """Logits of bfloat16 are often equal."""
    monkeypatch.setattr(module, 'SPARE', spare)
    monkeypatch.setattr(module, 'SIZES', (30,))
    logits = torch.cat([torch.arange(8.0, 4.0, -1.0), torch.zeros(n_equal), torch.full((50,), -1.0)])
    logits = logits[torch.randperm(len(logits), generator=torch.Generator().manual_seed(1))]
    ours = sampler(temperature=1.0, top_k=5).probabilities(logits)
    assert int((ours > 0).sum()) == 4 + n_equal
    torch.testing.assert_close(ours, of_transformers(logits, 1.0, 5, 1.0))


@pytest.mark.parametrize('spread', [0.01, 3.0, 12.0], ids=['flat', 'usual', 'peaked'])
@pytest.mark.parametrize(('top_k', 'top_p'), [(0, 1.0), (50, 1.0), (0, 0.9), (50, 0.9), (2000, 0.9)])
def test_a_large_vocabulary_has_the_probabilities_of_transformers(spread, top_k, top_p):
    """A flat one needs nearly all of its tokens for top_p, which is more than any size that is looked at first."""
    logits = spread * torch.randn(50_000, generator=torch.Generator().manual_seed(2))
    ours = sampler(temperature=1.0, top_k=top_k, top_p=top_p).probabilities(logits)
    # transformers adds up 50,000 float32 shares, so a few tokens at the border may differ.
    assert (ours - of_transformers(logits, 1.0, top_k, top_p)).abs().sum() < 1e-3


@pytest.mark.parametrize(('top_k', 'top_p'), [(0, 1.0), (50, 1.0), (0, 0.9), (50, 0.9)])
def test_a_large_vocabulary_is_not_sorted_and_one_random_number_is_drawn(top_k, top_p, monkeypatch):
    logits = 12 * torch.randn(50_000, generator=torch.Generator().manual_seed(2))
    source, sizes, topk = sampler(temperature=1.0, top_k=top_k, top_p=top_p, seed=4), [], torch.Tensor.topk
    for name in ('sort', 'argsort', 'exponential_', 'multinomial'):
        monkeypatch.setattr(torch.Tensor, name, None)
    monkeypatch.setattr(torch, 'multinomial', None)
    monkeypatch.setattr(torch.Tensor, 'topk', lambda scores, size: sizes.append(size) or topk(scores, size))
    source.draw(logits)
    assert all(size <= module.SIZES[0] for size in sizes)
    expected = torch.Generator().manual_seed(4)
    torch.empty(1, dtype=torch.float64).uniform_(generator=expected)
    assert torch.equal(source.generator.get_state(), expected.get_state())


def test_buffers_as_large_as_the_vocabulary_are_made_once():
    source = sampler(temperature=1.0)
    source.draw(random_logits(0))
    before = source._scores.data_ptr(), source._mass.data_ptr()
    for seed in range(1, 9):
        source.draw(random_logits(seed))
    assert (source._scores.data_ptr(), source._mass.data_ptr()) == before


@pytest.mark.parametrize(('top_k', 'top_p'), [(0, 1.0), (5, 1.0), (0, 0.8), (5, 0.8)])
def test_draws_follow_the_probabilities(top_k, top_p):
    source, logits = sampler(temperature=1.0, top_k=top_k, top_p=top_p, seed=5), 0.25 * random_logits(3)[:40]
    n = 8_000
    counts = torch.bincount(torch.stack([source.draw(logits) for _ in range(n)]), minlength=40)
    probabilities = of_transformers(logits, 1.0, top_k, top_p)
    torch.testing.assert_close(counts / n, probabilities, atol=0.02, rtol=0)
    assert not counts[probabilities == 0].any()


def test_a_rare_token_is_drawn_as_often_as_it_should_be():
    """One of 2^24 + 1 equal shares is lost where shares are added up in float32."""
    source = sampler(temperature=1.0)
    source.draw(torch.tensor([0.0, -18.0]))
    assert float(source._mass[1] - source._mass[0]) == pytest.approx(math.exp(-18.0), rel=1e-6)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_probabilities_are_computed_in_float32(dtype):
    logits, source = random_logits(0, dtype), sampler(temperature=0.1, top_k=50, top_p=0.9)
    assert torch.equal(source.probabilities(logits), source.probabilities(logits.float()))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_temperature_zero_is_greedy(dtype):
    for seed in range(5):
        logits = random_logits(seed, dtype)
        token = sampler(top_k=1, top_p=0.1, seed=seed).draw(logits)
        assert token.dtype == torch.int64 and token.shape == ()
        assert int(token) == int(logits.argmax())


def test_draws_follow_the_distribution():
    logits = torch.tensor([0.0, 1.0, 2.0, -math.inf])
    source = sampler(temperature=1.0, seed=3)
    n = 5_000
    counts = torch.bincount(torch.stack([source.draw(logits) for _ in range(n)]), minlength=4)
    torch.testing.assert_close(counts / n, logits.softmax(-1), atol=0.03, rtol=0)
    assert counts[3] == 0


@pytest.mark.parametrize('seed', [0, 1, 2 ** 63 - 1, 2 ** 64 - 1])
def test_a_seed_reproduces(seed):
    def draws(s):
        source = sampler(temperature=1.0, seed=s)
        return [int(source.draw(random_logits(i))) for i in range(50)]

    assert draws(seed) == draws(seed)
    assert draws(seed) != draws(seed ^ 2 ** 20)


@pytest.mark.parametrize('temperature', [1e-45, 1e-30, 1e-6])  # 1e-45: the smallest that a float32 field holds
@pytest.mark.parametrize('scale', [1.0, 1e4])
def test_a_tiny_temperature_is_greedy_and_does_not_overflow(temperature, scale):
    logits = scale * random_logits(0)
    probabilities = sampler(temperature=temperature).probabilities(logits)
    assert probabilities.isfinite().all() and probabilities[logits.argmax()] == 1
    assert int(sampler(temperature=temperature).draw(logits)) == int(logits.argmax())


@pytest.mark.parametrize('sampling', [
    {}, {'temperature': 1.0}, {'temperature': 0.5, 'top_k': 5, 'top_p': 0.9}, {'repetition_penalty': 1.2},
    {'temperature': 1.0, 'min_p': 0.1, 'repetition_penalty': 1.2}])
@pytest.mark.parametrize('broken', [
    {7: math.nan}, {7: math.inf}, {7: math.nan, 8: math.inf}, dict.fromkeys(range(VOCABULARY), math.nan),
    dict.fromkeys(range(VOCABULARY), -math.inf),
], ids=['NaN', 'infinity', 'both', 'all NaN', 'nothing possible'])
def test_broken_logits_give_no_token(sampling, broken):
    logits = random_logits(0)
    logits[list(broken)] = torch.tensor(list(broken.values()))
    source = sampler(**sampling)
    assert int(source.draw(logits)) == NOT_A_TOKEN
    assert 0 <= int(source.draw(random_logits(1))) < VOCABULARY  # the next request is not harmed


@pytest.mark.parametrize('temperature', [0.0, 1.0])
def test_a_mask_says_which_tokens_may_be_drawn(temperature):
    logits = torch.tensor([5.0, 1.0, 4.0, 0.0])
    sampler = Sampler(Sampling(temperature=temperature, seed=1), torch.device('cpu'))
    allowed = torch.tensor([False, True, False, True])
    drawn = {int(sampler.draw(logits, allowed)) for _ in range(50)}
    assert drawn == ({1} if temperature == 0 else {1, 3})
    assert int(sampler.draw(logits, torch.zeros(4, dtype=torch.bool))) == NOT_A_TOKEN
