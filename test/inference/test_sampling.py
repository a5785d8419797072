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
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from timebill_ros.inference.sampling import NOT_A_TOKEN, Sampler
from timebill_ros.request import Sampling

CPU = torch.device('cpu')
VOCABULARY = 500


def sampler(**sampling):
    return Sampler(Sampling(**sampling), CPU)


def random_logits(seed, dtype=torch.float32):
    return (4 * torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed))).to(dtype)


@pytest.mark.parametrize('temperature', [0.05, 0.7, 1.0, 3.0])
@pytest.mark.parametrize('top_k', [0, 1, 5, VOCABULARY, VOCABULARY + 1])
@pytest.mark.parametrize('top_p', [1.0, 0.999, 0.9, 0.3, 1e-6])
def test_probabilities_are_those_of_transformers(temperature, top_k, top_p):
    warpers = [TemperatureLogitsWarper(temperature)]
    warpers += [TopKLogitsWarper(top_k)] if top_k else []
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    for seed in range(5):
        logits = random_logits(seed)
        scores = logits[None]
        for warp in warpers:
            scores = warp(None, scores)
        ours = sampler(temperature=temperature, top_k=top_k, top_p=top_p).probabilities(logits)
        torch.testing.assert_close(ours, scores[0].softmax(-1), atol=1e-6, rtol=1e-4)
        assert ((ours > 0) == (scores[0].softmax(-1) > 0)).all()


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


@pytest.mark.parametrize('sampling', [{}, {'temperature': 1.0}, {'temperature': 0.5, 'top_k': 5, 'top_p': 0.9}])
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
