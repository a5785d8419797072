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

"""How good predicted response lengths are, in three numbers that are the same for every kind of prediction. numpy only.

Responses are cut at some length at the latest, and a plan cannot tell one that was cut there from one that ended there.
So everything is measured of the length up to that limit:

    absolute error   of the predicted median, in tokens
    CRPS             the squared error of the CDF, summed over the tokens below the limit, in tokens; for a prediction
                     of one number it is the absolute error (Gneiting and Raftery, 2007)
    log loss         -log of the probability of the bucket that the response is in, in nats; BUCKETS buckets of equal
                     width, the last of which is open
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from timebill_ros.length.label_grid import on_grid
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.training.length_estimates import interpolated_quantile

BUCKETS = 32
LEAST = 1e-6  # probability that counts at least, so that one response does not decide


@dataclass(frozen=True)
class Score:
    """Of one prediction, or the mean of several; crps and log_loss are None where only a number was predicted."""

    absolute_error: float
    crps: float | None = None
    log_loss: float | None = None


MEASURES = {'mae': 'absolute_error', 'crps': 'crps', 'log_loss': 'log_loss'}  # name in results -> field of Score


def score(distribution: LengthDistribution, n: int, limit: int) -> Score:
    """Compare a predicted distribution with a response of `n` tokens; responses are cut at `limit` tokens."""
    n = min(n, limit)
    cdf = on_grid(distribution, 1, limit)[:-1]  # of 1 to limit - 1 tokens
    ended = np.arange(1, limit) >= n
    width = math.ceil(limit / BUCKETS)
    last = (limit - 1) // width
    bucket = (n - 1) // width
    below = np.concatenate([[0.0], cdf])  # [limit]: P(length <= i)
    mass = (1.0 if bucket == last else below[(bucket + 1) * width]) - below[bucket * width]
    return Score(score_of_point(interpolated_quantile(distribution, 0.5), n, limit).absolute_error,
                 float(np.square(cdf - ended).sum()), -math.log(max(float(mass), LEAST)))


def score_of_point(predicted: float, n: int, limit: int) -> Score:
    """Compare a predicted number of tokens with a response of `n` tokens."""
    return Score(abs(min(predicted, limit) - min(n, limit)))


def mean_of(scores: Sequence[Score]) -> Score:
    """Return the means. ValueError without scores."""
    if not scores:
        raise ValueError('there is no mean of no scores')
    return Score(**{field: None if getattr(scores[0], field) is None
                    else float(np.mean([getattr(one, field) for one in scores])) for field in MEASURES.values()})
