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

- The regression is solved in its dual form, n x n for n labels, so a few labels of a wide state are cheap. One
  eigendecomposition serves all penalties, and the penalty is the one whose leave-one-out predictions have the smallest
  CRPS. Leaving one label out needs no further fit (Golub, Heath and Wahba, 1979).
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
ROUNDS = 2  # of expectation maximisation
FEW = 8.0  # with so many labels half of the mixture's weight counts
FEWEST = 8  # labels, below which nothing is fitted
LEAST_SCALE = 1e-3  # of a feature, relative to the typical one: what hardly varies is no feature


def normalised(state: np.ndarray) -> np.ndarray:
    """Scale states [..., H] to a root mean square of 1, float32, as the model's own layers do before they read one.

    Some models have states beyond what float16 holds; a scaled one fits.
    """
    state = np.asarray(state, dtype=np.float32)
    size = np.sqrt(np.mean(np.square(state, dtype=np.float64), axis=-1, keepdims=True))
    return (state / np.maximum(size, 1e-12)).astype(np.float32)


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


def fit(states: np.ndarray, labels: Labels) -> HiddenStateHead:
    """Fit a head to normalised states [n, H] of prompts and the labels of their responses.

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
    scale = np.maximum(deviation, LEAST_SCALE * (np.median(deviation) or 1.0))
    centred /= scale
    root = np.sqrt(labels.weights)
    centred *= root[:, None]
    solver = _Ridge((centred @ centred.T / width).astype(np.float64), root)

    marginal = labels.marginal()
    cdf = np.tile(marginal, (n, 1))  # [n, K], what is expected of each label without itself
    confidence = n / (n + FEW)
    for _ in range(ROUNDS + 1):
        known = labels.filled(cdf)
        penalty, own = _best_penalty(solver, known, labels)
        without = labels.marginal_without(known)
        cdf = confidence * own + (1 - confidence) * without
    kernel, weight = _best_mixture(own, without, labels)
    share, bare = confidence * weight, labels.marginal_without(known, prior=0.0)
    mixed, alone = (share * cdf @ kernel + (1 - share) * without for cdf in (own, bare))
    gains = labels.crps(alone) - labels.crps(mixed)
    gain = float(part @ gains)
    error = math.sqrt(float(np.square(part) @ np.square(gains - gain)))

    folded = (centred.T @ (solver.dual(known, penalty).astype(np.float32) / np.float32(width))) / scale[:, None]
    middle = (part @ known).astype(np.float32)
    return HiddenStateHead(np.ascontiguousarray(folded, dtype=np.float32), middle - mean @ folded,
                           kernel.astype(np.float32), labels.bucket_size, share, penalty, (gain, error))


class _Ridge:
    """Weighted ridge regression in its dual form, for any penalty.

    kernel [n, n]:  products of the centred states, each times the root of its weight.
    root [n]:       roots of the weights. The intercept is not penalised.
    """

    def __init__(self, kernel: np.ndarray, root: np.ndarray):
        values, self._vectors = np.linalg.eigh(kernel)
        self._values, self._root = np.maximum(values, 0.0), root
        self._share = np.square(root) / np.square(root).sum()

    def _rotated(self, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        middle = self._share @ known
        return middle, self._vectors.T @ (self._root[:, None] * (known - middle))

    def dual(self, known: np.ndarray, penalty: float) -> np.ndarray:
        """Return the dual coefficients [n, K] for targets [n, K]."""
        _, rotated = self._rotated(known)
        return self._vectors @ (rotated / (self._values + penalty)[:, None])

    def left_out(self, known: np.ndarray, penalties: tuple[float, ...]):
        """Yield, for each penalty, the predictions [n, K] of each label by a fit to all others."""
        middle, rotated = self._rotated(known)
        squares = np.square(self._vectors)
        for penalty in penalties:
            kept = self._values / (self._values + penalty)
            fitted = middle + self._vectors @ (kept[:, None] * rotated) / self._root[:, None]
            leverage = self._share + squares @ kept
            yield known - (known - fitted) / np.maximum(1 - leverage, 1e-9)[:, None]


def _best_penalty(solver: _Ridge, known: np.ndarray, labels: Labels) -> tuple[float, np.ndarray]:
    """Return the penalty with the smallest leave-one-out CRPS, and its leave-one-out CDFs [n, K]."""
    best = math.inf, PENALTIES[-1], known
    for penalty, predicted in zip(PENALTIES, solver.left_out(known, PENALTIES), strict=True):
        cdf = proper(predicted)
        loss = float(labels.weights @ labels.crps(cdf))
        if loss < best[0]:
            best = loss, penalty, cdf
    return best[1], best[2]


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
