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

"""Response lengths where nothing predicts them: a broad prior, replaced by what was observed of similar goals. numpy.

Similar is a goal whose prompt and whose own limit (max_new_tokens) are about as long, on a scale of factors. A response
that was cut is known to be longer than what came: its weight goes to the lengths beyond (Kaplan-Meier, by
redistribution to the right; Efron 1967).
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from timebill_ros.length.label_grid import product_limit, survival
from timebill_ros.length.length_distribution import LengthDistribution

KEPT = 256  # responses; the oldest one is forgotten
HALF_LIFE = 64  # responses after which one counts half
BUCKETS = 64
ENOUGH = 5.0  # similar responses, by weight, from which on lengths count as known
MOST_TOKENS = 1 << 31  # that a kept state may name


class ObservedLengths:
    """Response lengths of the last goals. Memory is bounded."""

    def __init__(self):
        # Of (prompt tokens, the goal's own limit, tokens that came, whether they were all); `_n` of them, oldest first.
        self._rows, self._n = np.zeros((KEPT, 4), dtype=np.int64), 0

    def observe(self, prompt_tokens: int, n_goal: int, n: int, *, whole: bool) -> None:
        """Account for a response of `n` tokens that ended by itself (`whole`), or that was cut after them."""
        if prompt_tokens > 0 and n_goal > 0 and n > 0:
            if self._n == KEPT:
                self._rows[:-1] = self._rows[1:].copy()
            self._n = min(self._n + 1, KEPT)
            self._rows[self._n - 1] = prompt_tokens, n_goal, n, whole

    def _weights(self, prompt_tokens: int, n_goal: int) -> np.ndarray:
        """Return how much each response counts for a goal, from 0 to 1: by likeness, and by age."""
        factors = np.log2(self._rows[:self._n, :2] / [max(prompt_tokens, 1), max(n_goal, 1)])
        ages = np.arange(self._n)[::-1]
        return np.exp(-0.5 * (factors ** 2).sum(axis=1)) * 0.5 ** (ages / HALF_LIFE)

    def are_known(self, prompt_tokens: int, n_goal: int) -> bool:
        """Return whether enough similar goals were seen for their lengths to say something.

        Enough of them must have come to where half have ended. Where most were cut before, the middle is the prior's.
        """
        weights = self._weights(prompt_tokens, n_goal)
        if weights.sum() < ENOUGH:
            return False
        lengths, came_so_far, goes_on = product_limit(*self._came(n_goal), weights)
        middle = lengths[goes_on <= 0.5]
        return len(middle) > 0 and bool(came_so_far[lengths == middle[0]][0] >= ENOUGH / 2)

    def _came(self, n_goal: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the lengths, at most `n_goal`, and whether each ended by then.

        A response that came to its own limit would have gone on; so it does to the limit of this goal at least.
        """
        lengths = np.minimum(self._rows[:self._n, 2], n_goal)
        return lengths, (self._rows[:self._n, 3] != 0) | (lengths >= n_goal)

    def distribution(self, prompt_tokens: int, n_goal: int) -> LengthDistribution:
        """Return the length distribution of a goal with a prompt of so many tokens and at most `n_goal` tokens.

        Before anything similar was seen, every length from 1 to `n_goal` is as likely as any other.
        """
        bucket_size = max(1, math.ceil(n_goal / BUCKETS))
        n_buckets = math.ceil(n_goal / bucket_size)
        edges = np.arange(1, n_buckets + 1) * bucket_size
        goes_on = survival(*self._came(n_goal), self._weights(prompt_tokens, n_goal), edges)
        return LengthDistribution(bucket_size, -np.diff(goes_on, prepend=1.0))

    def state(self) -> list[Sequence[int]]:
        """Return what is worth keeping across a restart, as JSON-ready data."""
        return self._rows[:self._n].tolist()

    def restore(self, state: Sequence[Sequence[int]]) -> None:
        """Go on from what `state` returned. ValueError or TypeError for anything else."""
        seen = [(int(x), int(goal), int(n), bool(int(whole))) for x, goal, n, whole in state][-KEPT:]
        if any(not 1 <= count <= MOST_TOKENS for row in seen for count in row[:3]):
            raise ValueError(f'observed lengths must be counts from 1 to {MOST_TOKENS}')
        self._rows[:len(seen)], self._n = np.array(seen, dtype=np.int64).reshape(-1, 4), len(seen)
