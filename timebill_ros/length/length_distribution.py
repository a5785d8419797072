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

"""A predicted response length: a probability for each bucket of lengths, not a single number. numpy only."""

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class LengthDistribution:
    """Probabilities of response lengths, in buckets of equal width.

    bucket_size:    B in tokens (PAPER: RLP; 16 in the paper).
    probabilities:  [n_buckets]; entry i is the probability of a length from i*B + 1 to (i+1)*B tokens. Lengths
                    beyond the last bucket are counted in it.

    Raises ValueError, with the value, unless B >= 1 and the probabilities are finite, not negative, and sum
    to 1 within 0.001. They are then scaled to sum to 1 exactly.
    """

    bucket_size: int
    probabilities: np.ndarray

    def __post_init__(self):
        if int(self.bucket_size) != self.bucket_size or self.bucket_size < 1:
            raise ValueError(f'bucket size must be a whole number from 1 up, got {self.bucket_size}')
        p = np.array(self.probabilities, dtype=np.float64)
        if p.ndim != 1 or p.size == 0:
            raise ValueError(f'length probabilities must be a non-empty vector, got shape {p.shape}')
        if not np.isfinite(p).all():
            i = int(np.flatnonzero(~np.isfinite(p))[0])
            raise ValueError(f'probability of length bucket {i} is {p[i]}')
        if (p < 0).any():
            i = int(p.argmin())
            raise ValueError(f'probability of length bucket {i} is negative: {p[i]}')
        if abs(p.sum() - 1) > _SUM_TOLERANCE:
            raise ValueError(f'length probabilities must sum to 1, got {p.sum()}')
        p /= p.sum()
        # Summed from the far end, so that small tails keep their digits.
        tails = np.cumsum(p[::-1])[::-1]
        p.setflags(write=False)
        object.__setattr__(self, 'bucket_size', int(self.bucket_size))
        object.__setattr__(self, 'probabilities', p)
        # Lists of plain numbers in ascending order, for bisect. Replanning looks them up between two tokens, where a
        # call of numpy costs more than it saves.
        object.__setattr__(self, '_minus_tails', (-tails).tolist())
        object.__setattr__(self, '_sums', np.cumsum(p).tolist())

    @classmethod
    def point(cls, n: int, bucket_size: int = 1) -> 'LengthDistribution':
        """Put all of the probability on the bucket that holds the length n (tokens, n >= 1)."""
        if n < 1:
            raise ValueError(f'a response has at least one token, got {n}')
        p = np.zeros(math.ceil(n / bucket_size))
        p[-1] = 1.0
        return cls(bucket_size, p)

    @classmethod
    def from_lengths(cls, lengths: list[int], bucket_size: int, n_buckets: int) -> 'LengthDistribution':
        """Take the shares of observed lengths (tokens, each >= 1); those beyond the last bucket count in it."""
        if len(lengths) == 0 or min(lengths) < 1:
            raise ValueError(f'expected lengths of at least one token, got {list(lengths)[:5]}')
        bucket = np.minimum(bucket_of(np.asarray(lengths), bucket_size), n_buckets - 1)
        return cls(bucket_size, np.bincount(bucket, minlength=n_buckets) / len(lengths))

    @property
    def n_buckets(self) -> int:
        return self.probabilities.size

    def quantile(self, level: float) -> int:
        """Return the smallest upper bucket edge (tokens) that a response stays within with probability `level`.

        ValueError for a level outside (0, 1].
        """
        if not 0 < level <= 1:
            raise ValueError(f'quantile level must be above 0 and at most 1, got {level}')
        # A sum of rounded terms may end just below a level that it should reach.
        return (bisect_left(self._sums, level - 1e-12) + 1) * self.bucket_size

    def tail(self, n: int) -> float:
        """Return P(length >= n), n in tokens from 1 up; the whole probability of n's bucket is counted."""
        return -self._minus_tails[min(bucket_of(n, self.bucket_size), self.n_buckets - 1)]

    def longest_with_tail(self, level: float) -> int | None:
        """Return the upper edge, in tokens, of the last bucket whose tail is at least `level`.

        None where that is the distribution's last bucket: longer lengths are counted in it, so it has no upper edge.
        """
        i = bisect_right(self._minus_tails, -level) - 1
        return None if i >= self.n_buckets - 1 else max(i + 1, 1) * self.bucket_size

    def median(self) -> int:
        """Return the predicted length N_hat in tokens: the upper edge of the bucket that holds the median.

        (PAPER: RLP has N_hat = min(N_max, n_hat * B), where n_hat is the likeliest bucket. Callers apply N_max.)
        """
        return self.quantile(0.5)

    def to_list(self) -> list[float]:
        """Return the probabilities as plain numbers, for JSON."""
        return self.probabilities.tolist()

    @classmethod
    def from_list(cls, probabilities: list[float], bucket_size: int) -> 'LengthDistribution':
        """Build a distribution from what `to_list` returned."""
        return cls(bucket_size, np.asarray(probabilities, dtype=np.float64))


def bucket_of(length, bucket_size: int):
    """Return the index (from 0) of the bucket that holds a length (tokens, from 1 up), or of each in an array."""
    return (length - 1) // bucket_size
