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

"""Response lengths from the target's hidden state of the last prompt token, by ridge regression on a CDF. numpy only.

Prefill computes the state anyway, so a prediction is one product of a vector and a small matrix. The head predicts, for
every bucket edge, whether the response ends by then (`1[length <= edge]`); the values for all edges are a CDF.

- The regression is solved in its dual form, n x n for n labels, so a few labels of a wide state are cheap. The penalty
  is the one whose leave-one-out predictions have the smallest CRPS, over the newest labels. Leaving one label out needs
  no further fit (Golub, Heath and Wahba, 1979).
- A response that was cut is known not to have ended before. What it would have done later is filled in, first from the
  lengths of all labels (Kaplan and Meier, 1958), then from the head's own prediction for it (expectation maximisation).
- The regression knows better how much lies below an edge than in one bucket. So its CDF is smoothed by a kernel and
  mixed with a marginal distribution. The kernel's width and the mixture's weight are those with the smallest
  leave-one-out log loss, and less of the weight counts while labels are few.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from timebill_ros.length.label_grid import Labels, from_cdf, on_grid, proper, smoothing
from timebill_ros.length.length_distribution import LengthDistribution

PENALTIES = tuple(10.0 ** (i / 2) for i in range(-5, 8))  # of standardised states, relative to their width
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of the head in the mixture
WIDTHS = (0.0, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0)  # of the kernel, in buckets
# The best penalty does not depend on the number of labels. So the newest choose it, in blocks so small that one thread
# computes them: on a busy machine, threads that wait for each other take longer than the whole computation.
BLOCK, BLOCKS = 64, 4
ROUNDS = 2  # of expectation maximisation
FEW = 8.0  # with so many labels half of the mixture's weight counts
FEWEST = 8  # labels, below which nothing is fitted
LEAST_SCALE = 1e-3  # of a feature, relative to the typical one: what hardly varies is no feature


def normalised(state: np.ndarray) -> np.ndarray:
    """Scale states [..., H] to a root mean square of 1, float32, as the model's own layers do before they read one.

    Some models have states beyond what float16 holds; a scaled one fits.
    """
    state = np.asarray(state, dtype=np.float32)
    size = np.sqrt(np.einsum('...i,...i->...', state, state) / state.shape[-1])
    return state / np.maximum(size, np.float32(1e-12))[..., None]


@dataclass(frozen=True)
class HiddenStateHead:
    """A fitted head.

    weights [H, K], intercept [K]:  give the CDF at the K edges of a normalised state, before it is made proper.
    kernel [K, K]:                  smooths it, see `smoothing`.
    bucket_size:                    tokens between two edges; edge j is at (j + 1) * bucket_size.
    share:                          of the head in the mixture with a marginal, from 0 to 1.
    penalty:                        what was chosen from PENALTIES.
    gain:                           by how many tokens the leave-one-out CRPS is below that of a head without states, on
                                    average, and the standard error of that.
    """

    weights: np.ndarray
    intercept: np.ndarray
    kernel: np.ndarray
    bucket_size: int
    share: float
    penalty: float
    gain: tuple[float, float]

    @property
    def is_better(self) -> bool:
        """Whether states told more than the marginal on the labels: by a standard error at least."""
        return self.share > 0 and self.gain[0] > self.gain[1]

    def cdf(self, state: np.ndarray) -> np.ndarray:
        """Return the head's own CDF [K] at the edges, for a normalised state [H]."""
        return proper(state @ self.weights + self.intercept) @ self.kernel

    def mixed(self, state: np.ndarray, marginal: np.ndarray) -> np.ndarray:
        """Return the CDF [K] of the mixture with a marginal, whose CDF [K] at the edges is given."""
        return self.share * self.cdf(state) + (1 - self.share) * marginal

    def predict(self, state: np.ndarray, marginal: LengthDistribution) -> LengthDistribution:
        """Return the length distribution for a normalised state [H]; `marginal`: what is known without it."""
        return from_cdf(self.mixed(state, on_grid(marginal, self.bucket_size, len(self.intercept))), self.bucket_size)


def fit(states: np.ndarray, labels: Labels, *, standardised: bool = True) -> HiddenStateHead:
    """Fit a head to normalised states [n, H] of prompts and the labels of their responses.

    standardised: each feature counts as much as any other; False: a feature counts as much as it varies.

    ValueError for fewer than FEWEST labels, or as many states as there are not labels.
    """
    n, width = states.shape
    if n != len(labels) or n < FEWEST:
        raise ValueError(f'expected one state for each of at least {FEWEST} labels, got {n} states, '
                         f'{len(labels)} labels')
    part = (labels.weights / labels.weights.sum()).astype(np.float32)  # [n], of each label
    mean = part @ states
    centred = states - mean
    deviation = np.sqrt(part @ np.square(centred))
    scale = np.maximum(deviation, LEAST_SCALE * (np.median(deviation) or 1.0)) if standardised else \
        np.full_like(deviation, np.sqrt(np.square(deviation).mean()) or 1.0)
    centred /= scale
    root = np.sqrt(labels.weights)
    centred *= root[:, None]
    products = (centred @ centred.T / width).astype(np.float64)

    cdf = np.tile(labels.marginal(), (n, 1))  # [n, K], what is expected of each label without itself
    penalty = _best_penalty(products, root, labels.filled(cdf), labels)
    ridge, confidence = _Ridge(products, root, penalty), n / (n + FEW)
    for _ in range(ROUNDS + 1):
        known = labels.filled(cdf)
        own = proper(ridge.left_out(known))
        without = labels.marginal_without(known)
        cdf = confidence * own + (1 - confidence) * without
    kernel, weight = _best_mixture(own, without, labels)
    share, bare = confidence * weight, labels.marginal_without(known, prior=0.0)
    mixed, alone = (share * cdf @ kernel + (1 - share) * without for cdf in (own, bare))
    gains = labels.crps(alone) - labels.crps(mixed)
    gain = float(part @ gains)
    error = math.sqrt(float(np.square(part) @ np.square(gains - gain)))

    folded = (centred.T @ (ridge.dual(known).astype(np.float32) / np.float32(width))) / scale[:, None]
    middle = (part @ known).astype(np.float32)
    return HiddenStateHead(np.asfortranarray(folded, dtype=np.float32), middle - mean @ folded,  # quicker by columns
                           kernel.astype(np.float32), labels.bucket_size, share, penalty, (gain, error))


class _Ridge:
    """Weighted ridge regression in its dual form. The intercept is not penalised.

    products [n, n]:  of the features, each times the root of its weight and centred by the weighted mean.
    root [n]:         roots of the weights.
    """

    def __init__(self, products: np.ndarray, root: np.ndarray, penalty: float):
        self._inverse = np.linalg.inv(products + penalty * np.eye(len(root)))
        self._root, self._unit, self._penalty = root, root / np.sqrt(np.square(root).sum()), penalty

    def dual(self, known: np.ndarray) -> np.ndarray:
        """Return the dual coefficients [n, K] for targets [n, K]."""
        weighted = self._root[:, None] * known
        return self._inverse @ (weighted - np.outer(self._unit, self._unit @ weighted))

    def left_out(self, known: np.ndarray) -> np.ndarray:
        """Return the predictions [n, K] of each label by a fit to all others, for targets [n, K]."""
        residual = self._penalty * self.dual(known) / self._root[:, None]
        leverage_left = self._penalty * np.diag(self._inverse) - np.square(self._unit)
        return known - residual / np.maximum(leverage_left, 1e-9)[:, None]


def _best_penalty(products: np.ndarray, root: np.ndarray, known: np.ndarray, labels: Labels) -> float:
    """Return the penalty with the smallest leave-one-out CRPS within each of the newest blocks of labels."""
    losses = np.zeros(len(PENALTIES))
    for end in range(len(labels), FEWEST - 1, -BLOCK)[:BLOCKS]:
        block = slice(max(0, end - BLOCK), end)
        some, weights = labels.part(block), root[block]
        unit = weights / np.sqrt(np.square(weights).sum())
        inner = products[block, block] - np.outer(unit, unit @ products[block, block])
        inner -= np.outer(inner @ unit, unit)  # centred by the mean of this block
        for i, penalty in enumerate(PENALTIES):
            cdf = proper(_Ridge(inner, weights, penalty).left_out(known[block]))
            losses[i] += some.weights @ some.crps(cdf)
    return PENALTIES[int(losses.argmin())]


def _best_mixture(own: np.ndarray, marginal: np.ndarray, labels: Labels) -> tuple[np.ndarray, float]:
    """Return the kernel [K, K] and the head's weight in the mixture that have the smallest log loss together.

    own, marginal: CDFs [n, K] without the label itself.
    """
    other, best = labels.likelihood(marginal), (math.inf, smoothing(0.0), 0.0)
    for kernel in map(smoothing, WIDTHS):
        likelihood = labels.likelihood(own @ kernel)
        for weight in WEIGHTS:
            loss = -float(labels.weights @ np.log(weight * likelihood + (1 - weight) * other))
            if loss < best[0]:
                best = loss, kernel, weight
    return best[1], best[2]
