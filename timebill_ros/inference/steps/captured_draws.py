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

"""Drawing a token inside a CUDA graph: the same draws as `sampling.Sampler` makes, with all that varies on the device.

A graph repeats kernels with the arguments that they were captured with, so temperature, top_k, top_p, min_p and the
random number are read from tensors. There is one function for each kind of sampling that depends on nothing else.
"""
from __future__ import annotations

from collections.abc import Callable

import torch

from timebill_ros.inference.sampling import NOT_A_TOKEN
from timebill_ros.request import Sampling

COLDEST = 1e-30  # a lower temperature draws the same tokens and would be rounded to 0 on some devices


def numbers_of(sampling: Sampling) -> torch.Tensor:
    """Return what the functions below take as `numbers`: temperature, top_k, top_p and min_p, float32 [4]."""
    top_k = float(sampling.top_k) if sampling.top_k > 0 else torch.inf
    return torch.tensor([max(sampling.temperature, COLDEST), top_k, sampling.top_p, sampling.min_p])


def greedy(logits: torch.Tensor) -> torch.Tensor:
    """Return the most likely token: logits [V] -> int64 []; NOT_A_TOKEN where the largest logit is not finite."""
    best, token = logits.max(dim=-1)
    return _valid(best, token)


def by_temperature(logits: torch.Tensor, numbers: torch.Tensor, random: torch.Tensor) -> torch.Tensor:
    """Draw from the whole vocabulary: logits [V], `random` from 0 to 1, float64 [1] -> int64 []."""
    best, scores = _scores(logits, numbers)
    return _valid(best, _chosen(_above_min_p(scores.exp(), numbers), random))


def by_top_k(logits: torch.Tensor, numbers: torch.Tensor, random: torch.Tensor) -> torch.Tensor:
    """Draw as `by_temperature` does, from the top_k most likely tokens and of these from the top_p."""
    best, scores = _scores(logits, numbers)
    values, ids = scores.sort(descending=True)
    last = numbers[1:2].clamp(max=len(values)).long() - 1
    values = values.masked_fill(values < values.index_select(0, last), float('-inf'))
    weights = values.exp()
    reached = _cumulated(weights)
    return _valid(best, _from_top_p(weights, ids, reached, reached[-1], numbers, random))


def by_top_p(logits: torch.Tensor, numbers: torch.Tensor, random: torch.Tensor) -> torch.Tensor:
    """Draw as `by_temperature` does, from the most likely tokens whose mass reaches top_p."""
    best, scores = _scores(logits, numbers)
    values, ids = scores.sort(descending=True)
    weights = values.exp()
    total = scores.exp().sum(dtype=torch.float64)
    return _valid(best, _from_top_p(weights, ids, _cumulated(weights), total, numbers, random))


# By Sampling.kind. A kind that is missing here (a repetition penalty depends on earlier tokens) is drawn by a Sampler.
DRAWS: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    'temperature': by_temperature, 'top_k': by_top_k, 'top_p': by_top_p}


def _scores(logits: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest logit [] and the logits over the temperature, float32 [V], the largest of which is 0."""
    best = logits.max()
    return best, (logits.to(torch.float32) - best) / numbers[0]


def _above_min_p(weights: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    return weights.masked_fill(weights < numbers[3], 0.0)  # the largest weight is 1


def _from_top_p(weights: torch.Tensor, ids: torch.Tensor, reached: torch.Tensor, total: torch.Tensor,
                numbers: torch.Tensor, random: torch.Tensor) -> torch.Tensor:
    """Draw one of `ids`, whose weights descend and add up to `reached`, of which top_p is a share of `total`."""
    weights = weights.masked_fill((reached - weights >= numbers[2] * total) & (numbers[2] < 1), 0.0)
    return ids.index_select(0, _chosen(_above_min_p(weights, numbers), random).view(1)).view(())


def _chosen(weights: torch.Tensor, random: torch.Tensor) -> torch.Tensor:
    """Return the first index whose cumulated weight is above the random number: never one of weight 0."""
    mass = _cumulated(weights)
    return torch.searchsorted(mass, random * mass[-1], right=True)[0].clamp(max=len(weights) - 1)


def _cumulated(weights: torch.Tensor) -> torch.Tensor:
    """Return cumulated weights in float64.

    So no token is too rare to be drawn. And a GPU adds up in another order each time: in float32 that moves the border
    of top_p by a token where 100,000 weigh about the same, and one seed draws another answer.
    """
    return weights.cumsum(0, dtype=torch.float64)


def _valid(best: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    # NaN and infinity less themselves are NaN. This takes fewer kernels than isfinite.
    return torch.where(best - best == 0, token, NOT_A_TOKEN)
