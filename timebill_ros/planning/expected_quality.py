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

"""The expected quality of what the client holds at the deadline, for each way to go on with a request.

    quality over the kept entries x what is left of it where the answer is cut, over the distribution of lengths

An answer whose cache is evicted in its middle has the quality of both parts, by their shares: what was written before
stays as good as it was. numpy, and no model.
"""
from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.planning.quality_table import Curve
from timebill_ros.timing.step_time import StepTime

GRID = 48  # lengths at which times are compared


class Way(NamedTuple):
    """One way to go on: once `after` more tokens have come, evict until `n_keep` entries of the prompt are left.

    Where there are fewer now, so many are brought back at once.
    """

    n_keep: int
    after: int = 0  # 0: at once


class Stand(NamedTuple):
    """Where a request stands. The next token is token 1 of the rest, and is there already: it takes no step."""

    n_keep: int  # entries of the prompt in the cache
    n_kv: int  # all entries in the cache
    eviction_s: float  # what an eviction takes
    restore_s: float = 0.0  # what bringing entries back takes
    most: int = 0  # entries of the prompt that may be there again; 0: none comes back

    def kept(self, way: Way) -> int:
        """Return how many entries of the prompt are left in the end."""
        return min(way.n_keep, max(self.n_keep, self.most))

    def decode_s(self, steps: StepTime, way: Way, n: int) -> float:
        """Return the seconds until `n` more tokens have come this way. They never fall as `n` grows."""
        kept = self.kept(way)
        if kept == self.n_keep or 0 < n <= way.after:
            return steps.decode(self.n_kv, n)
        left = self.n_kv - self.n_keep + kept
        if not way.after:
            return (self.eviction_s if kept < self.n_keep else self.restore_s) + steps.decode(left, n)
        return steps.decode(self.n_kv, way.after) + self.eviction_s + steps.decode(left, n) - steps.decode(
            left, way.after)

    def fits(self, steps: StepTime, ways: Sequence[Way], left_s: float, n_max: int) -> np.ndarray:
        """Return for each way about how many more tokens come within `left_s` seconds: as `longest_fit`, or less.

        Times are compared at GRID lengths, with straight lines between. They bend upwards, so that lines are above.
        """
        if left_s < 0 or n_max < 1:
            return np.zeros(len(ways), dtype=int)
        n = np.unique(np.geomspace(1, n_max, GRID).round())
        after = np.array([[way.after] for way in ways])
        kept = np.array([[self.kept(way)] for way in ways])
        changes, stays = kept != self.n_keep, _decode_s(steps, self.n_kv, n)
        left = self.n_kv - self.n_keep + kept
        changed = np.where(kept < self.n_keep, self.eviction_s, self.restore_s) + _decode_s(steps, left, n) + np.where(
            after > 0, _decode_s(steps, self.n_kv, after) - _decode_s(steps, left, after), 0.0)
        seconds = np.where(changes & ((n > after) | (after == 0)), changed, stays)
        last = (seconds <= left_s).sum(axis=1) - 1  # the largest of the lengths that fits
        beyond = np.minimum(last + 1, len(n) - 1)
        rows, low = np.arange(len(ways)), np.maximum(last, 0)
        span = seconds[rows, beyond] - seconds[rows, low]
        share = np.divide(left_s - seconds[rows, low], span, out=np.zeros(len(ways)), where=span > 0)
        found = np.floor(n[low] + (n[beyond] - n[low]) * np.clip(share, 0.0, 1.0)).astype(int)
        return np.where(last < 0, 0, found)

    def longest_fit(self, steps: StepTime, way: Way, left_s: float, n_max: int) -> int:
        """Return how many more tokens, at most `n_max`, come within `left_s` seconds; 0 where that is below 0."""
        if left_s < 0 or n_max < 1:
            return 0
        return bisect_right(range(1, n_max + 1), left_s, key=lambda n: self.decode_s(steps, way, n))


def _decode_s(steps: StepTime, n_keep, n):
    """Return `StepTime.decode` for arrays."""
    m = np.maximum(n - 1, 0)
    seconds = m * (steps.p * n_keep + steps.q) + steps.p * m * (m - 1) / 2
    if not steps.bend:
        return seconds
    last, first = n_keep + m - 1 - steps.knee, np.maximum(n_keep - steps.knee, 0)
    return seconds + np.where((m > 0) & (last > 0), steps.bend * (first + last) * (last - first + 1) / 2, 0.0)


class Outlook:
    """The lengths that a response may still have, and what each is worth if it is cut.

    distribution:  of the response's length; lengths beyond `longest`, the goal's own limit, end there
    generated:     tokens that have come of a response that goes on; 0: none
    cut:           share of the quality over the share of the response that came (QualityTable.cut)
    """

    def __init__(self, distribution: LengthDistribution, generated: int, *, longest: int, cut: Curve):
        edges = (np.arange(distribution.n_buckets) + 1) * distribution.bucket_size
        possible = (edges > generated) & (distribution.probabilities > 0)
        if possible.any():
            weights = distribution.probabilities[possible]
            self._weights, lengths = weights / weights.sum(), np.minimum(edges[possible], longest)
            self._lengths = np.maximum(lengths, generated + 1)
        else:  # longer than anything that was predicted
            self._weights, self._lengths = np.ones(1), np.array([max(longest, generated + 1)])
        self._written, self._cut = max(generated - 1, 0), cut

    def quality(self, ways: Sequence[Way], reached: Sequence[int], stand: Stand,
                quality_of: Callable[[int], float]) -> np.ndarray:
        """Return the expected quality of each way, of which `reached` tokens in all come by the deadline.

        `quality_of`: of a whole response over so many kept entries of the prompt.
        """
        came = np.asarray(reached, dtype=float)[:, None]
        shares = np.minimum(1.0, came / self._lengths)
        worth = np.interp(shares, *zip(*self._cut, strict=True))
        now, then = quality_of(stand.n_keep), np.array([quality_of(stand.kept(way)) for way in ways])
        # Tokens that come over the present cache, of those that the client gets.
        before = np.array([np.inf if stand.kept(way) == stand.n_keep else self._written + way.after for way in ways])
        delivered = np.maximum(np.minimum(came, self._lengths), 1.0)
        early = np.minimum(1.0, before[:, None] / delivered)
        return (worth * (now * early + then[:, None] * (1.0 - early))) @ self._weights
