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

"""Observed response lengths on a grid of bucket edges, cut ones too: their CDFs, and scores of predictions. numpy only.

With K edges, edge j at (j + 1) * bucket_size tokens, a CDF is [K] values: the probability that a response ends by each
edge. Longer responses lie beyond the last edge, in an open bucket. A response that was cut after c tokens says of the
edges up to c that it has not ended by then, and of the others nothing. The part of its bucket that it outlived counts
too: a budget cuts all answers after about as many tokens, and those that end just before would stand for them.
"""
from __future__ import annotations

import copy
import math

import numpy as np

from timebill_ros.length.length_distribution import LengthDistribution

EDGES = 31  # K; with the open bucket 32
PRIOR_WEIGHT = 3.0  # an even distribution over the buckets counts as so many labels
TYPICAL, LONGEST = 0.9, 4.0  # the grid reaches this many times this quantile of the lengths, or the longest


def bucket_size_for(lengths: np.ndarray) -> int:
    """Return the bucket size, in tokens, of a grid for observed lengths (tokens).

    A few responses that run on and on do not make it coarse: they lie in the open bucket.
    """
    reach = min(float(np.max(lengths)), LONGEST * float(np.quantile(lengths, TYPICAL)))
    return max(1, math.ceil(reach / EDGES))


def proper(cdf: np.ndarray) -> np.ndarray:
    """Make values [..., K] a CDF: from 0 to 1 and nowhere falling.

    Where they fall, the result lies half way between the largest so far and the smallest to come.
    """
    cdf = np.minimum(np.maximum(cdf, 0.0), 1.0)
    rising = np.maximum.accumulate(cdf, axis=-1)
    falling = np.minimum.accumulate(cdf[..., ::-1], axis=-1)[..., ::-1]
    return (rising + falling) / 2


def product_limit(lengths: np.ndarray, whole: np.ndarray, weights: np.ndarray
                  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for responses [n] in the order of their lengths, the length, the weight that came so far, and S.

    S is the share that goes on after the response (Kaplan and Meier, 1958): one that was cut hands its weight on to all
    that came further. lengths, whole, weights [n]: see `Labels`.
    """
    order = np.lexsort((~whole, lengths))  # of equal lengths, the cut ones last: they are longer
    shares = weights[order]
    at_risk = np.cumsum(shares[::-1])[::-1]
    ended = np.where(whole[order], shares, 0.0)
    return lengths[order], at_risk, np.cumprod(1 - ended / np.maximum(at_risk, np.finfo(float).tiny))


def survival(lengths: np.ndarray, whole: np.ndarray, weights: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the share [k] of responses that go on after each of the ascending `edges` [k], in tokens.

    lengths, whole, weights [n]: of responses, see `Labels`. PRIOR_WEIGHT more are spread evenly over the buckets, and
    end at their edges.
    """
    k = len(edges)
    at, _, goes_on = product_limit(np.concatenate([lengths, edges]), np.concatenate([whole, np.ones(k, dtype=bool)]),
                                   np.concatenate([weights, np.full(k, PRIOR_WEIGHT / k)]))
    return goes_on[np.searchsorted(at, edges, side='right') - 1]


def conditional(cdf: np.ndarray, survived: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return CDFs [n, K] of responses that have not ended by their first `survived` [n] edges.

    part [n]: how much of the bucket behind these edges they have outlived besides, from 0 to 1.
    """
    before = _reached(cdf, survived, part)[:, None]
    left = 1 - before
    after = np.where(left > 1e-9, (cdf - before) / np.maximum(left, 1e-9), 0.0)
    return np.clip(after, 0.0, 1.0)


def _reached(cdf: np.ndarray, survived: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return what CDFs [n, K] have reached after `survived` [n] edges and a `part` [n] of the next bucket.

    Lengths in a bucket count as evenly spread. Of the open bucket no part counts.
    """
    padded = np.concatenate([np.zeros((len(cdf), 1)), cdf, cdf[:, -1:]], axis=1)
    rows = np.arange(len(cdf))
    return (1 - part) * padded[rows, survived] + part * padded[rows, survived + 1]


def smoothing(width: float) -> np.ndarray:
    """Return the matrix [K, K] that makes of a CDF [K], multiplied from the right, one smoothed by a Gaussian kernel.

    width: standard deviation in buckets; 0 changes nothing. What lies beyond the last edge stays there.
    """
    if width <= 0:
        return np.eye(EDGES)
    reach = math.ceil(3 * width)
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / width))
    kernel /= kernel.sum()
    matrix = np.zeros((EDGES, EDGES))
    for offset, share in zip(range(-reach, reach + 1), kernel, strict=True):
        edges = np.arange(EDGES)
        sources = np.minimum(edges + offset, EDGES - 1)  # beyond the last edge the CDF is what it is there
        inside = sources >= 0  # and before the first it is 0
        np.add.at(matrix, (sources[inside], edges[inside]), share)
    return matrix


def from_cdf(cdf: np.ndarray, bucket_size: int) -> LengthDistribution:
    """Return a CDF [K] at the edges as a distribution over K + 1 buckets, the last of them open."""
    shares = np.empty(len(cdf) + 1)
    shares[0], shares[-1] = cdf[0], 1 - cdf[-1]
    np.subtract(cdf[1:], cdf[:-1], out=shares[1:-1])
    return LengthDistribution(bucket_size, np.maximum(shares, 0.0))  # a sum may be lifted above 1 by rounding


def on_grid(distribution: LengthDistribution, bucket_size: int, n_edges: int) -> np.ndarray:
    """Return the CDF [n_edges] of a distribution at the edges of a grid; lengths in a bucket count as evenly spread."""
    sums = np.concatenate([[0.0], np.cumsum(distribution.probabilities)])
    return np.interp(np.arange(1, n_edges + 1) * bucket_size,
                     np.arange(len(sums)) * distribution.bucket_size, sums)


def left_on_grid(distribution: LengthDistribution, n: int, bucket_size: int, n_edges: int) -> np.ndarray:
    """Return the CDF [n_edges], at the edges of a grid, of what is left of a response that goes on after `n` tokens.

    Lengths in a bucket count as evenly spread. Of one longer than anything in the distribution, nothing ends.
    """
    sums = np.concatenate([[0.0], np.cumsum(distribution.probabilities)])
    found = np.interp(n + np.arange(n_edges + 1) * bucket_size, np.arange(len(sums)) * distribution.bucket_size, sums)
    left = 1.0 - found[0]
    return np.minimum((found[1:] - found[0]) / left, 1.0) if left > 1e-9 else np.zeros(n_edges)


def from_left(cdf: np.ndarray, bucket_size: int, n: int) -> LengthDistribution:
    """Return the distribution of the whole length of a response that goes on after `n` tokens.

    cdf [K]: of what is left, at the edges of a grid. Ends in a bucket count as evenly spread.
    """
    first, n_edges = n // bucket_size, len(cdf)  # the first bucket that has lengths to come
    edges = (first + 1 + np.arange(n_edges)) * bucket_size - n
    reached = np.interp(edges, np.arange(n_edges + 1) * bucket_size, np.concatenate([[0.0], cdf]))
    shares = np.zeros(first + n_edges + 1)
    shares[first:-1] = np.diff(reached, prepend=0.0)
    shares[-1] = 1.0 - reached[-1]
    return LengthDistribution(bucket_size, np.maximum(shares, 0.0))


def crps_of(cdf: np.ndarray, bucket_size: int, n: int, *, whole: bool) -> float:
    """Return the CRPS, in tokens, of a CDF [K] for one response, see `Labels.crps`."""
    return float(Labels(np.array([n]), np.array([whole]), bucket_size).crps(cdf[None])[0])


class Labels:
    """Responses, of `lengths` [n] tokens each; those that are not `whole` [n] were cut after so many.

    weights [n]: how much each counts.
    """

    def __init__(self, lengths: np.ndarray, whole: np.ndarray, bucket_size: int, weights: np.ndarray | None = None):
        self.bucket_size, self.whole = bucket_size, np.asarray(whole, dtype=bool)
        self.weights = np.ones(len(lengths)) if weights is None else np.asarray(weights, dtype=float)
        lengths = np.asarray(lengths)
        # Of the edges that a response has not ended by, how many there are.
        self.survived = np.minimum(np.where(self.whole, lengths - 1, lengths) // bucket_size, EDGES)
        self._lengths = lengths
        # Of the bucket behind them, the part that a cut one has outlived.
        self._outlived = np.where(self.whole, 0.0, np.minimum(lengths / bucket_size - self.survived, 1.0))
        edges = np.arange(EDGES)
        self._known = self.whole[:, None] | (edges < self.survived[:, None])
        self._ended = self.whole[:, None] & (edges >= self.survived[:, None])

    def __len__(self) -> int:
        return len(self.whole)

    def part(self, which: slice) -> Labels:
        """Return some of the labels."""
        found = copy.copy(self)
        for name in ('whole', 'weights', 'survived', '_lengths', '_outlived', '_known', '_ended'):
            setattr(found, name, getattr(self, name)[which])
        return found

    def marginal(self) -> np.ndarray:
        """Return the CDF [K] of all labels (Kaplan and Meier, 1958) and PRIOR_WEIGHT labels that are spread evenly."""
        edges = np.arange(1, EDGES + 2) * self.bucket_size  # that of the open bucket too
        return 1 - survival(self._lengths, self.whole, self.weights, edges)[:EDGES]

    def filled(self, cdf: np.ndarray) -> np.ndarray:
        """Return whether each response ends by each edge [n, K]: 0 or 1, and where a cut hides it, its probability.

        cdf [n, K]: what is expected of each response.
        """
        return np.where(self._known, self._ended, conditional(cdf, self.survived, self._outlived))

    def marginal_without(self, filled: np.ndarray, prior: float = PRIOR_WEIGHT) -> np.ndarray:
        """Return for each label the marginal CDF [n, K] of all others, and of `prior` labels that are spread evenly.

        filled: see there.
        """
        total = self.weights.sum()
        others = total - self.weights + prior
        even = prior * np.arange(1, EDGES + 1) / (EDGES + 1)
        return (self.weights @ filled - self.weights[:, None] * filled + even) / others[:, None]

    def crps(self, cdf: np.ndarray) -> np.ndarray:
        """Return the continuous ranked probability score [n] of CDFs [n, K], in tokens.

        The squared error of the CDF, summed over the tokens up to the last edge, or where the response was cut, up to
        the last edge that it tells of.
        """
        return self.bucket_size * np.where(self._known, np.square(cdf - self._ended), 0.0).sum(axis=1)

    def likelihood(self, cdf: np.ndarray) -> np.ndarray:
        """Return the probability [n] that CDFs [n, K] give to the bucket, or where cut, to all that are left."""
        before = _reached(cdf, self.survived, self._outlived)
        after = np.concatenate([cdf, np.ones((len(cdf), 1))], axis=1)[np.arange(len(cdf)), self.survived]
        return np.maximum(np.where(self.whole, after, 1.0) - before, 1e-9)
