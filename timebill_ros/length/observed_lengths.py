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
from collections import deque
from collections.abc import Sequence

import numpy as np

from timebill_ros.length.length_distribution import LengthDistribution

KEPT = 256  # responses; the oldest one is forgotten
HALF_LIFE = 64  # responses after which one counts half
PRIOR_WEIGHT = 3.0  # the prior counts as so many responses
BUCKETS = 64
ENOUGH = 5.0  # similar responses, by weight, from which on lengths count as known


class ObservedLengths:
    """Response lengths of the last goals. Memory is bounded."""

    def __init__(self):
        # Of (prompt tokens, the goal's own limit, tokens that came, whether they were all).
        self._seen: deque[tuple[int, int, int, bool]] = deque(maxlen=KEPT)

    def observe(self, prompt_tokens: int, n_goal: int, n: int, *, whole: bool) -> None:
        """Account for a response of `n` tokens that ended by itself (`whole`), or that was cut after them."""
        if prompt_tokens > 0 and n_goal > 0 and n > 0:
            self._seen.append((prompt_tokens, n_goal, n, whole))

    def _weights(self, prompt_tokens: int, n_goal: int) -> np.ndarray:
        """Return how much each response counts for a goal, from 0 to 1: by likeness, and by age."""
        seen = np.array([(x, goal) for x, goal, _, _ in self._seen], dtype=float).reshape(-1, 2)
        factors = np.log2(seen / [max(prompt_tokens, 1), max(n_goal, 1)])
        ages = np.arange(len(seen))[::-1]
        return np.exp(-0.5 * (factors ** 2).sum(axis=1)) * 0.5 ** (ages / HALF_LIFE)

    def are_known(self, prompt_tokens: int, n_goal: int) -> bool:
        """Return whether enough similar goals were seen for their lengths to say something."""
        return float(self._weights(prompt_tokens, n_goal).sum()) >= ENOUGH

    def distribution(self, prompt_tokens: int, n_goal: int) -> LengthDistribution:
        """Return the length distribution of a goal with a prompt of so many tokens and at most `n_goal` tokens.

        Before anything similar was seen, every length from 1 to `n_goal` is as likely as any other.
        """
        bucket_size = max(1, math.ceil(n_goal / BUCKETS))
        n_buckets = math.ceil(n_goal / bucket_size)
        ended, cut = np.full(n_buckets, PRIOR_WEIGHT / n_buckets), np.zeros(n_buckets)
        for (_, _, n, whole), weight in zip(self._seen, self._weights(prompt_tokens, n_goal), strict=True):
            bucket = min((n - 1) // bucket_size, n_buckets - 1)
            # A response that came to its own limit would have gone on; so it does to the limit of this goal at least.
            (ended if whole or n >= n_goal else cut)[bucket] += weight
        for bucket in np.flatnonzero(cut):
            later = ended[bucket + 1:].sum() + cut[bucket + 1:].sum()
            if later:
                ended[bucket + 1:] *= 1.0 + cut[bucket] / later
                cut[bucket + 1:] *= 1.0 + cut[bucket] / later
            else:
                ended[bucket] += cut[bucket]
        return LengthDistribution(bucket_size, ended / ended.sum())

    def state(self) -> list[Sequence[int]]:
        """Return what is worth keeping across a restart, as JSON-ready data."""
        return [[x, goal, n, int(whole)] for x, goal, n, whole in self._seen]

    def restore(self, state: Sequence[Sequence[int]]) -> None:
        """Go on from what `state` returned. ValueError or TypeError for anything else."""
        seen = [(int(x), int(goal), int(n), bool(int(whole))) for x, goal, n, whole in state]
        if any(min(x, goal, n) < 1 for x, goal, n, _ in seen):
            raise ValueError('observed lengths must be counts from 1 up')
        self._seen = deque(seen, maxlen=KEPT)
