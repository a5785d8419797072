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

"""The time of one decode step, and of many: the planner's view of a device. No numpy, no torch.

t_i = p*N_kv + q (PAPER: ETE), with a bend where the cache outgrows a level of the memory hierarchy: beyond `knee`
entries each further one costs `bend` seconds more. Without a bend it is the paper's straight line.
"""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepTime:
    """Seconds of a decode step over N_kv cached entries; all four are non-negative."""

    p: float
    q: float
    bend: float = 0.0
    knee: int = 0  # entries

    def __call__(self, n_kv: float) -> float:
        """t_i: seconds of one step over `n_kv` entries."""
        return self.p * n_kv + self.q + self.bend * max(0.0, n_kv - self.knee)

    def scaled(self, factor: float) -> StepTime:
        """The same on a device that takes `factor` times as long."""
        return StepTime(self.p * factor, self.q * factor, self.bend * factor, self.knee)

    def decode(self, n_keep: float, n: int) -> float:
        """t_dec: seconds to decode a response of `n` tokens (token 0 comes from prefill) over `n_keep` kept entries.

        The sum over the m = n - 1 steps, where step i sees n_keep + i - 1 entries. It never falls with n or n_keep,
        rounding included.
        """
        m = max(n - 1, 0)
        seconds = m * (self.p * n_keep + self.q) + self.p * m * (m - 1) / 2
        last = n_keep + m - 1 - self.knee  # entries beyond the knee at the last step
        if self.bend and m and last > 0:
            first = max(n_keep - self.knee, last - m + 1, 0)
            seconds += self.bend * (first + last) * (last - first + 1) / 2
        return seconds
