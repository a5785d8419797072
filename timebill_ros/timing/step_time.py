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

"""The time of one decode step and of a whole response: what planning knows of decoding on a device. No numpy, no torch.

    t_i = p*N_kv + q + bend * max(0, N_kv - knee)    seconds, over N_kv cached entries

Without the last term this is the paper's straight line (PAPER: ETE). With it the line bends upwards at `knee` entries,
where the cache outgrows a level of the memory hierarchy: each entry beyond `knee` costs `bend` seconds more.
"""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepTime:
    """Coefficients of a decode step's time, all non-negative."""

    p: float  # seconds per entry
    q: float  # seconds
    bend: float = 0.0  # seconds per entry beyond the knee
    knee: int = 0  # entries

    def __call__(self, n_kv: float) -> float:
        """Return t_i: seconds of one step over `n_kv` entries."""
        return self.p * n_kv + self.q + self.bend * max(0.0, n_kv - self.knee)

    def scaled(self, factor: float) -> StepTime:
        """Return the step time of a device that takes `factor` times as long."""
        return StepTime(self.p * factor, self.q * factor, self.bend * factor, self.knee)

    def decode(self, n_keep: float, n: int) -> float:
        """Return t_dec: seconds to decode a response of `n` tokens over a prompt of which `n_keep` entries are kept.

        Token 0 comes from prefill, so there are m = n - 1 steps; step i (from 1) sees n_keep + i - 1 entries. Their
        sum is m*(p*n_keep + q) + p*m*(m - 1)/2 (PAPER: ETE, n_keep = (1 - alpha)*N_x), plus the bend's part. The
        result never falls as n or n_keep grows, not even by rounding.
        """
        m = max(n - 1, 0)
        seconds = m * (self.p * n_keep + self.q) + self.p * m * (m - 1) / 2
        last = n_keep + m - 1 - self.knee  # entries beyond the knee at the last step
        if self.bend and m and last > 0:
            first = max(n_keep - self.knee, last - m + 1, 0)
            seconds += self.bend * (first + last) * (last - first + 1) / 2
        return seconds
