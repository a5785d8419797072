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

"""Draws whose numbers are all on the device: the tokens that a Sampler draws with the same random numbers."""
from __future__ import annotations

import math

import pytest
import torch

from timebill_ros.inference.sampling import NOT_A_TOKEN, Sampler
from timebill_ros.inference.steps.captured_draws import DRAWS, greedy, numbers_of
from timebill_ros.request import Sampling

CPU = torch.device('cpu')
SAMPLINGS = [Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=7)
             for temperature in (0.05, 0.7, 1.5) for top_k in (0, 1, 5, 60) for top_p in (1.0, 0.9, 0.2)
             for min_p in (0.0, 0.05)]


def logits_of(seed: int, dtype=torch.float32) -> torch.Tensor:
    return (3 * torch.randn(300, generator=torch.Generator().manual_seed(seed))).to(dtype)


@pytest.mark.parametrize('sampling', SAMPLINGS)
def test_tokens_are_those_of_a_sampler(sampling):
    sampler, generator = Sampler(sampling, CPU), torch.Generator().manual_seed(sampling.seed)
    random = torch.rand(40, dtype=torch.float64, generator=generator)
    expected = [int(sampler.draw(logits_of(seed))) for seed in range(40)]
    got = [int(DRAWS[sampling.kind](logits_of(i), numbers_of(sampling), random[i:i + 1])) for i in range(40)]
    assert got == expected


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_the_most_likely_token(dtype):
    for seed in range(9):
        logits = logits_of(seed, dtype)
        token = greedy(logits)
        assert int(token) == int(logits.argmax()) and token.dtype == torch.int64 and token.shape == ()


@pytest.mark.parametrize('draw', [lambda logits, *others: greedy(logits), *DRAWS.values()])
@pytest.mark.parametrize('broken', [{7: math.nan}, {7: math.inf}, {7: math.nan, 8: math.inf},
                                    dict.fromkeys(range(300), -math.inf)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_broken_logits_give_no_token(draw, broken, dtype):
    logits, numbers = logits_of(0, dtype), numbers_of(Sampling(temperature=0.7, top_k=5, top_p=0.9))
    logits[list(broken)] = torch.tensor(list(broken.values()), dtype=dtype)
    assert int(draw(logits, numbers, torch.tensor([0.5], dtype=torch.float64))) == NOT_A_TOKEN


@pytest.mark.parametrize('kind', DRAWS)
@pytest.mark.parametrize('random', [0.0, 1.0 - 2 ** -53])
def test_the_ends_of_the_random_numbers_draw_tokens_that_may_be_drawn(kind, random):
    sampling = {'temperature': Sampling(temperature=1.0, min_p=0.1), 'top_k': Sampling(temperature=1.0, top_k=3),
                'top_p': Sampling(temperature=1.0, top_p=0.5)}[kind]
    token = int(DRAWS[kind](logits_of(1), numbers_of(sampling), torch.tensor([random], dtype=torch.float64)))
    assert float(Sampler(sampling, CPU).probabilities(logits_of(1))[token]) > 0


@pytest.mark.parametrize('kind', DRAWS)
def test_a_tiny_temperature_is_greedy(kind):
    sampling = Sampling(temperature=1e-45, top_p=0.9)
    token = DRAWS[kind](1e4 * logits_of(1), numbers_of(sampling), torch.tensor([0.7], dtype=torch.float64))
    assert int(token) == int(logits_of(1).argmax())


@pytest.mark.parametrize('kind', DRAWS)
def test_nothing_depends_on_numbers_of_the_host(kind):
    """A trace of one draw, run on other logits, numbers and random numbers, draws what the function does.

    A CUDA graph is such a trace: it would repeat a number that the host had put in.
    """
    from torch.fx.experimental.proxy_tensor import make_fx
    half = torch.tensor([0.5], dtype=torch.float64)
    trace = make_fx(DRAWS[kind])(logits_of(0), numbers_of(Sampling(temperature=1.0, top_k=9, top_p=0.8)), half)
    for seed, sampling in enumerate(SAMPLINGS):
        random = torch.rand(1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        given = logits_of(seed + 1), numbers_of(sampling), random
        assert torch.equal(trace(*given), DRAWS[kind](*given))
